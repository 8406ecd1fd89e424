"""One `x-request-id` per answer, behind Ray Serve's HTTP proxy.

The proxy appends an id of its own, or the client's as sent, to every answer (Ray 2.60, `RequestIdMiddleware`). As one
of the proxy's middlewares, this takes the client's away before and the proxy's away after: what is left is ours.
"""

from typing import Final

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_NAME: Final = b"x-request-id"


class OneRequestId:
    """ASGI middleware; of several ids in an answer the first stays."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on with one id at most in each direction."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_once(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                ids = [header for header in headers if header[0].lower() == _NAME]
                others = [header for header in headers if header[0].lower() != _NAME]
                message = {**message, "headers": others + ids[:1]}
            await send(message)

        incoming = [header for header in scope["headers"] if header[0].lower() != _NAME]
        await self._app({**scope, "headers": incoming}, receive, send_once)


def proxy_middlewares() -> list[Middleware]:
    """For `RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`, which must be set before Ray starts."""
    return [Middleware(OneRequestId)]
