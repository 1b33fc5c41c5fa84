"""A lean WebSocket client: the library's Sans-I/O protocol in our own asyncio protocol, every frame told with its time.

Frames are handed over inside `data_received`, without a task or a queue between, so that the time told is the time of
arrival and one core suffices for thousands of turns a second. Reading can be stopped, as a slow client does it.
"""

import asyncio
import socket as sockets
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec
from websockets.client import ClientProtocol
from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from agentd.bench.frames import Frame, decode
from agentd.clock import Clock

OPEN_S = 30.0
CLOSE_S = 2.0


class NotOpened(Exception):
    """The server refused the upgrade or could not be reached."""


class Listener:
    """Whom a socket tells."""

    def heard(self, frame: Frame, now_s: float, data: bytes) -> None:
        """A frame that arrived at `now_s` on the clock's monotonic time."""

    def unreadable(self, what: str) -> None:
        """A frame that is not what the documentation says."""

    def lost(self, why: str) -> None:
        """The connection ended, and `close` had not been called."""


class Socket(asyncio.Protocol):
    """One connection; made by `connect`."""

    def __init__(self, url: str, token: str | None, listener: Listener, clock: Clock) -> None:
        self._protocol = ClientProtocol(parse_uri(url), max_size=None)
        self._token = token
        self._listener = listener
        self._clock = clock
        self._transport: Any = None
        self._pieces: list[bytes] = []
        self._closing = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.bytes_received = 0

    def send(self, frame: dict[str, Any]) -> None:
        """One request as a text frame. Never waits: an open-loop client does not. On a connection that the server has
        closed it goes nowhere, and the checker finds it without an answer."""
        if self._protocol.state is not State.OPEN:
            return
        self._protocol.send_text(msgspec.json.encode(frame))
        self._flush()

    def stop_reading(self) -> None:
        self._transport.pause_reading()

    def read_on(self) -> None:
        self._transport.resume_reading()

    async def close(self) -> None:
        """Leave as a good client does, and cut the connection when the server does not answer in time."""
        self._closing = True
        if self._transport is None or self.ended.done():
            return
        self._protocol.send_close(1000, "")
        self._flush()
        await asyncio.wait([self.ended], timeout=CLOSE_S)
        self._transport.abort()

    # ---- asyncio.Protocol -------------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
        request = self._protocol.connect()
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        self._protocol.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        now_s = self._clock.monotonic_s()
        self.bytes_received += len(data)
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, WireFrame):
                self._framed(event, now_s)
            elif isinstance(event, Response):
                self._answered(event)
        self._flush()

    def eof_received(self) -> bool:
        self._protocol.receive_eof()
        self._flush()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(NotOpened(str(error or "the server closed the connection")))
            self.opened.exception()  # whoever gave up waiting must not be warned about it
        elif not self._closing:
            self._listener.lost(str(error or f"closed with {self._protocol.close_code} {self._protocol.close_reason}"))
        if not self.ended.done():
            self.ended.set_result(None)

    def _answered(self, response: Response) -> None:
        if self.opened.done():
            return
        if response.status_code == 101:
            self.opened.set_result(None)
        else:
            body = (response.body or b"")[:300].decode("utf-8", "replace")
            self.opened.set_exception(NotOpened(f"the upgrade was answered {response.status_code}: {body}"))

    def _framed(self, event: WireFrame, now_s: float) -> None:
        if event.opcode not in (Opcode.TEXT, Opcode.CONT):
            return
        self._pieces.append(bytes(event.data))
        if not event.fin:
            return
        data, self._pieces = b"".join(self._pieces), []
        try:
            frame = decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return self._listener.unreadable(f"{error}: {data[:200]!r}")
        self._listener.heard(frame, now_s, data)

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._transport.write_eof()


async def connect(
    url: str, token: str | None, listener: Listener, clock: Clock, *, receive_buffer: int | None = None
) -> Socket:
    """An open socket. `receive_buffer`: bytes the kernel may hold for us, so that a slow client is soon felt.

    Raises NotOpened.
    """
    made = Socket(url, token, listener, clock)
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(OPEN_S):
            raw = sockets.socket(sockets.AF_INET, sockets.SOCK_STREAM)
            raw.setblocking(False)
            if receive_buffer is not None:
                raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, receive_buffer)
            loop = asyncio.get_running_loop()
            await _reach(loop, raw, (parts.hostname or "127.0.0.1", parts.port or 80))
            await loop.create_connection(_same(made), sock=raw)
            await made.opened
    except TimeoutError:
        raise NotOpened(f"not opened within {OPEN_S:.0f} s") from None
    except OSError as error:
        raise NotOpened(str(error)) from None
    return made


async def _reach(loop: asyncio.AbstractEventLoop, raw: sockets.socket, address: tuple[str, int]) -> None:
    try:
        await loop.sock_connect(raw, address)
    except BaseException:
        raw.close()
        raise


def _same(made: Socket) -> Callable[[], Socket]:
    return lambda: made
