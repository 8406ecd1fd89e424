"""pydantic's first error -> reason, field path and a message that says what to do."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from model.errors import InvalidRequestError
from serving.echo import echo, path_of

_WANTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "string_type": "a string",
        "int_type": "a whole number",
        "float_type": "a number",
        "bool_type": "true or false",
        "list_type": "an array",
        "dict_type": "an object",
        "model_type": "an object",
        "model_attributes_type": "an object",
        "union_tag_not_found": "a string or an array",
    }
)
_HINT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "model": "name a size or a tier",
        "messages": 'send at least one turn, such as {"role": "user", "content": "Hello"}',
        "prompt": "send a string",
        "content": "send a string",
    }
)


def refused(error: ValidationError) -> InvalidRequestError:
    """The first thing wrong, as the one error a client gets."""
    first = error.errors(include_url=False)[0]
    # Steps in angle brackets are tags of our unions, "[key]" is pydantic's mark of a dict's key.
    steps = [step for step in first["loc"] if not (isinstance(step, str) and (step[:1] == "<" or step == "[key]"))]
    path = path_of(steps)
    last = next((step for step in reversed(steps) if isinstance(step, str)), "")
    reason, what = _explain(first, last)
    return InvalidRequestError(reason, path or None, f"{path}: {what}" if path else what)


def _explain(error: ErrorDetails, name: str) -> tuple[str, str]:
    kind, given, limits = error["type"], error["input"], error.get("ctx", {})
    if kind in _WANTED:
        return "invalid_type", f"got {echo(given)}, expected {_WANTED[kind]}"
    if kind in _EXPLAIN:
        return _EXPLAIN[kind](given, limits, name)
    return kind, error["msg"]  # our own `PydanticCustomError`s carry reason and message


def _missing(_given: Any, _limits: Mapping[str, Any], name: str) -> tuple[str, str]:
    if name == "role":  # protobuf cannot tell a missing role from an unspecified one
        return "invalid_value", "is missing; choose system, developer, user or assistant"
    return "missing_required_parameter", f"is required and missing; {_HINT.get(name, 'send it')}"


def _unknown(_given: Any, _limits: Mapping[str, Any], _name: str) -> tuple[str, str]:
    return "unknown_parameter", "no such parameter; remove it"


def _choice(given: Any, limits: Mapping[str, Any], name: str) -> tuple[str, str]:
    if name == "type" and limits["expected"] == "'text'":
        return "unsupported_value", f"got {echo(given)}; only text parts are supported"
    if not isinstance(given, str):
        return "invalid_type", f"got {echo(given)}, expected a string"
    return "invalid_value", f"got {echo(given)}; choose {limits['expected']}"


def _below(given: Any, limits: Mapping[str, Any], _name: str) -> tuple[str, str]:
    bound = limits["ge"]
    word = "decimal" if isinstance(bound, float) else "integer"
    return f"{word}_below_min_value", f"got {echo(given)}, the least is {bound:g}; raise it"


def _not_above(given: Any, limits: Mapping[str, Any], _name: str) -> tuple[str, str]:
    return "decimal_below_min_value", f"got {echo(given)}, it must be more than {limits['gt']:g}; raise it"


def _above(given: Any, limits: Mapping[str, Any], _name: str) -> tuple[str, str]:
    bound = limits["le"]
    word, most = ("decimal", f"{bound:g}") if isinstance(bound, float) else ("integer", str(bound))
    return f"{word}_above_max_value", f"got {echo(given)}, the most is {most}; lower it"


def _long(given: Any, limits: Mapping[str, Any], _name: str) -> tuple[str, str]:
    most = limits["max_length"]
    if isinstance(given, dict):
        return "object_above_max_properties", f"has {len(given)} entries, at most {most} are allowed; send fewer"
    return "array_above_max_length", f"has {len(given)} entries, at most {most} are allowed; send fewer"


def _empty(_given: Any, _limits: Mapping[str, Any], name: str) -> tuple[str, str]:
    return "empty_array", f"is empty; {_HINT.get(name, 'send at least one entry')}"


def _long_text(given: Any, limits: Mapping[str, Any], _name: str) -> tuple[str, str]:
    most = limits["max_length"]
    return "string_above_max_length", f"has {len(given)} characters, at most {most} are allowed; shorten it"


def _short_text(_given: Any, _limits: Mapping[str, Any], _name: str) -> tuple[str, str]:
    return "invalid_value", "is empty; leave it out or send some text"


def _odd_name(given: Any, _limits: Mapping[str, Any], _name: str) -> tuple[str, str]:
    return "invalid_value", f"got {echo(given)}; names are 1 to 64 of a-z, A-Z, 0-9, _ and -"


def _infinite(_given: Any, _limits: Mapping[str, Any], _name: str) -> tuple[str, str]:
    return "invalid_value", "is not a finite number; send one"


def _surrogate(_given: Any, _limits: Mapping[str, Any], _name: str) -> tuple[str, str]:
    return "invalid_value", "holds half of a surrogate pair, which is no character; remove it"


_EXPLAIN: Final[Mapping[str, Callable[[Any, Mapping[str, Any], str], tuple[str, str]]]] = MappingProxyType(
    {
        "missing": _missing,
        "extra_forbidden": _unknown,
        "literal_error": _choice,
        "greater_than": _not_above,
        "greater_than_equal": _below,
        "less_than_equal": _above,
        "string_pattern_mismatch": _odd_name,
        "string_too_short": _short_text,
        "too_long": _long,
        "too_short": _empty,
        "string_too_long": _long_text,
        "finite_number": _infinite,
        "string_unicode": _surrogate,
    }
)
