"""Arithmetic, comparison and sorting."""

from random import Random

from model.family.tasks.task import Extract, Kind, Task, ask

SUM = (
    "What is {a} + {b}?",
    "What is {a} plus {b}?",
    "Calculate {a} + {b}.",
    "How much is {a} + {b}?",
    "Add {a} and {b}.",
    "{a} + {b}",
    "{a}+{b}=?",
    "What is {a}+{b}?",
)
DIFFERENCE = (
    "What is {a} - {b}?",
    "What is {a} minus {b}?",
    "Calculate {a} - {b}.",
    "How much is {a} - {b}?",
    "Subtract {b} from {a}.",
    "{a} - {b}",
    "{a}-{b}=?",
    "What is {a}-{b}?",
)
LARGER = (
    "Which is larger, {a} or {b}?",
    "Which number is larger, {a} or {b}?",
    "Which is bigger: {a} or {b}?",
    "Is {a} or {b} the larger number?",
)
SMALLER = (
    "Which is smaller, {a} or {b}?",
    "Which number is smaller, {a} or {b}?",
    "Which is less: {a} or {b}?",
    "Is {a} or {b} the smaller number?",
)
EXTREME = ("Which is the {word}: {list}?", "Which of {list} is the {word}?", "What is the {word} of {list}?")
ASCENDING = (
    "Sort {list} from small to large.",
    "Sort {list} in ascending order.",
    "Sort these numbers: {list}.",
    "Put {list} in order.",
)
DESCENDING = ("Sort {list} from large to small.", "Sort {list} in descending order.")


def arithmetic(rng: Random, level: int) -> Task:
    """Sums and differences, never below zero: up to 2+1, 2+2 and 3+3 digits."""
    low, high = ((0, 99), (10, 99), (100, 999))[level - 1]
    a, b = rng.randint(low, high), rng.randint(*((0, 9), (10, 99), (10, 999))[level - 1])
    if rng.random() < 0.5:
        if rng.random() < 0.5:
            a, b = b, a
        question, value, sign = rng.choice(SUM).format(a=a, b=b), a + b, "+"
        key = f"{min(a, b)}+{max(a, b)}"
    else:
        a, b = max(a, b), min(a, b)
        question, value, sign = rng.choice(DIFFERENCE).format(a=a, b=b), a - b, "-"
        key = f"{a}-{b}"
    return ask(Kind.ARITHMETIC, level, question, f"{a} {sign} {b} is {value}.", Extract.LAST_NUMBER, str(value), key)


def _spelled_list(numbers: list[int], last: str) -> str:
    return ", ".join(map(str, numbers[:-1])) + f" {last} {numbers[-1]}"


def comparison(rng: Random, level: int) -> Task:
    """The larger or smaller of two numbers, or of three at level 3."""
    larger = rng.random() < 0.5
    if level < 3:
        digits = rng.choice((1, 2, 2) if level == 1 else (3, 3, 4))
        a = rng.randint(10 ** (digits - 1), 10**digits - 1)
        b = a
        while b == a:
            near = rng.random() < 0.5
            b = a + rng.randint(-20, 20) if near else rng.randint(1, 99 if level == 1 else 9999)
            b = abs(b)
        word = "larger" if larger else "smaller"
        value = max(a, b) if larger else min(a, b)
        question = rng.choice(LARGER if larger else SMALLER).format(a=a, b=b)
        answer = rng.choice((f"{value} is {word}.", f"The {word} number is {value}."))
        key = f"{min(a, b)},{max(a, b)}"
    else:
        base = rng.randint(100, 999)
        numbers = [base, *rng.sample(sorted({*range(max(1, base - 30), base), *range(base + 1, base + 30)}), 2)]
        if rng.random() < 0.5:
            numbers[2] = next(n for n in iter(lambda: rng.randint(1, 9999), None) if n not in numbers)
        rng.shuffle(numbers)
        word = rng.choice(("largest", "biggest") if larger else ("smallest",))
        value = max(numbers) if larger else min(numbers)
        phrase = rng.choice(EXTREME)
        question = phrase.format(
            word=word, list=_spelled_list(numbers, "or" if phrase.startswith("Which is") else "and")
        )
        answer = rng.choice((f"{value} is the {word}.", f"The {word} number is {value}."))
        key = ",".join(map(str, sorted(numbers)))
    return ask(Kind.COMPARISON, level, question, answer, Extract.FIRST_NUMBER, str(value), key)


def sorting(rng: Random, level: int) -> Task:
    """Three, four or five numbers into ascending or descending order."""
    count, high = ((3, 50), (4, 99), (5, 400))[level - 1]
    numbers = rng.sample(range(1, high + 1), count)
    descending = rng.random() < 0.4
    last = rng.choice(("and", ","))
    listed = _spelled_list(numbers, "and") if last == "and" else ", ".join(map(str, numbers))
    question = rng.choice(DESCENDING if descending else ASCENDING).format(list=listed)
    result = ", ".join(map(str, sorted(numbers, reverse=descending)))
    return ask(
        Kind.SORTING,
        level,
        question,
        f"In order: {result}.",
        Extract.NUMBERS,
        result.replace(" ", ""),
        ",".join(map(str, sorted(numbers))),
    )
