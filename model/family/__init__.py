"""The embedded family: three stand-ins of the true Gemma 2 architecture at toy width.

tasks/ what they are asked · tokenizer.py how text becomes ids · sizes.py their shapes · corpus.py rows to train on ·
optimize.py the training loop · train.py the teacher · distill.py the students · evaluate.py the score ·
checkpoint.py the folders that are committed.
"""
