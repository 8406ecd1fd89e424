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


def _count(names: tuple[str, ...], start: int, n: int, sign: int, unit: str) -> str:
    """The answer, worked out aloud: whole weeks change nothing, the rest is counted name by name.

    A bare answer was tried first and not learned at all in 3,500 steps of nano-27b (2026-11-24): arithmetic modulo 7
    and 12 has no first step that a small model could find. The successor of a name it learns at once.
    """
    weeks, rest = divmod(n, 7) if unit == "day" else (0, n)
    path = [names[(start + sign * step) % len(names)] for step in range(1, rest + 1)]
    back = "" if sign > 0 else "back "
    said = f"{back}from {names[start]}: {', '.join(path)}. " if rest > 1 else ""
    if weeks:
        begin = f"{n} days are {weeks} {'week' if weeks == 1 else 'weeks'}"
        end = f" and {rest} {'day' if rest == 1 else 'days'}" if rest else ""
        said = f"{begin}{end}, {said}" if said else f"{begin}{end}. "
    elif said:
        said = said[0].upper() + said[1:]
    return f"{said}It is {names[(start + sign * n) % len(names)]}."


def dates(rng: Random, level: int) -> Task:
    """The weekday or month some steps away: up to 3, up to 9 days (5 months), up to 30 days (9 months)."""
    use_days = rng.random() < 0.6
    unit, names = ("day", DAYS) if use_days else ("month", MONTHS)
    side, sign = rng.choice((("after", 1), ("before", -1)))
    start = rng.randrange(len(names))
    low, high = ((1, 3), (3, 9 if use_days else 5), (10 if use_days else 6, 30 if use_days else 9))[level - 1]
    n = rng.randint(low, high)
    phrase = rng.choice(NEXT if n == 1 else STEPS)
    question = phrase.format(unit=unit, side=side, name=names[start], n=n)
    value = names[(start + sign * n) % len(names)]
    # So few contents exist that at level 1 the phrasing is part of the key; above it is not.
    key = question if level == 1 else f"{n} {unit} {side} {names[start]}"
    answer = _count(names, start, n, sign, unit)
    return ask(Kind.DATES, level, question, answer, Extract.LAST_NAME, value, key)
