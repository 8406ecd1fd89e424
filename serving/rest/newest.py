"""The ASGI application of the newest settings; a request ends with the one it began with."""

from starlette.types import ASGIApp, Receive, Scope, Send


class Newest:
    """`app` may be another at any time; there is none before the first settings, and nobody asks then."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As every ASGI application."""
        if scope["type"] == "lifespan":  # ours have nothing to open or close
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        await self.app(scope, receive, send)
