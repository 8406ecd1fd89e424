"""Parts of an answer -> OpenAI's objects, for chats and for completions."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Protocol

from model.config import Size
from model.events import FinishReason, Usage
from serving.models import ModelCard
from serving.parts import Ended, Piece, Scored, Started
from serving.rest.choices import Whole
from serving.rest.logprobs import chat_logprobs, text_logprobs


class Shape(Protocol):
    """How one of OpenAI's two endpoints words an answer."""

    @property
    def token_ids(self) -> bool:
        """Whether choices have the ids of their tokens, as `return_token_ids` asks for."""

    def whole(self, whole: Whole, scored: bool) -> dict[str, Any]:
        """The plain answer; `scored` when log-probabilities were asked for."""

    def first(self, started: Started, index: int) -> dict[str, Any]:
        """First chunk of a choice."""

    def piece(self, started: Started, piece: Piece) -> dict[str, Any]:
        """A chunk of text."""

    def last(self, started: Started, index: int, reason: FinishReason) -> dict[str, Any]:
        """The chunk with the reason."""

    def end(self, started: Started, ended: Ended) -> dict[str, Any]:
        """The chunk without choices: what it cost."""


@dataclass(frozen=True, slots=True)
class ChatShape:
    """`/v1/chat/completions`."""

    token_ids: bool = False

    def whole(self, whole: Whole, scored: bool) -> dict[str, Any]:
        """The plain answer."""
        choices = [
            {
                "index": choice.index,
                "message": {"role": "assistant", "content": choice.text, "refusal": None},
                "logprobs": chat_logprobs(choice.scores) if scored else None,
                "finish_reason": choice.reason.value,
                **_ids(self, choice.token_ids),
            }
            for choice in whole.choices
        ]
        head = _head(whole.started, "chat.completion", choices)
        return {**head, "usage": _usage(whole.ended.usage), "gemmule": route(whole.started) | spent(whole.ended)}

    def first(self, started: Started, index: int) -> dict[str, Any]:
        """The role, and who answers."""
        return {**self._chunk(started, index, {"role": "assistant", "content": ""}), **_route_once(started, index)}

    def piece(self, started: Started, piece: Piece) -> dict[str, Any]:
        """A chunk of text."""
        return self._chunk(
            started, piece.index, {"content": piece.text}, None, piece.scores, _ids(self, piece.token_ids)
        )

    def last(self, started: Started, index: int, reason: FinishReason) -> dict[str, Any]:
        """The chunk with the reason."""
        return self._chunk(started, index, {}, reason.value)

    def end(self, started: Started, ended: Ended) -> dict[str, Any]:
        """The chunk without choices: what it cost."""
        return {**_head(started, "chat.completion.chunk", []), "usage": _usage(ended.usage), "gemmule": spent(ended)}

    @staticmethod
    def _chunk(
        started: Started,
        index: int,
        delta: Mapping[str, str],
        reason: str | None = None,
        scores: Sequence[Scored] = (),
        ids: Mapping[str, list[int]] = MappingProxyType({}),
    ) -> dict[str, Any]:
        logprobs = chat_logprobs(scores) if scores else None
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason, **ids}
        return _head(started, "chat.completion.chunk", [choice])


@dataclass(frozen=True, slots=True)
class TextShape:
    """`/v1/completions`; chunks look like the plain answer."""

    token_ids: bool = False

    def whole(self, whole: Whole, scored: bool) -> dict[str, Any]:
        """The plain answer."""
        choices = [
            self._choice(
                choice.index, choice.text, choice.reason.value, text_logprobs(choice.scores) if scored else None
            )
            | _ids(self, choice.token_ids)
            for choice in whole.choices
        ]
        head = _head(whole.started, "text_completion", choices)
        return {**head, "usage": _usage(whole.ended.usage), "gemmule": route(whole.started) | spent(whole.ended)}

    def first(self, started: Started, index: int) -> dict[str, Any]:
        """An empty piece, and who answers."""
        return {**self._chunk(started, self._choice(index, "")), **_route_once(started, index)}

    def piece(self, started: Started, piece: Piece) -> dict[str, Any]:
        """A chunk of text."""
        logprobs = text_logprobs(piece.scores) if piece.scores else None
        ids = () if piece.of_prompt else piece.token_ids
        return self._chunk(started, self._choice(piece.index, piece.text, None, logprobs) | _ids(self, ids))

    def last(self, started: Started, index: int, reason: FinishReason) -> dict[str, Any]:
        """The chunk with the reason."""
        return self._chunk(started, self._choice(index, "", reason.value))

    def end(self, started: Started, ended: Ended) -> dict[str, Any]:
        """The chunk without choices: what it cost."""
        return {**_head(started, "text_completion", []), "usage": _usage(ended.usage), "gemmule": spent(ended)}

    @staticmethod
    def _choice(
        index: int, text: str, reason: str | None = None, logprobs: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}

    @staticmethod
    def _chunk(started: Started, choice: dict[str, Any]) -> dict[str, Any]:
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


def _ids(shape: Shape, token_ids: Sequence[int]) -> dict[str, list[int]]:
    return {"token_ids": list(token_ids)} if shape.token_ids else {}


def spent(ended: Ended) -> dict[str, Any]:
    """The rest of that field, known at the end: what it cost, and if asked for, which size wrote what."""
    cost = {"cost_usd": ended.cost_usd}
    if ended.sizes is None:
        return cost
    return {**cost, "sizes": [{"size": part.size.value, "tokens": part.tokens} for part in ended.sizes]}


def _route_once(started: Started, index: int) -> dict[str, Any]:
    return {} if index else {"gemmule": route(started)}


def route_headers(started: Started) -> dict[str, str]:
    """The same in headers, for those who do not read bodies."""
    headers = {
        "x-gemmule-size": started.size.value,
        "x-gemmule-route": started.reason,
        "x-gemmule-route-detail": started.detail,
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
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {
            "accepted_prediction_tokens": usage.accepted_draft_tokens,
            "rejected_prediction_tokens": usage.rejected_draft_tokens,
        },
    }
