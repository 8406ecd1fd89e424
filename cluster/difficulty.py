"""How hard a request looks, from its text alone, before any model runs. Pure."""

import re
from typing import Final

_NUMBER: Final = re.compile(r"\d+")
_ARITHMETIC: Final = re.compile(
    r"\d\s*[-+*/×]\s*\d|"
    r"\b(plus|minus|times|sum|difference|add|added|subtract|take away|total|equation|integral|prove)\b",
    re.IGNORECASE,
)
_ORDER: Final = re.compile(
    r"\b(sort|order|ascending|descending|larger|smaller|largest|smallest|greater|compare)\b", re.IGNORECASE
)
_LETTERS: Final = re.compile(r"\b(spell|backwards?|reversed?|letters?|json|code|regex|sql|algorithm)\b", re.IGNORECASE)

# Weights by hand, after the embedded family's report (which kinds the small sizes fail), until a fitted predictor
# takes this function's place.
_BASE: Final = 0.02
_PER_DIGIT: Final = 0.04  # long numbers are where small models slip first
_PER_NUMBER: Final = 0.02  # more operands, more places to go wrong
_ARITHMETIC_WEIGHT: Final = 0.80
_ORDER_WEIGHT: Final = 0.35
_LETTERS_WEIGHT: Final = 0.35
_PER_TURN: Final = 0.20  # a follow-up needs what was said before
_PER_1000_TOKENS: Final = 0.10


def difficulty(last_user_text: str, num_turns: int, prompt_tokens: int) -> float:
    """Predicted difficulty in [0, 1]: how far small sizes are expected to fall behind.

    `num_turns` counts user turns. Costs tens of microseconds for a short prompt; only the last 4,000 characters are
    looked at, so a long prompt costs no more.
    """
    text = last_user_text[-4000:]
    numbers = _NUMBER.findall(text)
    score = _BASE
    score += _PER_DIGIT * max((len(number) - 1 for number in numbers), default=0)
    score += _PER_NUMBER * min(len(numbers), 6)
    score += _ARITHMETIC_WEIGHT * bool(_ARITHMETIC.search(text))
    score += _ORDER_WEIGHT * bool(_ORDER.search(text))
    score += _LETTERS_WEIGHT * bool(_LETTERS.search(text))
    score += _PER_TURN * (num_turns - 1)
    score += _PER_1000_TOKENS * prompt_tokens / 1000
    return min(1.0, max(0.0, score))
