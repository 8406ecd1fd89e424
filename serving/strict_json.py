"""Strict JSON: UTF-8, no key twice, no NaN, bounded depth and digits. Nothing here knows a field."""

import json
import math
from typing import Any, Final

from serving.echo import echo, safe_name

MAX_DEPTH: Final = 64
MAX_DIGITS: Final = 32


class NotJsonError(ValueError):
    """Says what is wrong with a text that should be JSON."""


def parse_json(written: bytes | str) -> Any:
    """The value that is written; raises `NotJsonError`."""
    try:
        value = json.loads(
            written if isinstance(written, str) else written.decode(),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_int=_integer,
            parse_float=_decimal,
        )
    except UnicodeDecodeError as error:
        raise NotJsonError(f"byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise NotJsonError(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise _too_deep() from None
    _check_depth(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise NotJsonError(f"key '{safe_name(twice)}' comes twice in one object")
    return result


def _refuse_constant(word: str) -> float:
    raise NotJsonError(f"{word} is not JSON")


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise NotJsonError(f"a number has {len(digits)} digits, at most {MAX_DIGITS} are read")
    return int(digits)


def _decimal(text: str) -> float:
    value = float(text) if len(text) <= MAX_DIGITS else math.inf
    if math.isinf(value):
        raise NotJsonError(f"number {echo(text)} is too long or too large")
    return value


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level := [node for node in level if isinstance(node, dict | list)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise _too_deep()
        level = [child for node in level for child in (node.values() if isinstance(node, dict) else node)]


def _too_deep() -> NotJsonError:
    return NotJsonError(f"nested deeper than {MAX_DEPTH}")
