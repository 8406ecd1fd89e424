"""Tasks and training chats from a seed, kept apart by the split of their content."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from model.family.tasks import calendar, chitchat, facts, followup, letters, numbers, records, units
from model.family.tasks.task import GRADED, LEVELS, Kind, Message, Split, Task, belongs

MAKERS: Final[dict[Kind, Callable[[Random, int], Task]]] = {
    Kind.ARITHMETIC: numbers.arithmetic,
    Kind.COMPARISON: numbers.comparison,
    Kind.SORTING: numbers.sorting,
    Kind.SPELLING: letters.spelling,
    Kind.REVERSAL: letters.reversal,
    Kind.COUNTING: letters.counting,
    Kind.DATES: calendar.dates,
    Kind.UNITS: units.units,
    Kind.FACTS: facts.facts,
    Kind.JSON: records.extraction,
    Kind.CHITCHAT: chitchat.chitchat,
}
# Short tasks only: what stands between a fact and the question about it should not be the lesson.
DISTRACTIONS: Final = (Kind.ARITHMETIC, Kind.COMPARISON, Kind.SPELLING, Kind.DATES, Kind.FACTS)
# What is learned last gets more rows; shares chosen from early held-out scores, not tuned further.
WEIGHTS: Final[dict[Kind, float]] = {
    Kind.ARITHMETIC: 2.2,
    Kind.COMPARISON: 0.8,
    Kind.SORTING: 1.2,
    Kind.SPELLING: 0.6,
    Kind.REVERSAL: 1.2,
    Kind.COUNTING: 1.5,
    Kind.DATES: 1.2,
    Kind.UNITS: 1.2,
    Kind.FACTS: 0.6,
    Kind.JSON: 1.0,
    Kind.FOLLOWUP: 1.2,
    Kind.CHITCHAT: 0.25,
}


def draw(rng: Random, kind: Kind, level: int, split: Split) -> Task:
    """A task of this kind and level whose content belongs to the split."""

    def distract(inner: Random) -> Task:
        return draw(inner, inner.choice(DISTRACTIONS), 1, "train")

    while True:
        task = followup.followup(rng, level, distract) if kind is Kind.FOLLOWUP else MAKERS[kind](rng, level)
        if kind is Kind.CHITCHAT or belongs(task, split):
            return task


def training_chat(rng: Random) -> tuple[Message, ...]:
    """One conversation to learn from: a task, or in a quarter of rows several unrelated ones in a row."""
    num_tasks = rng.choice((2, 2, 3, 3, 4, 6)) if rng.random() < 0.25 else 1
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    turns: list[Message] = []
    for kind in rng.choices(kinds, weights, k=num_tasks):
        if kind is Kind.FOLLOWUP and turns:
            kind = Kind.JSON  # a follow-up brings turns of its own; two in a chat could contradict each other
        task = draw(rng, kind, rng.choices(LEVELS, (3, 3, 4))[0], "train")
        turns += [*task.messages, {"role": "assistant", "content": task.answer}]
    if rng.random() < 0.06:
        turns[0] = {"role": "user", "content": f"{rng.choice(chitchat.SYSTEM_TEXTS)}\n\n{turns[0]['content']}"}
    return tuple(turns)


def training_chats(seed: int) -> Iterator[tuple[Message, ...]]:
    """Endless conversations of the training split."""
    rng = Random(seed)
    while True:
        yield training_chat(rng)


def evaluation_tasks(num_tasks: int, seed: int) -> list[Task]:
    """Unseen tasks, balanced over kinds and levels; the same seed gives the same list."""
    rng = Random(seed)
    cells = [(kind, level) for level in LEVELS for kind in GRADED]
    return [draw(rng, *cells[index % len(cells)], "eval") for index in range(num_tasks)]
