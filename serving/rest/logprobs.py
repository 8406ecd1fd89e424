"""Scored tokens -> the `logprobs` of OpenAI's two endpoints."""

from collections.abc import Sequence
from typing import Any

from serving.parts import Scored, Spelled


def chat_logprobs(scores: Sequence[Scored]) -> dict[str, Any]:
    """Of a chat's choice: an entry for each token."""
    return {"content": [_entry(score) for score in scores], "refusal": None}


def text_logprobs(scores: Sequence[Scored]) -> dict[str, Any]:
    """Of a completion's choice: a list for each property."""
    return {
        "tokens": [_name(score.token) for score in scores],
        "token_logprobs": [score.logprob for score in scores],
        "top_logprobs": [_by_name(score) for score in scores],
        "text_offset": [score.offset for score in scores],
    }


def _entry(score: Scored) -> dict[str, Any]:
    top = [_spelled(token, logprob) for token, logprob in score.top]
    return {**_spelled(score.token, score.logprob), "top_logprobs": top}


def _spelled(token: Spelled, logprob: float | None) -> dict[str, Any]:
    raw = None if token.raw is None else list(token.raw)
    return {"token": token.name, "bytes": raw, "logprob": logprob}


def _by_name(score: Scored) -> dict[str, float] | None:
    """The likeliest and the token itself, as OpenAI promises; of two tokens of one name the likelier."""
    if score.logprob is None:
        return None
    named: dict[str, float] = {}
    for token, logprob in (*score.top, (score.token, score.logprob)):
        named.setdefault(_name(token), logprob)
    return named


def _name(token: Spelled) -> str:
    return token.name if token.is_text else f"bytes:{token.name}"
