"""Conversions of units: by tens, by other factors, and of two units at once."""

from random import Random

from model.family.tasks.task import Extract, Kind, Task, ask

TENS = (
    ("metres", "centimetres", 100),
    ("kilometres", "metres", 1000),
    ("kilograms", "grams", 1000),
    ("centimetres", "millimetres", 10),
)
OTHERS = (
    ("hours", "minutes", 60),
    ("weeks", "days", 7),
    ("days", "hours", 24),
    ("minutes", "seconds", 60),
    ("feet", "inches", 12),
    ("years", "months", 12),
)
MIXED = (("hours", "minutes", 60), ("metres", "centimetres", 100), ("weeks", "days", 7), ("feet", "inches", 12))
ONE = (
    "How many {small} are {n} {big}?",
    "Convert {n} {big} to {small}.",
    "What is {n} {big} in {small}?",
    "How many {small} are in {n} {big}?",
)
TWO = ("How many {small} are {n} {big} and {m} {small}?", "Convert {n} {big} and {m} {small} to {small}.")


def units(rng: Random, level: int) -> Task:
    """Whole numbers only, to the smaller unit."""
    if level == 3:
        big, small, factor = rng.choice(MIXED)
        n, m = rng.randint(2, 9), rng.randint(2, factor - 1)
        question, value = rng.choice(TWO).format(n=n, big=big, m=m, small=small), n * factor + m
        key = f"{n} {big} {m} {small}"
    else:
        big, small, factor = rng.choice(TENS if level == 1 else OTHERS)
        n = rng.randint(2, 99 if level == 1 else 12)
        question, value = rng.choice(ONE).format(n=n, big=big, small=small), n * factor
        key = f"{n} {big} {small}" if level == 1 else question
    return ask(Kind.UNITS, level, question, f"That is {value} {small}.", Extract.LAST_NUMBER, str(value), key)
