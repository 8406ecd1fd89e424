"""Made-up prompts whose difficulty can be read off their text: eight kinds of task, each a step harder."""

import csv
import random
from math import exp
from pathlib import Path

KINDS = ("sum", "rhyme", "recipe", "riddle", "puzzle", "integral", "theorem", "conjecture")
STRENGTH = {"2b": 2.0, "9b": 4.5, "27b": 6.5}  # hardest step at which a size is right half the time


def chance(size: str, kind: str) -> float:
    return 1 / (1 + exp(KINDS.index(kind) - STRENGTH[size]))


def rows(count: int, seed: int) -> list[dict[str, str]]:
    rng = random.Random(seed)
    made = []
    for number in range(count):
        kind = rng.choice(KINDS)
        opening = rng.choice(["Please solve", "Can you work out", "I need", "Explain in short"])
        question = f"{opening} this {kind} about {rng.choice(['apples', 'trains', 'chess', 'rain'])}, number {number}."
        row = {"dataset": "made up", "id": f"p{number}", "question": question, "prompt_tokens": "30", "kind": kind}
        for size in STRENGTH:
            row[f"correct_{size}"] = str(int(rng.random() < chance(size, kind)))
            row[f"out_tokens_{size}"] = str(int(20 * 1.5 ** KINDS.index(kind) * rng.uniform(0.5, 1.5)))
        made.append(row)
    return made


def write(path: Path, made: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, made[0].keys())
        writer.writeheader()
        writer.writerows(made)
    return path
