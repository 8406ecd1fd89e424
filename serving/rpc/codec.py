"""protobuf <-> ask, part, fault. Requests end in the same validator as REST bodies, so errors are the same."""

from typing import Any, Final

from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from model.errors import Fault
from model.events import Finished, FinishReason, TokenEvent, Usage
from serving.ask import Ask, chat_ask, text_ask
from serving.models import ModelCard
from serving.rpc.gen.gemmule.v1 import gemmule_pb2 as pb
from serving.service import Part, Started
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


def ask_of(message: pb.GenerateRequest) -> Ask:
    """The validated form; raises `InvalidRequestError` with the paths of the REST fields."""
    raw: dict[str, Any] = {
        name: getattr(message, name) for name in ("model", "deadline_ms", "user") if message.HasField(name)
    }
    sampling = message.sampling
    for name in ("max_tokens", "temperature", "top_p", "top_k"):
        if sampling.HasField(name):
            raw[name] = getattr(sampling, name)
    if sampling.stop:
        raw["stop"] = list(sampling.stop)
    if message.metadata:
        raw["metadata"] = dict(message.metadata)
    match message.WhichOneof("input"):
        case "prompt":
            return text_ask({**raw, "prompt": message.prompt})
        case "prompt_token_ids":
            return text_ask({**raw, "prompt_token_ids": list(message.prompt_token_ids.ids)})
        case "chat":
            return chat_ask({**raw, "messages": [_turn(turn) for turn in message.chat.messages]})
        case _:
            return chat_ask(raw)  # says that messages are missing


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
        case TokenEvent():
            return pb.GenerateResponse(chunk=pb.Chunk(text=part.text, token_ids=part.token_ids))
        case Finished():
            usage = pb.Usage(prompt_tokens=part.usage.prompt_tokens, output_tokens=part.usage.output_tokens)
            return pb.GenerateResponse(finished=pb.Finished(reason=_REASONS[part.reason], usage=usage))


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


def trailing(request_id: str, started: Started | None = None, usage: Usage | None = None) -> Metadata:
    """Trailing metadata, with what is known by now; the names are those of REST's headers."""
    metadata: Metadata = [("x-request-id", request_id)]
    if started is not None:
        metadata += [
            ("x-gemmule-size", started.size.value),
            ("x-gemmule-route", started.reason),
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
