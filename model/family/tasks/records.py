"""JSON extraction: one field, one of several fields, and a smaller object."""

import json
from random import Random
from typing import Final

from model.family.tasks.facts import COUNTRIES
from model.family.tasks.task import Extract, Kind, Task, ask

NAMES: Final = (
    "Ann",
    "Ben",
    "Cleo",
    "Dan",
    "Eva",
    "Finn",
    "Gina",
    "Hugo",
    "Ida",
    "Jack",
    "Kim",
    "Leo",
    "Mia",
    "Nora",
    "Omar",
    "Paul",
    "Rosa",
    "Sam",
    "Tina",
    "Zoe",
)
CITIES: Final = tuple(capital for _, capital, _ in COUNTRIES)
ONE = ("What is the {k} in {o}?", "{o} What is the {k}?", "Read the {k} from {o}", "Give me the {k} in {o}")
SOME = ("From {o} keep only {k} and {l}.", "Keep only {k} and {l}: {o}", "{o} Give me {k} and {l} as JSON.")
MAKE = (
    "{n} is {a} years old and lives in {c}. Give me {k} and {l} as JSON.",
    "Write {k} and {l} as JSON: {n} is {a} years old and lives in {c}.",
)


def record(rng: Random, num_fields: int) -> dict[str, str | int]:
    """An object about a person with so many fields, in any order."""
    fields: list[tuple[str, str | int]] = [
        ("name", rng.choice(NAMES)),
        ("age", rng.randint(10, 99)),
        ("city", rng.choice(CITIES)),
        ("id", rng.randint(100, 999)),
        ("friend", rng.choice(NAMES)),
    ]
    return dict(rng.sample(fields, num_fields))


def extraction(rng: Random, level: int) -> Task:
    """Level 1 reads a field of two, 2 one of four, 3 keeps two fields of an object or makes them from a sentence."""
    made = record(rng, 2 if level == 1 else 4)
    key = "|".join(f"{name}={value}" for name, value in sorted(made.items()))
    if level == 3:
        if rng.random() < 0.4:
            facts: dict[str, str | int] = {
                "name": rng.choice(NAMES),
                "age": rng.randint(10, 99),
                "city": rng.choice(CITIES),
            }
            first, second = rng.sample(sorted(facts), 2)
            value = json.dumps({first: facts[first], second: facts[second]})
            question = rng.choice(MAKE).format(n=facts["name"], a=facts["age"], c=facts["city"], k=first, l=second)
            return ask(Kind.JSON, level, question, value, Extract.JSON, value, "|".join(map(str, facts.values())))
        first, second = rng.sample(sorted(made), 2)
        value = json.dumps({first: made[first], second: made[second]})
        question = rng.choice(SOME).format(k=first, l=second, o=json.dumps(made))
        return ask(Kind.JSON, level, question, value, Extract.JSON, value, key)
    k = rng.choice(sorted(made))
    question = rng.choice(ONE).format(k=k, o=json.dumps(made))
    extract = Extract.LAST_NUMBER if isinstance(made[k], int) else Extract.LAST_NAME
    return ask(Kind.JSON, level, question, f"The {k} is {made[k]}.", extract, str(made[k]), key)
