"""Dates: weekdays and months before and after."""

from random import Random
from typing import Final

from model.family.tasks.task import Extract, Kind, Task, ask

DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS: Final = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
NEXT = ("Which {unit} comes {side} {name}?", "What {unit} comes {side} {name}?", "Which {unit} is right {side} {name}?")
STEPS = (
    "Which {unit} is {n} {unit}s {side} {name}?",
    "What {unit} is it {n} {unit}s {side} {name}?",
    "What {unit} comes {n} {unit}s {side} {name}?",
)


def dates(rng: Random, level: int) -> Task:
    """The weekday or month some steps away: up to 3, up to 9, up to 30 days (11 months)."""
    use_days = rng.random() < 0.6
    unit, names = ("day", DAYS) if use_days else ("month", MONTHS)
    side = rng.choice(("after", "before"))
    start = rng.randrange(len(names))
    low, high = ((1, 3), (3, 9 if use_days else 6), (10 if use_days else 5, 30 if use_days else 11))[level - 1]
    n = rng.randint(low, high)
    value = names[(start + n * (1 if side == "after" else -1)) % len(names)]
    phrase = rng.choice(NEXT if n == 1 else STEPS)
    question = phrase.format(unit=unit, side=side, name=names[start], n=n)
    # So few contents exist that at level 1 the phrasing is part of the key; above it is not.
    key = question if level == 1 else f"{n} {unit} {side} {names[start]}"
    return ask(
        Kind.DATES, level, question, rng.choice((f"It is {value}.", f"That is {value}.")), Extract.LAST_NAME, value, key
    )
