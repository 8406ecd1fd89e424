"""What a task is: a chat that ends with a question, and how its answer is recognised."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, TypedDict


class Message(TypedDict):
    """One turn as a chat client writes it; role is "user" or "assistant"."""

    role: str
    content: str


class Kind(StrEnum):
    """The kinds of tasks; all but small talk are graded."""

    ARITHMETIC = "arithmetic"
    COMPARISON = "comparison"
    SORTING = "sorting"
    SPELLING = "spelling"
    REVERSAL = "reversal"
    COUNTING = "counting"
    DATES = "dates"
    UNITS = "units"
    FACTS = "facts"
    JSON = "json"
    FOLLOWUP = "followup"
    CHITCHAT = "chitchat"


class Extract(StrEnum):
    """Where in an answer the value stands; `grade.py` says how each is read."""

    LAST_NUMBER = "last_number"
    FIRST_NUMBER = "first_number"
    NUMBERS = "numbers"
    QUOTED = "quoted"
    SPELLED = "spelled"
    LAST_NAME = "last_name"
    JSON = "json"
    TEXT = "text"


Split = Literal["train", "eval"]
GRADED: Final[tuple[Kind, ...]] = tuple(kind for kind in Kind if kind is not Kind.CHITCHAT)
LEVELS: Final[tuple[int, ...]] = (1, 2, 3)
EVAL_SHARE_OF_256: Final = 26  # one task content in ten is never trained on


@dataclass(frozen=True, slots=True)
class Task:
    """A question, its reference answer and what grading needs.

    `keys` name the content whatever the phrasing: keys[0] is the task's own, the rest are facts met on the way.
    """

    kind: Kind
    level: int
    messages: tuple[Message, ...]
    answer: str
    extract: Extract
    expect: str
    keys: tuple[str, ...]


def ask(kind: Kind, level: int, question: str, answer: str, extract: Extract, expect: str, key: str) -> Task:
    """A task of one turn."""
    messages: tuple[Message, ...] = ({"role": "user", "content": question},)
    return Task(kind, level, messages, answer, extract, expect, (f"{kind}:{key}",))


def held_out(key: str) -> bool:
    """Whether a content key belongs to the eval split; a hash, so the split needs no list."""
    return hashlib.sha256(key.encode()).digest()[0] < EVAL_SHARE_OF_256


def belongs(task: Task, split: Split) -> bool:
    """Eval tasks have a held-out content; a training task contains nothing that is held out."""
    if split == "eval":
        return held_out(task.keys[0])
    return not any(held_out(key) for key in task.keys)
