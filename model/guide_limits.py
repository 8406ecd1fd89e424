"""Which guides are tried at all, and how they are put to the compiler: checks that cost nothing."""

import json
from typing import Any, Final

from model.guide_field import refuse
from model.guide_schema import CHARACTERS, PIECE, rewritten
from model.request import Guide, GuideKind

MAX_BYTES: Final = 65_536
MAX_CHOICES: Final = 1000

_ANY_OBJECT: Final = '{"type":"object"}'
_DOT: Final = rf"[\x01-\t\x0b\x0c\x0e-{CHARACTERS}]"


def prepared(guide: Guide) -> Guide:
    """The guide as a schema, an expression or a grammar that the compiler reads as its writer meant it.

    Raises `InvalidRequestError` for what is malformed, too large, or would be followed wrongly.
    """
    try:
        num_bytes = len(guide.text.encode())
    except UnicodeEncodeError:
        raise refuse(guide.kind, "is no Unicode text; half of a surrogate pair stands alone") from None
    if num_bytes > MAX_BYTES:
        raise refuse(guide.kind, f"has {num_bytes} bytes, at most {MAX_BYTES} are allowed; simplify it")
    match guide.kind:
        case GuideKind.JSON:
            return Guide(GuideKind.JSON_SCHEMA, _ANY_OBJECT)
        case GuideKind.JSON_SCHEMA:
            return Guide(guide.kind, rewritten(_parsed(guide)))
        case GuideKind.REGEX:
            # The compiler's dot takes line ends as well; that of JavaScript and Python does not.
            pieces = PIECE.findall(guide.text)
            return Guide(guide.kind, "".join(_DOT if piece == "." else piece for piece in pieces))
        case GuideKind.CHOICE:
            return Guide(GuideKind.GRAMMAR, _grammar_of(guide))
        case GuideKind.GRAMMAR:
            return guide


def _grammar_of(guide: Guide) -> str:
    choices = _parsed(guide)
    if not isinstance(choices, list) or not choices or any(not isinstance(each, str) for each in choices):
        raise refuse(guide.kind, "expected a list of strings that is not empty")
    if len(choices) > MAX_CHOICES:
        raise refuse(guide.kind, f"has {len(choices)} choices, at most {MAX_CHOICES} are allowed")
    if any("\0" in each or any("\ud800" <= char <= "\udfff" for char in each) for each in choices):
        raise refuse(guide.kind, "a choice has a NUL or half of a surrogate pair, which no token spells")
    # A JSON string is a literal of the grammar as well, as long as only quotes and controls are escaped.
    return "root ::= " + " | ".join(json.dumps(each, ensure_ascii=False) for each in dict.fromkeys(choices))


def _parsed(guide: Guide) -> Any:
    try:
        return json.loads(guide.text)
    except (ValueError, RecursionError) as error:
        raise refuse(guide.kind, f"is no JSON: {error}") from None
