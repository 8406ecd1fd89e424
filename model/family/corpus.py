"""Chats -> rows of token ids with a mask of the answers, batched by length so that little is padding."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Final

import torch
from tokenizers import Tokenizer
from torch import Tensor

from model.family.tasks.generator import training_chats
from model.family.tasks.task import Message
from model.family.vocabulary import BOS, END_OF_TURN, START_OF_TURN

# B rows in the batch, L tokens in the longest of them
WIDTH_STEP: Final = 8  # widths are multiples of this: fewer shapes for the compiler and the allocator
IGNORED: Final = -100


@dataclass(frozen=True, slots=True)
class Row:
    """One chat, ready to learn from."""

    ids: list[int]
    targets: list[int]  # the next token where it belongs to an answer, else IGNORED


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of similar length."""

    ids: Tensor  # [B, L] int64, right-padded with 0
    targets: Tensor  # [B, L] int64, IGNORED where there is nothing to learn


class Encoder:
    """Turns chats into rows exactly as the chat template would, `<start_of_turn>` in a user's text staying text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._tokenizer.encode_special_tokens = True

    def _text(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a chat that waits for the model's answer."""
        ids = [BOS]
        for message in messages:
            role = "model" if message["role"] == "assistant" else "user"
            ids += [START_OF_TURN, *self._text(f"{role}\n{message['content'].strip()}"), END_OF_TURN, *self._text("\n")]
        return [*ids, START_OF_TURN, *self._text("model\n")]

    def row(self, messages: Sequence[Message]) -> Row:
        """A whole chat with every answer as a target, its `<end_of_turn>` included."""
        ids, wanted = [BOS], [False]
        for message in messages:
            answer = message["role"] == "assistant"
            head = [START_OF_TURN, *self._text("model\n" if answer else "user\n")]
            body = [*self._text(message["content"].strip()), END_OF_TURN]
            tail = self._text("\n")
            ids += [*head, *body, *tail]
            wanted += [False] * len(head) + [answer] * len(body) + [False] * len(tail)
        ids, wanted = ids[:-1], wanted[:-1]  # nothing follows the last <end_of_turn>
        targets = [ids[i + 1] if wanted[i + 1] else IGNORED for i in range(len(ids) - 1)]
        return Row(ids[:-1], targets)


def collate(rows: Sequence[Row]) -> Batch:
    """Right-pads rows to one width."""
    width = -(-max(len(row.ids) for row in rows) // WIDTH_STEP) * WIDTH_STEP
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    targets = torch.full((len(rows), width), IGNORED, dtype=torch.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        targets[index, : len(row.ids)] = torch.tensor(row.targets)
    return Batch(ids, targets)


def batches(rows: Iterable[Row], tokens: int, seed: int, pool_rows: int = 4096) -> Iterator[Batch]:
    """Batches of about `tokens` padded tokens; rows of similar length together, batches in random order.

    Rows are pooled, sorted by length, cut, shuffled: a pool's batches come out before the next pool is read.
    """
    rng, source = Random(seed), iter(rows)
    while pool := sorted(islice(source, pool_rows), key=lambda row: len(row.ids)):
        cut: list[list[Row]] = [[]]
        for row in pool:
            width = -(-len(row.ids) // WIDTH_STEP) * WIDTH_STEP
            if cut[-1] and (len(cut[-1]) + 1) * width > tokens:
                cut.append([])
            cut[-1].append(row)
        rng.shuffle(cut)
        yield from (collate(chunk) for chunk in cut)


def read_chats(*sources: str) -> Callable[[int], Iterator[Sequence[Message]]]:
    """Where a run's chats come from, as a function of its seed.

    `tasks:<seed>` generates fresh chats without end, and stands alone. `tasks:<seed>:<count>` generates so many, a path
    reads a JSONL of objects with `messages`; chats that are counted are joined, and come back in a new order every
    epoch. Raises ValueError.
    """
    endless = [source for source in sources if source.startswith("tasks:") and source.count(":") == 1]
    if endless and len(sources) == 1:
        return lambda seed: training_chats(_generator(sources[0]) + seed)
    if endless:
        raise ValueError(f"data: {endless[0]} has no end and cannot be mixed; write {endless[0]}:COUNT")
    chats = [chat for source in sources for chat in counted_chats(source)]

    def epochs(seed: int) -> Iterator[Sequence[Message]]:
        rng = Random(seed)
        while True:
            yield from rng.sample(chats, len(chats))

    return epochs


def counted_chats(source: str) -> list[Sequence[Message]]:
    """All chats of a source that has an end; raises ValueError when it has none."""
    if source.startswith("tasks:"):
        chats: list[Sequence[Message]] = list(islice(training_chats(_generator(source)), int(source.split(":")[2])))
    else:
        chats = [json.loads(line)["messages"] for line in Path(source).read_text().splitlines() if line.strip()]
    if not chats:
        raise ValueError(f"data: {source} holds no chats; write one JSON object with `messages` a line")
    return chats


def _generator(source: str) -> int:
    return int(source.split(":")[1]) * 1_000_003
