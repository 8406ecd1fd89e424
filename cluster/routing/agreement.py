"""Would the largest size have said this? Labels for prompts that nobody graded, from how it reads the others' answers.

A profile promises a share of the largest size's quality. So its own answers count as right, and a smaller size's answer
does when the largest, reading it token by token, nowhere finds one that it thinks much less likely than its own choice.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cluster.routing.labels import MIN_ROWS, Labels, LabelsError
from model.config import END_OF_TURN_ID, STOP_IDS, Size

MARGIN: Final = 1.0
"""Nats, a factor of e. Against true grades, best between 0.9 and 1.2 (benchmarks/agreement.py, docs/routing.md)."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One size's answer. `regret` as the largest size reads it, 0 for that size itself."""

    output_tokens: int
    ended: bool  # by itself, not for want of tokens
    regret: float


@dataclass(frozen=True, slots=True)
class Compared:
    """One prompt and every size's answer. `group` is counted in the profile, so it must not quote."""

    text: str
    prompt_tokens: int
    group: str
    heard: Mapping[Size, Heard]


def closed(token_ids: Sequence[int], ended: bool) -> tuple[int, ...]:
    """An answer with the end of its turn, which is a choice of the model like any other."""
    if not ended or (token_ids and token_ids[-1] in STOP_IDS):
        return tuple(token_ids)
    return (*token_ids, END_OF_TURN_ID)


def regret(logprobs: Sequence[float], best: Sequence[float]) -> float:
    """How much less likely than the likeliest the worst token of an answer is, in nats; 0 for an empty one.

    Both are of the same reader: `logprobs` of the tokens that were written, `best` of the likeliest at their places.
    """
    return max((likeliest - written for written, likeliest in zip(logprobs, best, strict=True)), default=0.0)


def agrees(answer: Heard, own: Heard, margin: float = MARGIN) -> bool:
    """Whether the largest size could have given this answer. One that runs on where its own ended could not."""
    return answer.regret <= margin and (answer.ended or not own.ended)


def labels_of(compared: Sequence[Compared], sizes: tuple[Size, ...], margin: float = MARGIN) -> Labels:
    """Labels as a file of grades would give them, `sizes` from the smallest on. Raises `LabelsError` for too few."""
    if len(compared) < MIN_ROWS:
        raise LabelsError(f"{len(compared)} prompts are too few to learn from; at least {MIN_ROWS} are needed")
    largest = sizes[-1]
    right = np.array(
        [[agrees(each.heard[size], each.heard[largest], margin) for size in sizes] for each in compared], np.float64
    )
    right[:, -1] = 1.0
    tokens = np.array([[each.heard[size].output_tokens for size in sizes] for each in compared], np.float64)
    texts = tuple(each.text for each in compared)
    return Labels(
        sizes=sizes,
        prompts=texts,
        prompt_tokens=np.array([each.prompt_tokens for each in compared], np.float64),
        right=right,
        output_tokens=tokens,
        groups=tuple(each.group for each in compared),
        sha256=hashlib.sha256(json.dumps([texts, right.tolist(), tokens.tolist()]).encode()).hexdigest(),
    )
