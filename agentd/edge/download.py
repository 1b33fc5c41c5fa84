"""A response of many pages: lines of JSON, made as the client takes them.

No page is read before the one before it has gone to the transport, so a download holds one page in memory, however
long it is. Who reads nothing for `STALLED_S` is cut off. What breaks in the middle breaks the response off: the client
sees that it is not whole, and the form of an export says so again.
"""

import asyncio
from collections.abc import AsyncIterator

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from agentd.edge.connection import CONNECTION, HttpConnection
from agentd.edge.refusal import SocketsFull
from agentd.protocol.errors import AgentdError

STALLED_S = 60.0
DOWNLOADS_MAX = 64
"""At once; each holds a page and asks the store's readers for the next."""

log = structlog.get_logger(__name__)


class Downloads:
    """How many there are."""

    def __init__(self) -> None:
        self.open = 0

    def check_room(self) -> None:
        """Raises SocketsFull when there are as many as may be."""
        if self.open >= DOWNLOADS_MAX:
            raise SocketsFull(
                used=self.open, limit=DOWNLOADS_MAX, message="the server gives as many downloads as it may"
            )


class Download(Response):
    """The pages as one response of NDJSON. `name`: what a browser saves it as, if it is to be saved."""

    def __init__(self, downloads: Downloads, pages: AsyncIterator[bytes], name: str | None = None) -> None:
        self.status_code = 200
        self.background = None
        headers = {"content-type": "application/x-ndjson", "cache-control": "no-store"}
        if name is not None:
            headers["content-disposition"] = f'attachment; filename="{name}.ndjson"'
        self.init_headers(headers)
        self._downloads = downloads
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection: HttpConnection = scope["extensions"][CONNECTION]
        transport = connection.transport
        self._downloads.open += 1
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                async for page in self._pages:
                    if transport.is_closing():
                        return
                    async with asyncio.timeout(STALLED_S):
                        await send({"type": "http.response.body", "body": page, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except (AgentdError, TimeoutError) as error:
            log.warning("download.broken_off", path=scope["path"], reason=str(error) or "the client reads nothing")
            transport.abort()
        finally:
            self._downloads.open -= 1
