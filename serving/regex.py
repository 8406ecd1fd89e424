"""Whether a regular expression can hold an answer, and is small enough to be tried."""

import re
import warnings
from re import _parser as parser  # type: ignore[attr-defined]  # the library's own tree; no public way to it
from typing import Any, Final

MAX_CHARACTERS: Final = 4096
MAX_STATES: Final = 50_000
"""Of the automaton, estimated: one for each character, times the repetitions around it."""

_UNDONE: Final = {
    "ASSERT": "looks ahead or behind",
    "ASSERT_NOT": "looks ahead or behind",
    "GROUPREF": "refers back to a group",
    "GROUPREF_EXISTS": "depends on a group",
    "ATOMIC_GROUP": "has an atomic group",
    "POSSESSIVE_REPEAT": "repeats possessively",
}
_EDGES: Final = frozenset({"AT_BEGINNING", "AT_END", "AT_BEGINNING_STRING", "AT_END_STRING"})


class UnfitError(ValueError):
    """Says why an expression is not taken."""


def check_regex(pattern: str) -> None:
    """Raises `UnfitError` for what is no regular expression, is none in the strict sense, or is too large."""
    if len(pattern) > MAX_CHARACTERS:
        raise UnfitError(f"has {len(pattern)} characters, at most {MAX_CHARACTERS} are allowed; shorten it")
    try:
        with warnings.catch_warnings():  # of `[[`, which may mean something else one day; the answer's is today's
            warnings.simplefilter("ignore", FutureWarning)
            tree = parser.parse(pattern)
        states = _states(tree)
    except re.error as error:
        where = "" if error.pos is None else f" at character {error.pos}"
        raise UnfitError(f"is no regular expression: {error.msg}{where}") from None
    except (RecursionError, OverflowError):
        raise UnfitError("is nested too deep or repeats too often; simplify it") from None
    if tree.state.flags != re.UNICODE:
        raise UnfitError("sets flags, which are not supported; write the expression without them")
    if states > MAX_STATES:
        raise UnfitError(f"would make an automaton of some {states} states, at most {MAX_STATES}; repeat less")


def _states(tree: Any) -> int:
    return sum(_of(str(op), argument) for op, argument in tree)


def _of(op: str, argument: Any) -> int:
    if op in _UNDONE:
        raise UnfitError(f"{_UNDONE[op]}, which no automaton can; write it without")
    match op:
        case "MAX_REPEAT" | "MIN_REPEAT":
            least, most, inside = argument
            times = max(1, least) if most == parser.MAXREPEAT else max(1, int(most))
            return int(times) * max(1, _states(inside))
        case "SUBPATTERN":
            _, added, taken, inside = argument
            if added or taken:
                raise UnfitError("sets flags, which are not supported; write the expression without them")
            return _states(inside)
        case "BRANCH":
            return sum(map(_states, argument[1]))
        case "AT" if str(argument) not in _EDGES:
            raise UnfitError("asks for a word's edge, which no automaton can; write it without")
        case _:
            return 1
