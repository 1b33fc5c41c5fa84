"""A TCP connection before it is a WebSocket: uvicorn's HTTP protocol, with the deadlines and bounds it lacks.

What uvicorn leaves open and this class closes: no time-out runs before a request is complete; headers may be of any
size; bytes behind an upgrade request in the same segment are dropped; an upgrade is taken over while an earlier
response is still being written; and after an upgrade the HTTP protocol is never told that it is over, which leaves
a reference cycle. The contract tests hold every uvicorn name used here.
"""

import asyncio
import socket as sockets
from collections.abc import Callable

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from agentd.clock import Timer
from agentd.edge.flush import Flushable
from agentd.edge.hub import Hub
from agentd.edge.refusal import SocketsFull, refusal
from agentd.protocol.errors import AgentdError, InvalidPayload, Timeout, TooLarge

HEADERS_TOO_LARGE = 431
REQUEST_TIMEOUT = 408
CONNECTION = "agentd.connection"
"""The ASGI extension under which a response finds its connection: one without an end writes for itself, sees what its
client reads, and can cut it off."""


class HttpConnection(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        hub: Hub,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config=config, server_state=server_state, app_state=app_state, _loop=_loop)
        self._hub = hub
        self._in_headers = True
        self._header_bytes = 0
        self._header_deadline: Timer | None = None
        self.on_writable: Callable[[], None] | None = None
        """Called when the kernel takes bytes again; and `on_lost` when the client is gone. A response that sets them
        takes them back at its end."""
        self.on_lost: Callable[[], None] | None = None

    @property
    def blocked(self) -> bool:
        """The kernel takes nothing now."""
        return self.flow.write_paused

    def at_turn_end(self, writer: Flushable) -> None:
        """Have `writer` write with all sockets that have something to say in this loop turn."""
        self._hub.flusher.at_turn_end(writer)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.on_writable is not None:  # as an appointment, so that nothing is closed in here
            asyncio.get_running_loop().call_soon(self.on_writable)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        raw = transport.get_extra_info("socket")
        if raw is not None:  # head and body are two writes; without it the second waits 40 ms for an ACK
            raw.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
        limit = self._hub.limits.sockets + self._hub.limits.connections_beside
        if len(self.connections) > limit:
            error = SocketsFull(used=limit, limit=limit, message="the server has as many connections as it may")
            self._refuse(error)
        else:
            self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_came()
        super().connection_lost(exc)
        self._hub.left.set()
        if self.on_lost is not None:
            self.on_lost()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._in_headers:
            self._header_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._take_over(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(InvalidPayload("not a valid HTTP request", path="request"))
        else:
            self._check_headers()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CONNECTION: self}  # type: ignore[dict-item]
        self._in_headers = True
        self._await_headers()

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._header_bytes = 0
        self._headers_came()
        super().on_headers_complete()

    def timeout_keep_alive_handler(self) -> None:
        self._headers_came()
        super().timeout_keep_alive_handler()

    def _take_over(self, rest: bytes) -> None:
        """An upgrade request is complete; `rest` came behind it in the same segment."""
        if not self._should_upgrade():
            return  # another protocol than WebSocket: answered as the plain request it also is
        if self.cycle is not None and not self.cycle.response_complete:
            self._refuse(InvalidPayload("an upgrade may not follow an unanswered request", path="handshake"))
            return
        if self.scope["http_version"] != "1.1":
            self._refuse(InvalidPayload("a WebSocket upgrade needs HTTP/1.1", path="handshake"))
            return
        self.handle_websocket_upgrade()
        socket = self.transport.get_protocol()
        # With an exception, because without one uvicorn would close the transport.
        self.connection_lost(ConnectionError("upgraded"))
        if rest and isinstance(socket, asyncio.Protocol):
            socket.data_received(rest)

    def _await_headers(self) -> None:
        if self._header_deadline is None:
            self._header_deadline = self._hub.clock.call_later(self._hub.limits.header_s, self._headers_late)

    def _headers_came(self) -> None:
        if self._header_deadline is not None:
            self._header_deadline.cancel()
            self._header_deadline = None

    def _check_headers(self) -> None:
        if self._in_headers and self._header_bytes > self._hub.limits.header_bytes:
            error = TooLarge("the request's headers are too large", limit=self._hub.limits.header_bytes)
            self._refuse(error, HEADERS_TOO_LARGE)
        elif self.cycle is not None and self.cycle.response_complete and self.timeout_keep_alive_task is None:
            self._await_headers()  # bytes that begin no request must not hold the connection either

    def _headers_late(self) -> None:
        self._header_deadline = None
        self._hub.figures.header_timeouts += 1
        self._refuse(Timeout("the request's headers did not come in time"), REQUEST_TIMEOUT)

    def _refuse(self, error: AgentdError, status: int | None = None) -> None:
        """Answer and close, unless an earlier response is still being written: then only close."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(refusal(error, status=status))
        self.transport.close()
