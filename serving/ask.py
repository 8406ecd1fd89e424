"""The one validated form of a request; REST bodies and protobuf messages both end here.

Types are strict: nothing is coerced. null is absent. Limits are the ones of docs/api.md.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
)

from model.config import CONTEXT_TOKENS, VOCABULARY
from model.errors import InvalidRequestError
from model.prompt import Role, Turn
from serving.echo import echo
from serving.fields import REFUSED, REFUSED_IN_STREAM_OPTIONS, REFUSED_IN_TURN, settle_names
from serving.refusal import refused
from serving.strings import Label, LabelKey, LabelValue, StopString, Text

MAX_MESSAGES: Final = 2048
MAX_PARTS: Final = 256
MAX_STOPS: Final = 16
CHAT_DEFAULT_TOKENS: Final = 512
"""max_tokens of a chat that names none, or what is left of the context if that is less."""
TEXT_DEFAULT_TOKENS: Final = 16
"""The same for a completion, as OpenAI's."""


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _kind_of_content(value: Any) -> str | None:
    return "<text>" if isinstance(value, str) else "<parts>" if isinstance(value, list | tuple) else None


def _kind_of_prompt(value: Any) -> str | None:
    if isinstance(value, str):
        return "<text>"
    if not isinstance(value, list):
        return None
    first = value[0] if value else ""
    return "<texts>" if isinstance(first, str) else "<rows>" if isinstance(first, list) else "<ids>"


Ids = Annotated[list[int], Field(min_length=1, fail_fast=True)]


class _Form(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class TextPart(_Form):
    """A piece of a turn; pieces are joined without separator."""

    type: Literal["text"]
    text: Text


Parts = Annotated[list[TextPart], Field(max_length=MAX_PARTS, fail_fast=True)]


class Message(_Form):
    """One turn of a chat."""

    role: Literal["system", "developer", "user", "assistant"] = Field(
        description="system and developer turns are folded in front of the next user turn."
    )
    content: Annotated[
        Annotated[Text, Tag("<text>")] | Annotated[Parts, Tag("<parts>")], Discriminator(_kind_of_content)
    ]

    def turn(self) -> Turn:
        """The turn with its parts joined."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Turn(Role(self.role), text)


class StreamOptions(_Form):
    """Only together with `stream: true`."""

    include_usage: bool = Field(False, description="Send a last chunk with the tokens used.")


class AskBase(_Form):
    """What both kinds of request share."""

    model: str = Field(description="A size (2b, 9b, 27b) or a tier (economy, balanced, premium, auto).")
    max_tokens: int | None = Field(None, ge=1, le=CONTEXT_TOKENS, description="Tokens of the answer at most.")
    temperature: float = Field(1.0, ge=0.0, le=2.0, allow_inf_nan=False, description="0 takes the likeliest token.")
    top_p: float = Field(1.0, ge=0.0, le=1.0, allow_inf_nan=False, description="Share of probability to draw from.")
    top_k: int | None = Field(None, ge=-1, le=VOCABULARY, description="Draw from the k likeliest; 0 and -1: all.")
    stop: Annotated[
        Annotated[list[StopString], Field(max_length=MAX_STOPS, fail_fast=True)],
        BeforeValidator(_listed, json_schema_input_type=str | list[str]),
    ] = Field([], description="Strings that end the answer before they appear in it.")
    stream: bool = Field(False, description="Send the answer as server-sent events.")
    stream_options: StreamOptions | None = Field(None, description="Only with stream.")
    deadline_ms: int | None = Field(None, ge=1, description="Time for the whole answer; cut to the configured limit.")
    user: Label | None = Field(None, description="A label, without effect.")
    metadata: Annotated[
        dict[
            LabelKey,
            LabelValue,
        ],
        Field(max_length=16),
    ] = Field({}, description="Labels, without effect.")
    safety_identifier: Label | None = Field(None, description="A label, without effect.")
    prompt_cache_key: Label | None = Field(None, description="A label, without effect.")

    @property
    def include_usage(self) -> bool:
        """Whether the stream ends with a usage chunk."""
        return self.stream_options is not None and self.stream_options.include_usage


class ChatAsk(AskBase):
    """A chat to be continued by the model."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]
    max_completion_tokens: int | None = Field(
        None, ge=1, le=CONTEXT_TOKENS, description="OpenAI's newer name of max_tokens."
    )

    @property
    def turns(self) -> list[Turn]:
        """The chat as turns, not yet folded."""
        return [message.turn() for message in self.messages]


class TextAsk(AskBase):
    """A text, or token ids, to be continued as they are."""

    prompt: (
        Annotated[
            Annotated[Text, Tag("<text>")]
            | Annotated[list[Text], Field(min_length=1, max_length=1), Tag("<texts>")]
            | Annotated[Ids, Tag("<ids>")]
            | Annotated[list[Ids], Field(min_length=1, max_length=1), Tag("<rows>")],
            Discriminator(_kind_of_prompt),
        ]
        | None
    ) = Field(None, description="Text, or token ids; arrays of either may hold one entry.")
    prompt_token_ids: Ids | None = Field(None, description="Token ids instead of prompt, taken as they are.")

    @property
    def text(self) -> str | None:
        """The text, or None when ids were sent."""
        given = self.prompt[0] if isinstance(self.prompt, list) else self.prompt
        return given if isinstance(given, str) else None

    @property
    def ids(self) -> tuple[str, list[int]]:
        """Path and ids, when ids were sent."""
        if not isinstance(self.prompt, list):
            return "prompt_token_ids", self.prompt_token_ids or []
        first = self.prompt[0]
        if isinstance(first, list):
            return "prompt[0]", first
        return "prompt", [token_id for token_id in self.prompt if isinstance(token_id, int)]


Ask = ChatAsk | TextAsk


def chat_ask(raw: Mapping[str, Any]) -> ChatAsk:
    """A chat from the fields a client sent; raises `InvalidRequestError` for the first thing wrong."""
    fields = _settle(raw, ChatAsk)
    messages = fields.get("messages")
    if isinstance(messages, list) and len(messages) <= MAX_MESSAGES:
        fields["messages"] = [_settle_turn(index, message) for index, message in enumerate(messages)]
    try:
        ask = ChatAsk.model_validate(fields)
    except ValidationError as error:
        raise refused(error) from None
    _check_stream_options(ask)
    if ask.max_completion_tokens is None:
        return ask
    if ask.max_tokens not in (None, ask.max_completion_tokens):
        what = f"max_tokens: {ask.max_tokens} differs from max_completion_tokens {ask.max_completion_tokens}; send one"
        raise InvalidRequestError("invalid_value", "max_tokens", what)
    return ask.model_copy(update={"max_tokens": ask.max_completion_tokens})


def text_ask(raw: Mapping[str, Any]) -> TextAsk:
    """A completion from the fields a client sent; raises `InvalidRequestError` for the first thing wrong."""
    try:
        ask = TextAsk.model_validate(_settle(raw, TextAsk))
    except ValidationError as error:
        raise refused(error) from None
    _check_stream_options(ask)
    if ask.prompt is None and ask.prompt_token_ids is None:
        raise InvalidRequestError(
            "missing_required_parameter", "prompt", "prompt: is required and missing; send a string"
        )
    if ask.prompt is not None and ask.prompt_token_ids is not None:
        what = "prompt_token_ids: prompt was sent as well; send one of the two"
        raise InvalidRequestError("invalid_value", "prompt_token_ids", what)
    return ask


def _settle(raw: Mapping[str, Any], form: type[AskBase]) -> dict[str, Any]:
    fields = settle_names(raw, form.model_fields, REFUSED)
    options = fields.get("stream_options")
    if isinstance(options, dict):
        names = StreamOptions.model_fields
        fields["stream_options"] = settle_names(options, names, REFUSED_IN_STREAM_OPTIONS, "stream_options.")
    return fields


def _settle_turn(index: int, message: Any) -> Any:
    """The turn without what asks for nothing; a tool's turn is refused, for there is no call it could answer."""
    if not isinstance(message, dict):
        return message
    if message.get("role") == "tool":
        path = f"messages[{index}].tool_call_id"
        what = f"{path}: got {echo(message.get('tool_call_id'))}, but no tool call waits for an answer; remove the turn"
        raise InvalidRequestError("invalid_value", path, what)
    return settle_names(message, Message.model_fields, REFUSED_IN_TURN, f"messages[{index}].")


def _check_stream_options(ask: AskBase) -> None:
    if ask.stream_options is not None and not ask.stream:
        what = "stream_options: only together with stream; send stream: true or leave it out"
        raise InvalidRequestError("invalid_value", "stream_options", what)
