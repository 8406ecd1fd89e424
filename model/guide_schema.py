"""JSON schemas in words that the compiler follows as they are meant: lengths, patterns and formats of strings."""

import json
import re
from typing import Any, Final

from model.guide_field import refuse
from model.request import GuideKind

MAX_DEPTH: Final = 64
_NAMED: Final = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_DATA: Final = frozenset({"const", "enum", "default", "examples"})
_LEAKY_FORMATS: Final = ("json-pointer", "relative-json-pointer")
"""The compiler lets control characters into these (0.2.8)."""
PIECE: Final = re.compile(r"\[\^?(?:\\.|[^\]\\])*\]?|\\(?:x..|u....|.)|.", re.DOTALL)
"""A class, closed or not, an escape or a character of a regular expression; found in linear time."""
CHARACTERS: Final = "\ud7ff\ue000-\U0010ffff"
"""End of a class: without surrogates, whose bytes are no UTF-8 but which the compiler would let in."""
_CONTROLS: Final = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "0": "\0"}


def rewritten(schema: Any) -> str:
    """A schema's text with what the compiler would follow wrongly put in other words, or refused."""
    if _depth(schema) > MAX_DEPTH:
        raise refuse(GuideKind.JSON_SCHEMA, f"is nested deeper than {MAX_DEPTH}; flatten it")
    return json.dumps(_rewrite(schema), ensure_ascii=False)


def _rewrite(schema: Any) -> Any:
    """A schema and all schemas in it; what is data or a name stays as it is."""
    if isinstance(schema, list):
        return [_rewrite(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {}
    for word, value in schema.items():
        if word in _NAMED and isinstance(value, dict):
            found[word] = {name: _rewrite(each) for name, each in value.items()}
        else:
            found[word] = value if word in _DATA else _rewrite(value)
    _check_strings(found)
    _replace_lengths(found)
    return found


def _replace_lengths(schema: dict[str, Any]) -> None:
    """A pattern instead: with lengths the compiler forbids line ends only, and other controls make it no JSON."""
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if "pattern" in schema or schema.keys().isdisjoint({"minLength", "maxLength"}):
        return
    if _is_length(least) and (most is None or (_is_length(most) and least <= most)):
        schema["pattern"] = f"^[ -{CHARACTERS}]{{{least},{'' if most is None else most}}}$"
        schema.pop("minLength", None)
        schema.pop("maxLength", None)


def _check_strings(schema: dict[str, Any]) -> None:
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and (char := _unescaped(pattern)):
        why = f"pattern asks for {json.dumps(char)}, which JSON strings hold only escaped; that is not supported"
        raise refuse(GuideKind.JSON_SCHEMA, why)
    if schema.get("format") in _LEAKY_FORMATS:
        raise refuse(GuideKind.JSON_SCHEMA, f"format {schema['format']} is not supported; leave it out")


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _depth(root: Any) -> int:
    """How deep a JSON value is nested."""
    level, depth = [root], 0
    while level:
        level, depth = [each for value in level for each in _inside(value)], depth + 1
    return depth


def _unescaped(pattern: str) -> str | None:
    """A character that the compiler would let into a JSON string as it stands, which makes it no JSON any more.

    It keeps classes of several characters to what a string may hold, but single ones it takes literally.
    """
    for piece in PIECE.findall(pattern):
        single: str = piece[1:-1] if piece.startswith("[") and len(PIECE.findall(piece[1:-1])) == 1 else piece
        if single.startswith("\\"):
            name, digits = single[1:2], single[2:]
            try:
                char = chr(int(digits, 16)) if name in ("x", "u") else _CONTROLS.get(name, name)
            except ValueError:
                continue  # the compiler will say so
            single = char if char in ('"', "\\") or name in ("x", "u", *_CONTROLS) else ""
        if len(single) == 1 and (single in ('"', "\\") or single < " "):
            return single
    return None
