"""The field behind each kind of guide, for errors."""

from typing import Final

from model.errors import InvalidRequestError
from model.request import GuideKind

FIELDS: Final = {
    GuideKind.JSON: "response_format",
    GuideKind.JSON_SCHEMA: "response_format",
    GuideKind.REGEX: "guided_regex",
    GuideKind.CHOICE: "guided_choice",
    GuideKind.GRAMMAR: "guided_grammar",
}


def refuse(kind: GuideKind, why: str, reason: str = "invalid_guide") -> InvalidRequestError:
    """The error for a guide that cannot be used; names its field."""
    return InvalidRequestError(reason, FIELDS[kind], f"{FIELDS[kind]}: {why}")
