"""The routes. Each translates, calls the service, and translates back."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException

from cluster.snapshot import ClusterStatus
from model.errors import Code, Fault, ModelNotFoundError, NotReadyError
from model.request import RequestId
from serving.ask import ChatAsk, TextAsk
from serving.asking import chat_ask, text_ask
from serving.echo import echo
from serving.edge import fault_of
from serving.profiling import ProfileAsk
from serving.rest.answer import Limits, answer
from serving.rest.hangup import HungUp
from serving.rest.linger import LingeringResponse
from serving.rest.openapi import body_of, document, refusals
from serving.rest.predicted import predicted
from serving.rest.profiled import profiled
from serving.rest.quoted import quoted
from serving.rest.schemas import ChatShape, TextShape, model_object
from serving.service import Service
from serving.status import error_body, error_headers, status_of

log = logging.getLogger("gemmule.rest")

_CLIENT_LEFT: Final = 499
_UNREAD: Final = frozenset({408, 413, 415})  # refused before the body was read
_STATUS: Final = TypeAdapter(ClusterStatus)

Handler = Callable[[Request, RequestId], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class PredictionRoutes:
    """Where Vertex AI's contract is answered; None nowhere."""

    predict: str | None = None
    health: str | None = None


def build_app(
    get_service: Callable[[], Service], limits: Limits | None = None, prediction: PredictionRoutes | None = None
) -> FastAPI:
    """The ASGI application; `get_service` is called once per request."""
    face = RestFace(get_service, limits or Limits())
    app = FastAPI(
        title="gemmule",
        version="1",
        description="Gemma 2 in all three sizes behind one endpoint, routed by cost tier.",
        redirect_slashes=False,
    )
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    app.add_exception_handler(HTTPException, face.refuse_http)
    refused = refusals(400, 404, 413, 415, 429, 503, 504)
    face.add(app, "POST", "/v1/chat/completions", face.chat, openapi_extra=body_of(ChatAsk), responses=refused)
    face.add(app, "POST", "/v1/completions", face.text, openapi_extra=body_of(TextAsk), responses=refused)
    quotes = refusals(400, 404, 413, 415)
    face.add(app, "POST", "/v1/quote", face.quote, openapi_extra=body_of(ChatAsk, TextAsk), responses=quotes)
    face.add(app, "GET", "/v1/models", face.models)
    named = {"parameters": [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]}
    face.add(app, "GET", "/v1/models/{model:path}", face.model, openapi_extra=named, responses=refusals(404))
    face.add(app, "GET", "/v1/status", face.status)
    sized = {"parameters": [{"name": "size", "in": "query", "required": False, "schema": {"type": "string"}}]}
    face.add(app, "GET", "/readyz", face.readyz, openapi_extra=sized, responses=refusals(404, 503))
    face.add(app, "GET", "/metrics", face.metrics)
    wrong = refusals(400, 404, 413, 415, 429, 503)
    face.add(app, "POST", "/admin/profile", face.profile, openapi_extra=body_of(ProfileAsk), responses=wrong)
    app.add_api_route("/healthz", healthz, methods=["GET"])
    if prediction and prediction.predict:
        face.add(app, "POST", prediction.predict, face.predict, responses=refused)
    if prediction and prediction.health:
        face.add(app, "GET", prediction.health, face.readyz, responses=refusals(503))
    return app


async def healthz() -> dict[str, str]:
    """The process can answer; nothing else is asked."""
    return {"status": "ok"}


@dataclass(frozen=True, slots=True)
class RestFace:
    """Handlers take the request and its id; whatever they raise is answered in `add`."""

    get_service: Callable[[], Service]
    limits: Limits

    def add(self, app: FastAPI, method: str, path: str, handler: Handler, **described: Any) -> None:
        """Add a route; the outermost frame of every request is here."""

        async def guarded(request: Request) -> Response:
            request_id = self.get_service().new_request_id()
            try:
                return await handler(request, request_id)
            except HungUp:
                return Response(status_code=_CLIENT_LEFT)
            except Exception as error:  # nothing of an unknown exception may reach the client
                return _refusal(fault_of(error, request_id), request_id)

        guarded.__doc__ = handler.__doc__
        name = path.strip("/").replace("/", "_")
        app.add_api_route(path, guarded, methods=[method], name=name, response_model=None, **described)

    async def chat(self, request: Request, request_id: RequestId) -> Response:
        """Answer a chat, whole or as server-sent events."""
        return await answer(self.get_service(), request, request_id, chat_ask, ChatShape, self.limits)

    async def text(self, request: Request, request_id: RequestId) -> Response:
        """Continue a text, whole or as server-sent events."""
        return await answer(self.get_service(), request, request_id, text_ask, TextShape, self.limits)

    async def quote(self, request: Request, request_id: RequestId) -> Response:
        """Price, time and quality of a chat or a text on every size, and which would answer; runs nothing."""
        return await quoted(self.get_service(), request, request_id, self.limits)

    async def predict(self, request: Request, request_id: RequestId) -> Response:
        """Answer many chats or texts at once, as Vertex AI asks its prediction containers."""
        return await predicted(self.get_service(), request, request_id, self.limits)

    async def models(self, _request: Request, request_id: RequestId) -> Response:
        """Sizes and tiers that `model` may name."""
        cards = await self.get_service().models()
        return _json({"object": "list", "data": [model_object(card) for card in cards]}, request_id)

    async def model(self, request: Request, request_id: RequestId) -> Response:
        """One of them."""
        cards = {card.id: card for card in await self.get_service().models()}
        name = str(request.path_params["model"])
        if name not in cards:
            raise ModelNotFoundError(name, tuple(cards))
        return _json(model_object(cards[name]), request_id)

    async def status(self, _request: Request, request_id: RequestId) -> Response:
        """Sizes, replicas and ranks."""
        return _json(_STATUS.dump_python(await self.get_service().status(), mode="json"), request_id)

    async def readyz(self, request: Request, request_id: RequestId) -> Response:
        """Whether requests can be served: 200 or 503; `?size=27b` asks for one size."""
        ready, sizes = self.get_service().ready(request.query_params.get("size"))
        if ready:
            return _json({"ready": True, "sizes": sizes}, request_id)
        down = ", ".join(size for size, up in sizes.items() if not up)
        fault = NotReadyError(f"not ready; without a replica: {down}", 1.0).fault
        refusal = {"ready": False, "sizes": sizes, **error_body(fault, request_id)}
        return _json(refusal, request_id, status_of(fault).http, error_headers(fault))

    async def metrics(self, _request: Request, request_id: RequestId) -> Response:
        """Numbers of this process and of every replica, in Prometheus' format."""
        text = await self.get_service().render_metrics()
        return Response(text, headers={"x-request-id": request_id}, media_type=CONTENT_TYPE_LATEST)

    async def profile(self, request: Request, request_id: RequestId) -> Response:
        """For operators: where a replica's next seconds go, as a Chrome trace, and on demand its stacks."""
        return await profiled(self.get_service(), request, request_id, self.limits.body)

    async def refuse_http(self, request: Request, error: Exception) -> Response:
        """What the framework refuses: unknown addresses and methods."""
        if not isinstance(error, HTTPException):
            raise error
        request_id = self.get_service().new_request_id()
        where = f"{request.method} {echo(request.url.path)}"
        if error.status_code == 405:
            what, reason = f"{where}: the address does not take this method; see /docs", "method_not_allowed"
        elif error.status_code == 404:
            what, reason = f"{where}: there is no such address; see /docs", "unknown_url"
        else:
            what, reason = f"{where}: {error.detail}", "invalid_request"
        return _refusal(Fault(Code.INVALID_REQUEST, what, reason), request_id, error.headers or {})


def _json(
    body: Any, request_id: RequestId, status: int = 200, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    return JSONResponse(body, status, {"x-request-id": request_id, **(headers or {})})


def _refusal(fault: Fault, request_id: str, headers: Mapping[str, str] | None = None) -> Response:
    status = status_of(fault).http
    kind = LingeringResponse if status in _UNREAD else JSONResponse
    every = {"x-request-id": request_id, **error_headers(fault), **(headers or {})}
    return kind(error_body(fault, request_id), status, every)
