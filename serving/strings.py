"""Kinds of text that a request may hold, and what each refuses. Errors carry the reason as their type."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

MAX_STOP_BYTES: Final = 256


def whole(text: str) -> str:
    """Refuses what UTF-8 cannot write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        message = "holds half of a surrogate pair, which is no character; remove it"
        raise PydanticCustomError("invalid_value", message) from None
    return text


def without_nul(text: str) -> str:
    """Refuses what Postgres and C libraries cannot hold."""
    if "\0" in text:
        raise PydanticCustomError("invalid_value", "holds a NUL character; remove it")
    return text


def stop_string(text: str) -> str:
    """Not empty, not long, no NUL."""
    if not text:
        raise PydanticCustomError("invalid_value", "is empty; leave it out or send some text")
    if (size := len(whole(text).encode())) > MAX_STOP_BYTES:
        message = "has {size} bytes, at most {most} are allowed; shorten it"
        raise PydanticCustomError("string_above_max_length", message, {"size": size, "most": MAX_STOP_BYTES})
    return without_nul(text)


Text = Annotated[str, AfterValidator(whole)]
StopString = Annotated[str, AfterValidator(stop_string)]
Label = Annotated[str, Field(max_length=256), AfterValidator(without_nul)]
LabelKey = Annotated[str, Field(max_length=64), AfterValidator(without_nul)]
LabelValue = Annotated[str, Field(max_length=512), AfterValidator(without_nul)]
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Note = Annotated[str, Field(max_length=1024), AfterValidator(without_nul)]
