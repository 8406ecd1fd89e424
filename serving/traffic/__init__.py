"""Prompts of the operator's own traffic, kept for calibration: off unless switched on, for a while, and never answers.

`sampling` offers requests to a writer, `store` keeps them in one SQLite file, `tables` says in which shape.
"""
