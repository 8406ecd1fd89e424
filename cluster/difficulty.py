"""How hard a request looks, from its text alone, before any model runs. Pure."""

import re
from typing import Final

_NUMBER: Final = re.compile(r"\d+")
_CHAIN: Final = re.compile(r"\b(then|after that|finally|step by step|each|every|all)\b", re.IGNORECASE)
_HARD: Final = re.compile(
    r"\b(prove|derive|explain why|algorithm|code|function|sql|regex|integral|equation|backwards?|reverse[ds]?|spell|"
    r"sort|order|ascending|descending|json)\b",
    re.IGNORECASE,
)

# Weights by hand, until a fitted predictor takes this function's place (issue 5); each says what it stands for.
_BASE: Final = 0.10
_PER_DIGIT: Final = 0.06  # long numbers are where small models slip first
_PER_NUMBER: Final = 0.06  # more operands, more places to go wrong
_HARD_WORD: Final = 0.22
_CHAIN_WORD: Final = 0.10
_PER_TURN: Final = 0.10  # a follow-up needs what was said before
_PER_1000_TOKENS: Final = 0.15


def difficulty(last_user_text: str, num_turns: int, prompt_tokens: int) -> float:
    """Predicted difficulty in [0, 1]: the share of sizes one expects to fail, roughly.

    `num_turns` counts user turns. Costs tens of microseconds for a short prompt; only the last 4,000 characters are
    looked at, so a long prompt costs no more.
    """
    text = last_user_text[-4000:]
    numbers = _NUMBER.findall(text)
    score = _BASE
    score += _PER_DIGIT * max((len(number) - 1 for number in numbers), default=0)
    score += _PER_NUMBER * min(len(numbers), 6)
    score += _HARD_WORD * bool(_HARD.search(text))
    score += _CHAIN_WORD * bool(_CHAIN.search(text))
    score += _PER_TURN * (num_turns - 1)
    score += _PER_1000_TOKENS * prompt_tokens / 1000
    return min(1.0, max(0.0, score))
