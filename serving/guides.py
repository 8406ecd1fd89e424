"""The fields that hold an answer to a shape: `response_format` and the guided ones; at most one of them."""

import json
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from model.errors import InvalidRequestError
from model.request import Guide, GuideKind
from serving.form import Form
from serving.json_schema import check_schema
from serving.regex import MAX_CHARACTERS, UnfitError, check_regex
from serving.strict_json import NotJsonError, parse_json
from serving.strings import Name, Note, whole

MAX_CHOICES: Final = 256
MAX_CHOICE_CHARACTERS: Final = 4096
MAX_GRAMMAR_CHARACTERS: Final = 65_536


def _read(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)
    except NotJsonError as error:
        raise PydanticCustomError("invalid_value", "{why}", {"why": f"is no JSON: {error}"}) from None


def _fit(check: Callable[[Any], None]) -> Callable[[Any], Any]:
    """A validator from a check that raises `UnfitError`."""

    def checked(value: Any) -> Any:
        try:
            check(value)
        except UnfitError as error:
            raise PydanticCustomError("invalid_value", "{why}", {"why": str(error)}) from None
        return value

    return checked


def _check_grammar(text: str) -> None:
    if not any(line.split("::=")[0].strip() == "root" for line in text.splitlines() if "::=" in line):
        raise UnfitError("has no rule `root ::= …` to begin with; add one")


Schema = Annotated[
    dict[str, Any],
    BeforeValidator(_read, json_schema_input_type=dict[str, Any] | str),
    AfterValidator(_fit(check_schema)),
]
Regex = Annotated[
    str, Field(min_length=1, max_length=MAX_CHARACTERS), AfterValidator(whole), AfterValidator(_fit(check_regex))
]
Choices = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=MAX_CHOICE_CHARACTERS), AfterValidator(whole)]],
    Field(min_length=1, max_length=MAX_CHOICES, fail_fast=True),
]
Grammar = Annotated[
    str,
    Field(min_length=1, max_length=MAX_GRAMMAR_CHARACTERS),
    AfterValidator(whole),
    AfterValidator(_fit(_check_grammar)),
]


class JsonSchema(Form):
    """A schema with a name. It is always kept to the letter, whatever `strict` says."""

    name: Name = Field(description="A label, without effect.")
    description: Note | None = Field(None, description="A label, without effect.")
    schema_: Schema = Field(alias="schema", description="The schema, or its JSON text.")
    strict: bool | None = Field(None, description="true or false: the schema is kept either way.")


class ResponseFormat(Form):
    """OpenAI's way to ask for a shape."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = Field(None, description="Only with type json_schema.")


class GuideForm(Form):
    """What shape the answer has; at most one of these fields."""

    response_format: ResponseFormat | None = Field(None, description="text, a JSON object, or a JSON schema.")
    guided_json: Schema | None = Field(None, description="A JSON schema, or its JSON text.")
    guided_regex: Regex | None = Field(None, description="A regular expression that the whole answer matches.")
    guided_choice: Choices | None = Field(None, description="The answer is one of these.")
    guided_grammar: Grammar | None = Field(None, description="A grammar in EBNF (GBNF), from its rule root.")


def guide_of(form: GuideForm) -> tuple[str, Guide] | None:
    """The field and what it asks for; None when no shape is asked for."""
    asked = list(_asked(form))
    if len(asked) > 1:
        (first, _), (second, _), *_ = asked
        raise InvalidRequestError("invalid_value", second, f"{second}: {first} was sent as well; send one of the two")
    return asked[0] if asked else None


def check_format(form: GuideForm) -> None:
    """Raises `InvalidRequestError` for a schema without its type, or a type without its schema."""
    wanted = form.response_format
    if wanted is None or (wanted.type == "json_schema") is (wanted.json_schema is not None):
        return
    path = "response_format.json_schema"
    if wanted.json_schema is None:
        what = f"{path}: is required and missing; send it, or another response_format.type"
        raise InvalidRequestError("missing_required_parameter", path, what)
    what = f"{path}: only with response_format.type json_schema; send that type or leave it out"
    raise InvalidRequestError("invalid_value", path, what)


def _asked(form: GuideForm) -> Any:
    wanted = form.response_format
    if wanted is not None and wanted.json_schema is not None:
        yield "response_format", Guide(GuideKind.JSON_SCHEMA, _written(wanted.json_schema.schema_))
    elif wanted is not None and wanted.type == "json_object":
        yield "response_format", Guide(GuideKind.JSON)
    if form.guided_json is not None:
        yield "guided_json", Guide(GuideKind.JSON_SCHEMA, _written(form.guided_json))
    if form.guided_regex is not None:
        yield "guided_regex", Guide(GuideKind.REGEX, form.guided_regex)
    if form.guided_choice is not None:
        yield "guided_choice", Guide(GuideKind.CHOICE, _written(form.guided_choice))
    if form.guided_grammar is not None:
        yield "guided_grammar", Guide(GuideKind.GRAMMAR, form.guided_grammar)


def _written(value: Any) -> str:
    """JSON with names in the order in which they were sent: the answer keeps it."""
    return json.dumps(value, ensure_ascii=False)
