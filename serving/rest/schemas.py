"""Parts of an answer -> OpenAI's objects, for chats and for completions."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Protocol

from model.config import Size
from model.events import FinishReason, Usage
from serving.models import ModelCard
from serving.service import Started


class Shape(Protocol):
    """How one of OpenAI's two endpoints words an answer."""

    def whole(self, started: Started, text: str, reason: FinishReason, usage: Usage) -> dict[str, Any]:
        """The plain answer."""

    def first(self, started: Started) -> dict[str, Any]:
        """First chunk of a stream."""

    def piece(self, started: Started, text: str) -> dict[str, Any]:
        """A chunk of text."""

    def last(self, started: Started, reason: FinishReason) -> dict[str, Any]:
        """The chunk with the reason."""

    def usage(self, started: Started, usage: Usage) -> dict[str, Any]:
        """The chunk with the tokens used."""


class ChatShape:
    """`/v1/chat/completions`."""

    def whole(self, started: Started, text: str, reason: FinishReason, usage: Usage) -> dict[str, Any]:
        """The plain answer."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason.value}
        return {**_head(started, "chat.completion", [choice]), "usage": _usage(usage), "gemmule": route(started)}

    def first(self, started: Started) -> dict[str, Any]:
        """The role, and who answers."""
        return {**self._chunk(started, {"role": "assistant", "content": ""}), "gemmule": route(started)}

    def piece(self, started: Started, text: str) -> dict[str, Any]:
        """A chunk of text."""
        return self._chunk(started, {"content": text})

    def last(self, started: Started, reason: FinishReason) -> dict[str, Any]:
        """The chunk with the reason."""
        return self._chunk(started, {}, reason.value)

    def usage(self, started: Started, usage: Usage) -> dict[str, Any]:
        """The chunk with the tokens used."""
        return {**_head(started, "chat.completion.chunk", []), "usage": _usage(usage)}

    @staticmethod
    def _chunk(started: Started, delta: Mapping[str, str], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _head(started, "chat.completion.chunk", [choice])


class TextShape:
    """`/v1/completions`; chunks look like the plain answer."""

    def whole(self, started: Started, text: str, reason: FinishReason, usage: Usage) -> dict[str, Any]:
        """The plain answer."""
        return {**self._chunk(started, text, reason.value), "usage": _usage(usage), "gemmule": route(started)}

    def first(self, started: Started) -> dict[str, Any]:
        """An empty piece, and who answers."""
        return {**self._chunk(started, ""), "gemmule": route(started)}

    def piece(self, started: Started, text: str) -> dict[str, Any]:
        """A chunk of text."""
        return self._chunk(started, text)

    def last(self, started: Started, reason: FinishReason) -> dict[str, Any]:
        """The chunk with the reason."""
        return self._chunk(started, "", reason.value)

    def usage(self, started: Started, usage: Usage) -> dict[str, Any]:
        """The chunk with the tokens used."""
        return {**_head(started, "text_completion", []), "usage": _usage(usage)}

    @staticmethod
    def _chunk(started: Started, text: str, reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
        return _head(started, "text_completion", [choice])


def route(started: Started) -> dict[str, Any]:
    """The answer's field `gemmule`: who answered, and why."""
    return {
        "size": started.size.value,
        "tier": started.tier.value if started.tier else None,
        "checkpoint": started.checkpoint,
        "replica": started.replica,
        "reason": started.reason,
        "detail": started.detail,
        "stand_in": started.stand_in,
    }


def route_headers(started: Started) -> dict[str, str]:
    """The same in headers, for those who do not read bodies."""
    headers = {
        "x-gemmule-size": started.size.value,
        "x-gemmule-route": started.reason,
        "x-gemmule-replica": started.replica,
    }
    return headers | ({"x-gemmule-tier": started.tier.value} if started.tier else {})


def model_object(card: ModelCard) -> dict[str, Any]:
    """An entry of `/v1/models`."""
    fields = asdict(card)
    owner = "gemmule" if card.is_tier else "google"
    checkpoint = fields.pop("checkpoint")
    if card.stand_in:
        owner = "gemmule"
    kind = {"kind": "tier" if fields.pop("is_tier") else "size"}
    rest = {name: value for name, value in fields.items() if value is not None and name not in ("id", "created")}
    named = {} if checkpoint is None else {"checkpoint": checkpoint}
    return {"id": card.id, "object": "model", "created": card.created, "owned_by": owner, **kind, **named, **rest}


def _head(started: Started, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": started.request_id,
        "object": kind,
        "created": started.created,
        "model": Size(started.size).value,
        "system_fingerprint": None,
        "choices": choices,
    }


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.prompt_tokens + usage.output_tokens,
    }
