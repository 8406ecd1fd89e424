"""What of a text can be counted: lengths, numbers, signs of code and of mathematics."""

import re
from collections.abc import Callable
from math import log1p
from typing import Final

_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")
_CAPITAL: Final = re.compile(r"[A-Z]")
_QUANTITIES: Final = frozenset(
    (
        "each", "every", "per", "times", "twice", "half", "total", "left", "remaining", "more", "less", "than", "sum",
        "difference", "average",
    )
)  # fmt: skip
_LARGEST: Final = 1e9
MAX_CHARACTERS: Final = 3000  # of a longer text its beginning and its end are looked at


def _many(*signs: str) -> Callable[[str], float]:
    return lambda text: log1p(sum(text.count(sign) for sign in signs))


_SIGNS: Final[dict[str, Callable[[str], float]]] = {
    "lines": _many("\n"),
    "dollars": _many("$"),
    "backslashes": _many("\\"),
    "carets": _many("^"),
    "braces": _many("{"),
    "parentheses": _many("("),
    "brackets": _many("["),
    "stops": _many("."),
    "commas": _many(","),
    "questions": _many("?"),
    "percents": _many("%"),
    "quotes": _many("'", '"'),
    "equations": _many("="),
    "operators": _many("+", "-", "*", "/"),
    "fractions": _many("\\frac", "\\dfrac"),
    "roots": _many("\\sqrt"),
    "drawings": _many("[asy]"),
    "functions": _many("def "),
    "returns": _many("return"),
    "loops": _many("for ", "while "),
    "branches": _many("if "),
}
NAMES: Final = (
    "characters", "prompt_tokens", "turns", "words", "numbers", "largest_number", "longest_number", "digits_share",
    "capitals_share", "different_words_share", "word_length", "quantities", *_SIGNS,
)  # fmt: skip


def counts(text: str, prompt_tokens: int, turns: int = 1) -> tuple[float, ...]:
    """One number for each of `NAMES`; logarithms where there is no upper bound."""
    length = len(text)
    if length > MAX_CHARACTERS:
        text = text[: MAX_CHARACTERS // 2] + text[-MAX_CHARACTERS // 2 :]
    seen, words, numbers = max(1, len(text)), text.split(), _NUMBER.findall(text)
    return (
        log1p(length),
        log1p(prompt_tokens),
        log1p(turns - 1),
        log1p(len(words)),
        log1p(len(numbers)),
        log1p(min(_LARGEST, max((float(number) for number in numbers), default=0.0))),
        log1p(max(map(len, numbers), default=0)),
        sum(map(len, numbers)) / seen,
        len(_CAPITAL.findall(text)) / seen,
        len(set(words)) / max(1, len(words)),
        sum(map(len, words)) / max(1, len(words)),
        log1p(sum(word in _QUANTITIES for word in words)),
        *(count(text) for count in _SIGNS.values()),
    )
