"""Follow-up turns: questions that only the turns before can answer."""

from collections.abc import Callable
from random import Random

from model.family.tasks import numbers
from model.family.tasks.facts import COUNTRIES
from model.family.tasks.records import CITIES, NAMES
from model.family.tasks.task import Extract, Kind, Message, Task

ADD = ("Now add {n}.", "Add {n} to that.", "And plus {n}?", "Plus {n}?")
TAKE = ("Now subtract {n}.", "Subtract {n} from that.", "And minus {n}?", "Minus {n}?")
HELLO = ("My name is {n}.", "I am {n}.", "Hello, I am {n}.", "Hi, my name is {n}.")
NAME = ("What is my name?", "Do you remember my name?", "Tell me my name.")
Distract = Callable[[Random], Task]


def _turns(*texts: str) -> tuple[Message, ...]:
    return tuple({"role": "user" if i % 2 == 0 else "assistant", "content": text} for i, text in enumerate(texts))


def _running_sum(rng: Random, level: int) -> Task:
    first = numbers.arithmetic(rng, 1 if level == 1 else 2)
    start = int(first.expect)
    n = rng.randint(1, 9) if level == 1 else rng.randint(10, 99)
    if rng.random() < 0.5 and n <= start:
        question, value, sign, key = rng.choice(TAKE).format(n=n), start - n, "-", f"{start}-{n}"
    else:
        question, value, sign = rng.choice(ADD).format(n=n), start + n, "+"
        key = f"{min(start, n)}+{max(start, n)}"
    messages = _turns(first.messages[0]["content"], first.answer, question)
    return Task(
        Kind.FOLLOWUP,
        level,
        messages,
        f"{start} {sign} {n} is {value}.",
        Extract.LAST_NUMBER,
        str(value),
        (f"followup:{first.keys[0]}{sign}{n}", first.keys[0], f"{Kind.ARITHMETIC}:{key}"),
    )


def _name(rng: Random, level: int, distract: Distract) -> Task:
    name, city = rng.choice(NAMES), rng.choice(CITIES)
    asks_city = level == 3 and rng.random() < 0.5
    hello = rng.choice(HELLO).format(n=name) + (f" I live in {city}." if level == 3 else "")
    texts, keys, told = [hello, f"Nice to meet you, {name}!"], [], [hello]
    for _ in range(level - 1):
        other = distract(rng)
        texts += [other.messages[-1]["content"], other.answer]
        keys.append(other.keys[0])
        told.append(texts[-2])
    question = rng.choice(("Where do I live?", "In which city do I live?")) if asks_city else rng.choice(NAME)
    answer, value = (f"You live in {city}.", city) if asks_city else (f"Your name is {name}.", name)
    return Task(
        Kind.FOLLOWUP,
        level,
        _turns(*texts, question),
        answer,
        Extract.LAST_NAME,
        value,
        ("followup:" + "|".join((*told, question)), *keys),
    )


def _order(rng: Random, level: int) -> Task:
    first = numbers.sorting(rng, 1 if level == 2 else 2)
    values = [int(text) for text in first.expect.split(",")]
    word = rng.choice(("largest", "smallest"))
    value = str(max(values) if word == "largest" else min(values))
    messages = _turns(first.messages[0]["content"], first.answer, f"Which of them is the {word}?")
    return Task(
        Kind.FOLLOWUP,
        level,
        messages,
        f"{value} is the {word}.",
        Extract.FIRST_NUMBER,
        value,
        (f"followup:{word}:{first.keys[0]}", first.keys[0]),
    )


def _country(rng: Random, level: int) -> Task:
    (country, capital, _), (other, other_capital, _) = rng.sample(COUNTRIES, 2)
    texts = (f"What is the capital of {country}?", f"The capital of {country} is {capital}.", f"And of {other}?")
    return Task(
        Kind.FOLLOWUP,
        level,
        _turns(*texts),
        f"The capital of {other} is {other_capital}.",
        Extract.LAST_NAME,
        other_capital,
        (f"followup:{country}:{other}",),
    )


def followup(rng: Random, level: int, distract: Distract) -> Task:
    """A running sum, a name told earlier, a sorted list or a second country; more turns in between at higher levels."""
    roll = rng.random()
    if roll < 0.4:
        return _running_sum(rng, level)
    if roll < 0.75 or (level == 1 and roll < 0.8):
        return _name(rng, level, distract)
    return _country(rng, level) if level == 1 else _order(rng, level)
