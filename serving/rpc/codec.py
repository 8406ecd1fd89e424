"""protobuf <-> ask, part, fault. Requests end in the same validator as REST bodies, so errors are the same."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from model.errors import Fault
from model.events import FinishReason, Usage
from serving.ask import Ask
from serving.asking import chat_ask, text_ask
from serving.models import ModelCard
from serving.parts import ChoiceEnded, Ended, Part, Piece, Scored, Started
from serving.quote import Quote
from serving.rpc.gen.gemmule.v1 import gemmule_pb2 as pb
from serving.status import public, retry_after, status_of

DOMAIN: Final = "gemmule"
DETAILS_KEY: Final = "grpc-status-details-bin"
_ROLES: Final = {
    pb.ROLE_SYSTEM: "system",
    pb.ROLE_DEVELOPER: "developer",
    pb.ROLE_USER: "user",
    pb.ROLE_ASSISTANT: "assistant",
}
_REASONS: Final = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
}
_MICRO: Final = 1_000_000

Metadata = list[tuple[str, str | bytes]]


_PLAIN: Final = (
    "model", "deadline_ms", "user", "n", "echo", "prompt_lookup", "priority", "guided_json", "guided_regex",
    "guided_grammar", "max_cost", "min_quality", "allow_fallback", "include_sizes", "store",
)  # fmt: skip
_PLAIN_SAMPLING: Final = (
    "max_tokens", "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty",
    "repetition_penalty", "min_tokens", "ignore_eos", "seed", "logprobs", "top_logprobs",
)  # fmt: skip


def ask_of(message: pb.GenerateRequest) -> Ask:
    """The validated form; raises `InvalidRequestError` with the paths of the REST fields."""
    raw: dict[str, Any] = {**_set(message, _PLAIN), **_set(message.sampling, _PLAIN_SAMPLING), **_shape(message)}
    sampling = message.sampling
    for name in ("stop", "stop_token_ids"):
        if given := getattr(sampling, name):
            raw[name] = list(given)
    if sampling.logit_bias:
        raw["logit_bias"] = {str(token_id): bias for token_id, bias in sampling.logit_bias.items()}
    if message.metadata:
        raw["metadata"] = dict(message.metadata)
    if message.HasField("prediction"):
        raw["prediction"] = {"type": "content", **_set(message.prediction, ("content",))}
    match message.WhichOneof("input"):
        case "prompt":
            return text_ask({**_one_number(raw), "prompt": message.prompt})
        case "prompt_token_ids":
            return text_ask({**_one_number(raw), "prompt_token_ids": list(message.prompt_token_ids.ids)})
        case "chat":
            return chat_ask({**raw, "messages": [_turn(turn) for turn in message.chat.messages]})
        case _:
            return chat_ask(raw)  # says that messages are missing


def _set(message: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(message, name) for name in names if message.HasField(name)}


def _shape(message: pb.GenerateRequest) -> dict[str, Any]:
    raw: dict[str, Any] = {"guided_choice": list(message.guided_choice)} if message.guided_choice else {}
    if message.HasField("response_format"):
        wanted = message.response_format
        raw["response_format"] = _set(wanted, ("type",))
        if wanted.HasField("json_schema"):
            schema = _set(wanted.json_schema, ("name", "schema", "strict", "description"))
            raw["response_format"]["json_schema"] = schema
    return raw


def _one_number(raw: dict[str, Any]) -> dict[str, Any]:
    """What a chat says in two fields, `logprobs` and `top_logprobs`, a completion says in one."""
    likeliest = raw.pop("top_logprobs", None)
    if raw.pop("logprobs", False):
        return {**raw, "logprobs": likeliest or 0}
    return {**raw, "top_logprobs": likeliest} if likeliest else raw


def response_of(part: Part) -> pb.GenerateResponse:
    """One message of the answer."""
    match part:
        case Started():
            return pb.GenerateResponse(
                started=pb.Started(
                    request_id=part.request_id,
                    size=part.size.value,
                    tier=part.tier.value if part.tier else "",
                    reason=part.reason,
                    detail=part.detail,
                    replica=part.replica,
                    checkpoint=part.checkpoint,
                    stand_in=part.stand_in,
                    created=part.created,
                )
            )
        case Piece():
            chunk = pb.Chunk(
                text=part.text,
                token_ids=part.token_ids,
                index=part.index,
                logprobs=[_scored(score) for score in part.scores],
                of_prompt=part.of_prompt,
            )
            return pb.GenerateResponse(chunk=chunk)
        case ChoiceEnded():
            return pb.GenerateResponse(chunk=pb.Chunk(index=part.index, finish_reason=_REASONS[part.reason]))
        case Ended():
            return pb.GenerateResponse(
                finished=pb.Finished(
                    reason=_REASONS[part.reason],
                    usage=_usage(part.usage),
                    cost_usd=part.cost_usd,
                    sizes=[pb.Segment(size=each.size.value, tokens=each.tokens) for each in part.sizes or ()],
                )
            )


def _scored(score: Scored) -> pb.TokenLogprob:
    return pb.TokenLogprob(
        token_id=score.token.token_id,
        token=score.token.name,
        raw=score.token.raw,
        logprob=score.logprob,
        top_logprobs=[
            pb.TopLogprob(token_id=token.token_id, token=token.name, raw=token.raw, logprob=logprob)
            for token, logprob in score.top
        ],
        text_offset=score.offset,
    )


def _usage(usage: Usage) -> pb.Usage:
    return pb.Usage(
        prompt_tokens=usage.prompt_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        accepted_prediction_tokens=usage.accepted_draft_tokens,
        rejected_prediction_tokens=usage.rejected_draft_tokens,
    )


def failure_of(fault: Fault, request_id: str) -> pb.GenerateResponse:
    """The last message of a call that failed."""
    shown = public(fault, request_id)
    return pb.GenerateResponse(
        failure=pb.Failure(
            reason=shown.reason,
            message=shown.message,
            field=shown.field or "",
            retry_after_seconds=retry_after(shown) or 0,
        )
    )


def model_of(card: ModelCard) -> pb.Model:
    """An entry of the list of models."""
    return pb.Model(
        id=card.id,
        is_tier=card.is_tier,
        ready=card.ready,
        sizes=card.sizes,
        checkpoint=card.checkpoint or "",
        stand_in=card.stand_in or False,
        parameters=card.parameters or 0,
        tensor_parallel=card.tensor_parallel or 0,
        micro_usd_per_mtoken=round((card.usd_per_mtoken or 0) * _MICRO),
    )


def quote_response(quote: Quote) -> pb.QuoteResponse:
    """The answer of `Quote`."""
    return pb.QuoteResponse(
        model=quote.model,
        tier=quote.tier.value if quote.tier else "",
        chosen=quote.chosen.value if quote.chosen else "",
        then=quote.then.value if quote.then else "",
        reason=quote.reason,
        detail=quote.detail,
        sizes=[pb.SizeQuote(**asdict(each)) for each in quote.sizes],
    )


def trailing(request_id: str, started: Started | None = None, usage: Usage | None = None) -> Metadata:
    """Trailing metadata, with what is known by now; the names are those of REST's headers."""
    metadata: Metadata = [("x-request-id", request_id)]
    if started is not None:
        metadata += [
            ("x-gemmule-size", started.size.value),
            ("x-gemmule-route", started.reason),
            ("x-gemmule-route-detail", started.detail),
            ("x-gemmule-replica", started.replica),
        ]
        if started.tier is not None:
            metadata.append(("x-gemmule-tier", started.tier.value))
    if usage is not None:
        metadata += [
            ("x-gemmule-prompt-tokens", str(usage.prompt_tokens)),
            ("x-gemmule-output-tokens", str(usage.output_tokens)),
        ]
    return metadata


def details_of(fault: Fault, request_id: str) -> bytes:
    """`google.rpc.Status` for `grpc-status-details-bin`: ErrorInfo always, BadRequest and RetryInfo where they fit."""
    shown = public(fault, request_id)
    info = error_details_pb2.ErrorInfo(reason=shown.reason.upper(), domain=DOMAIN, metadata={"request_id": request_id})
    details: list[Any] = [info]
    if shown.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=shown.field, description=shown.message)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if (seconds := retry_after(shown)) is not None:
        details.append(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=seconds)))
    status = status_pb2.Status(code=status_of(shown).grpc.value[0], message=shown.message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return bytes(status.SerializeToString())


def _turn(turn: pb.Message) -> dict[str, Any]:
    if turn.role == pb.ROLE_UNSPECIFIED:
        return {"content": turn.content}  # says that the role is missing
    return {"role": _ROLES.get(turn.role, str(turn.role)), "content": turn.content}
