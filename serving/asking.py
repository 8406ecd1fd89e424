"""The fields that a client sent -> a validated ask, or the first thing wrong."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from model.errors import InvalidRequestError
from serving.ask import AskBase, ChatAsk, StreamOptions, TextAsk
from serving.echo import echo
from serving.fields import REFUSED, REFUSED_IN_TURN, REFUSED_WITHIN, settle_names
from serving.guides import JsonSchema, ResponseFormat, check_format, guide_of
from serving.refusal import refused
from serving.turns import MAX_MESSAGES, Message, Prediction

_NESTED: Final[Mapping[str, type[BaseModel]]] = MappingProxyType(
    {"stream_options": StreamOptions, "response_format": ResponseFormat, "prediction": Prediction}
)


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
    _check(ask)
    if ask.top_logprobs and not ask.logprobs:
        what = "top_logprobs: only together with logprobs; send logprobs: true or leave it out"
        raise InvalidRequestError("invalid_value", "top_logprobs", what)
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
    _check(ask)
    _check_best_of(ask)
    if ask.max_tokens == 0 and not ask.echo:
        what = "max_tokens: got 0, the least is 1 without echo; raise it"
        raise InvalidRequestError("integer_below_min_value", "max_tokens", what)
    if ask.prompt is None and ask.prompt_token_ids is None:
        raise InvalidRequestError(
            "missing_required_parameter", "prompt", "prompt: is required and missing; send a string"
        )
    if ask.prompt is not None and ask.prompt_token_ids is not None:
        what = "prompt_token_ids: prompt was sent as well; send one of the two"
        raise InvalidRequestError("invalid_value", "prompt_token_ids", what)
    return ask


def ask_of_either(raw: Mapping[str, Any]) -> ChatAsk | TextAsk:
    """A completion if it has what only completions have; all else is read as a chat, and says what that lacks."""
    return text_ask(raw) if ("prompt" in raw or "prompt_token_ids" in raw) and "messages" not in raw else chat_ask(raw)


def _settle(raw: Mapping[str, Any], form: type[AskBase]) -> dict[str, Any]:
    fields = settle_names(raw, form.model_fields, REFUSED)
    for name, nested in _NESTED.items():
        if name in fields:
            fields[name] = _settle_object(fields[name], nested, name + ".")
    wanted = fields.get("response_format")
    if isinstance(wanted, dict) and "json_schema" in wanted:
        wanted["json_schema"] = _settle_object(wanted["json_schema"], JsonSchema, "response_format.json_schema.")
    return fields


def _settle_object(value: Any, form: type[BaseModel], where: str) -> Any:
    if not isinstance(value, dict):
        return value
    names = [field.alias or name for name, field in form.model_fields.items()]
    return settle_names(value, names, REFUSED_WITHIN.get(where, {}), where)


def _settle_turn(index: int, message: Any) -> Any:
    """The turn without what asks for nothing; a tool's turn is refused, for there is no call it could answer."""
    if not isinstance(message, dict):
        return message
    if message.get("role") == "tool":
        path = f"messages[{index}].tool_call_id"
        what = f"{path}: got {echo(message.get('tool_call_id'))}, but no tool call waits for an answer; remove the turn"
        raise InvalidRequestError("invalid_value", path, what)
    return settle_names(message, Message.model_fields, REFUSED_IN_TURN, f"messages[{index}].")


def _check(ask: AskBase) -> None:
    """What takes more than one field to see."""
    check_format(ask)
    guide_of(ask)
    if ask.store:
        what = "store: answers are not kept for clients; leave it out or send null or false"
        raise InvalidRequestError("unsupported_parameter", "store", what)
    if ask.stream_options is not None and not ask.stream:
        what = "stream_options: only together with stream; send stream: true or leave it out"
        raise InvalidRequestError("invalid_value", "stream_options", what)


def _check_best_of(ask: TextAsk) -> None:
    """Choosing the best of many is not done; as many as are asked for is no choice."""
    if ask.best_of in (None, ask.n):
        return
    if ask.best_of < ask.n:
        what = f"best_of: {ask.best_of} is less than n, which is {ask.n}; leave it out"
        raise InvalidRequestError("invalid_value", "best_of", what)
    what = f"best_of: more than n is not supported here; leave it out or send {ask.n}"
    raise InvalidRequestError("unsupported_parameter", "best_of", what)
