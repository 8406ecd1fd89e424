"""What a client sent, short and harmless enough to be shown in a message."""

from collections.abc import Iterable
from typing import Any, Final

ECHO_CHARACTERS: Final = 64
_PATH_CHARACTERS: Final = 128


def echo(value: Any) -> str:
    """A value in at most 64 characters; containers by their kind, text quoted and escaped."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case dict():
            return "an object"
        case list() | tuple():
            return f"an array of {len(value)}"
        case str():
            return _cut(ascii(value[:ECHO_CHARACTERS]), len(value) > ECHO_CHARACTERS)
        case _:
            return _cut(str(value), False)


def safe_name(name: str) -> str:
    """A field's name as sent, in at most 64 printable characters."""
    return _cut(ascii(name[:ECHO_CHARACTERS])[1:-1], len(name) > ECHO_CHARACTERS)


def path_of(steps: Iterable[str | int]) -> str:
    """`("messages", 0, "content")` -> `messages[0].content`."""
    path = ""
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += ("." if path else "") + safe_name(step)
    return path[:_PATH_CHARACTERS]


def _cut(text: str, cut: bool) -> str:
    if len(text) > ECHO_CHARACTERS or cut:
        return text[: ECHO_CHARACTERS - 3] + "..."
    return text
