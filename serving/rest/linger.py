"""Answers a request whose body was not read, so that the client gets to see the answer."""

import asyncio
from typing import Final

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

_LINGER_S: Final = 2.0


class LingeringResponse(JSONResponse):
    """Closes the connection, but first throws away what still comes in.

    Closing at once with bytes unread makes TCP reset the connection, and a client that is still writing never reads why
    it was refused. Nothing is kept of what is thrown away; time bounds it.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, linger, end."""
        del scope
        headers = [*self.raw_headers, (b"connection", b"close")]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        try:
            async with asyncio.timeout(_LINGER_S):
                more = True
                while more:
                    more = (await receive()).get("more_body", False)
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})
