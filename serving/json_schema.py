"""Whether a JSON schema can hold an answer: known keywords only, nothing fetched, nothing huge."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from serving.echo import echo, path_of
from serving.regex import UnfitError, check_regex

MAX_BYTES: Final = 65_536
MAX_DEPTH: Final = 32
MAX_COUNT: Final = 10_000
"""Of items, properties or characters that a schema may ask for: an answer has at most 8,192 tokens."""

_TYPES: Final = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})
_NAMED: Final = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_LISTS: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_NESTED: Final = frozenset(
    {"items", "additionalProperties", "propertyNames", "unevaluatedProperties", "unevaluatedItems"}
)
_COUNTS: Final = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})
_NUMBERS: Final = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_NOTES: Final = frozenset(
    {"title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated", "readOnly", "writeOnly"}
)

Steps = tuple[str | int, ...]


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raises `UnfitError` with the place and the rule that is broken.

    Keywords that a grammar cannot keep (`not`, `if`, `uniqueItems`, …) and those nobody knows are refused: what is
    accepted is kept.
    """
    try:
        size = len(json.dumps(schema, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        raise UnfitError("holds half of a surrogate pair, which is no character; remove it") from None
    if size > MAX_BYTES:
        raise UnfitError(f"has {size} bytes, at most {MAX_BYTES} are allowed; simplify it")
    waiting: list[tuple[Steps, Any, int]] = [((), schema, 1)]
    while waiting:
        steps, here, depth = waiting.pop()
        if isinstance(here, bool):
            continue
        if not isinstance(here, dict):
            raise _broken(steps, f"got {echo(here)}, a schema is an object")
        if depth > MAX_DEPTH:
            raise UnfitError(f"is nested deeper than {MAX_DEPTH}; flatten it")
        _check_together(steps, here)
        for word, value in here.items():
            _check_word(steps, word, value, schema)
            waiting += [((*steps, word, *more), below, depth + 1) for more, below in _below(word, value)]


def _check_together(steps: Steps, here: Mapping[str, Any]) -> None:
    """Compilers of grammars read nothing beside a reference, and of several `allOf` they make an `anyOf`."""
    if "$ref" in here and (others := here.keys() - _NOTES - {"$ref", "$defs", "definitions"}):
        raise _broken((*steps, min(others)), "stands beside $ref, which replaces it; put it where $ref leads")
    if isinstance(here.get("allOf"), list) and len(here["allOf"]) > 1:
        raise _broken((*steps, "allOf"), "several schemas at once are not supported; write them as one")


def _below(word: str, value: Any) -> Iterator[tuple[Steps, Any]]:
    """Schemas inside a keyword's value, each with the steps to it."""
    if word in _NAMED:
        yield from (((name,), below) for name, below in value.items())
    elif word in _LISTS:
        yield from (((index,), below) for index, below in enumerate(value))
    elif word in _NESTED:
        yield (), value


def _check_word(steps: Steps, word: str, value: Any, root: Mapping[str, Any]) -> None:
    at = (*steps, word)
    if word in _NOTES or word in _NESTED or word in ("const", "format"):
        return
    if word == "uniqueItems" and value is False:
        return
    if word in _NAMED:
        if not isinstance(value, dict):
            raise _broken(at, f"got {echo(value)}, expected an object")
        for name in value if word == "patternProperties" else ():
            _check_pattern(at, name, root)
    elif word in _LISTS or word == "enum":
        if not isinstance(value, list) or not value:
            raise _broken(at, f"got {echo(value)}, expected an array that is not empty")
    elif word in _COUNTS:
        if not _is_number(value) or value != int(value) or not 0 <= value <= MAX_COUNT:
            raise _broken(at, f"got {echo(value)}, expected a whole number up to {MAX_COUNT}")
    elif word in _NUMBERS:
        if not _is_number(value):
            raise _broken(at, f"got {echo(value)}, expected a number")
    elif word in _RULES:
        _RULES[word](at, value, root)
    else:
        raise _broken(at, "this keyword is not supported; leave it out")


def _check_type(at: Steps, value: Any, _root: Any) -> None:
    names = value if isinstance(value, list) else [value]
    if not names or any(not isinstance(name, str) or name not in _TYPES for name in names):
        raise _broken(at, f"got {echo(value)}, types are {', '.join(sorted(_TYPES))}")


def _check_required(at: Steps, value: Any, _root: Any) -> None:
    if not isinstance(value, list) or any(not isinstance(name, str) for name in value):
        raise _broken(at, "expected an array of names")


def _check_pattern(at: Steps, value: Any, _root: Any) -> None:
    try:
        check_regex(value if isinstance(value, str) else "(")
    except UnfitError as error:
        raise _broken(at, str(error)) from None


def _check_ref(at: Steps, value: Any, root: Mapping[str, Any]) -> None:
    """Only into the schema itself: nothing that a client names is ever fetched."""
    here: Any = root
    steps = value.split("/") if isinstance(value, str) else [""]
    for step in steps[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(here, list) and name.isdecimal() and int(name[:9]) < len(here):
            here = here[int(name[:9])]
        else:
            here = here.get(name) if isinstance(here, dict) else None
    if steps[0] != "#" or not isinstance(here, dict | bool):
        raise _broken(at, f"{echo(value)} leads to no place in this schema, such as #/$defs/name")


_RULES: Final = {
    "type": _check_type,
    "required": _check_required,
    "pattern": _check_pattern,
    "$ref": _check_ref,
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _broken(at: Steps, rule: str) -> UnfitError:
    return UnfitError(f"breaks a rule at {path_of(at) or 'its root'}: {rule}")
