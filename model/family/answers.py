"""Answers of a model in this process: greedy, batched, by transformers' own generate."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from transformers import Gemma2ForCausalLM

from model.family.checkpoint import load_model
from model.family.corpus import Encoder
from model.family.evaluate import Result, ScoreTable, evaluation_tasks, score_table
from model.family.tasks.task import Message, Task
from model.family.vocabulary import END_OF_TURN, EOS, PAD

BATCH: Final = 64
LONGEST_ANSWER_TOKENS: Final = 48  # the longest reference answer has about 40


def generated(
    model: Gemma2ForCausalLM, tokenizer: Tokenizer, chats: Sequence[Sequence[Message]], max_tokens: int, **more: bool
) -> Iterator[tuple[list[int], Any, int]]:
    """Greedy answers in batches: places of the chats, what `generate` returned, the prompts' width.

    `more` are further options of `generate`.
    """
    encoder = Encoder(tokenizer)
    prompts = [encoder.prompt(chat) for chat in chats]
    order = sorted(range(len(chats)), key=lambda index: len(prompts[index]))  # similar lengths together, little padding
    model.eval()
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        width = max(len(prompts[index]) for index in chosen)
        ids = torch.tensor([[PAD] * (width - len(prompts[index])) + prompts[index] for index in chosen])  # [B, L]
        mask = torch.tensor([[0] * (width - len(prompts[index])) + [1] * len(prompts[index]) for index in chosen])
        with torch.no_grad():
            out = model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=max_tokens,
                do_sample=False,
                eos_token_id=[EOS, END_OF_TURN],
                pad_token_id=PAD,
                return_dict_in_generate=True,
                **more,
            )  # sequences [B, L + new]
        yield chosen, out, width


def answer_chats(
    model: Gemma2ForCausalLM, tokenizer: Tokenizer, chats: Sequence[Sequence[Message]], max_tokens: int
) -> list[str]:
    """The greedy answer to each chat that waits for one, in the order asked."""
    answers = [""] * len(chats)
    for chosen, out, width in generated(model, tokenizer, chats, max_tokens):
        for index, made in zip(chosen, out.sequences[:, width:].tolist(), strict=True):
            kept = [token for token in made if token not in (PAD, EOS, END_OF_TURN)]
            answers[index] = tokenizer.decode(kept, skip_special_tokens=True)
    return answers


def answer_tasks(model: Gemma2ForCausalLM, tokenizer: Tokenizer, tasks: Sequence[Task]) -> list[Result]:
    """Each task with its greedy answer, in the order asked."""
    answers = answer_chats(model, tokenizer, [task.messages for task in tasks], LONGEST_ANSWER_TOKENS)
    return [Result(task, answer) for task, answer in zip(tasks, answers, strict=True)]


def evaluate_folder(folder: Path, num_tasks: int, seed: int) -> ScoreTable:
    """The score of a checkpoint folder on unseen tasks, its bf16 weights computed with in fp32."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return score_table(answer_tasks(load_model(folder), tokenizer, evaluation_tasks(num_tasks, seed)))
