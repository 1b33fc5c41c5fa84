"""One stream of server-sent events: a follower's sink on one side, an HTTP response on the other.

A fact is an event with its seq as `id`; what has no number (deltas, figures, liveness) is one without. `data` is the
frame byte for byte. The outbox is bounded as a socket's is: over its bounds the follower goes back to paging, and who
reads nothing is cut off by the sweep (streams.py). A run's stream lets through what is of that run, and ends with the
run's terminal fact.
"""

import asyncio
import socket as sockets
from collections.abc import Callable

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from agentd.actors.feed import Follower
from agentd.clock import Clock
from agentd.edge.connection import CONNECTION, HttpConnection
from agentd.edge.outbox import Outbox
from agentd.edge.stream import NOTSENT_LOWAT_BYTES
from agentd.supervisor import Supervisor

PING = b": ping\n\n"
GONE_MS = 60_000  # a client whose machine acknowledges nothing for so long is gone
HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
    "transfer-encoding": "chunked",  # said here, because the chunks are written here
}
ENDS = frozenset({"run.completed", "run.failed", "run.cancelled"})
FOR_ALL_RUNS = frozenset({"stream.lagged", "server.draining"})


class Event(msgspec.Struct, frozen=True, gc=False):
    """A frame as it leaves, and what a run's stream has to know of it."""

    text: bytes
    type: str
    run: str | None


class _Head(msgspec.Struct, gc=False):
    type: str
    seq: int | None = None
    run: str | None = None


_heads = msgspec.json.Decoder(_Head)


def event_of(frame: bytes) -> Event:
    """The event of a fact or a signal. `stream.lagged` names a seq that is not its own."""
    head = _heads.decode(frame)
    kind = head.type.encode()
    if head.seq is None or head.type == "stream.lagged":
        return Event(b"event: %b\ndata: %b\n\n" % (kind, frame), head.type, head.run)
    return Event(b"id: %d\nevent: %b\ndata: %b\n\n" % (head.seq, kind, frame), head.type, head.run)


class SharedEvents:
    """Remembers the last frame by identity: a fan-out hands the same object to one stream after another."""

    __slots__ = ("_event", "_frame")

    def __init__(self) -> None:
        self._frame: bytes | None = None
        self._event = Event(b"", "", None)

    def of(self, frame: bytes) -> Event:
        if frame is not self._frame:
            self._event = event_of(frame)
            self._frame = frame
        return self._event


class EventStream(Response):
    """A `Sink` and a `Flushable`: what one loop turn gave to it leaves in one write, as a socket's does; to wake a task
    for each write would cost as much as the writing. `begin` is called when the response has started: it greets and
    begins to follow, without waiting. `left` is called exactly once after that."""

    def __init__(
        self,
        shared: "Streaming",
        begin: Callable[["EventStream"], Follower],
        left: Callable[[], None],
        *,
        run: str | None = None,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(HEADERS)
        self.on_drained: Callable[[], None] | None = None
        self.moved_s = shared.clock.monotonic_s()
        """When something was last given to the transport, or the client was last seen to read."""
        self.backlog = 0
        """What the transport held at the last sweep."""
        self._shared = shared
        self._begin = begin
        self._left = left
        self._run = run
        self._outbox = Outbox(shared.outbox_bytes, shared.outbox_frames)
        self._connection: HttpConnection | None = None
        self._over = asyncio.Event()
        self._due = False
        self._ended = False
        self._lost = False

    # ---- the follower's side ----------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        return self._outbox.full

    @property
    def outbox_bytes(self) -> int:
        return self._outbox.size

    @property
    def closed(self) -> bool:
        return self._ended or self._lost

    def send(self, frame: bytes, *, soon: bool = False) -> None:
        """Take a frame, if it belongs to this stream."""
        if self._ended or self._lost:
            return
        event = self._shared.events.of(frame)
        if self._run is None:
            self._put(event.text)
        elif event.run == self._run:
            self._put(event.text)
            self._ended = event.type in ENDS
        elif event.type in FOR_ALL_RUNS:
            self._put(event.text)

    def greet(self, frame: bytes, kind: str) -> None:
        """The first event: without id, whatever numbers it names."""
        self._put(b"event: %b\ndata: %b\n\n" % (kind.encode(), frame))

    def close(self, code: int, reason: str, *, last: bytes | None = None) -> None:
        if last is not None:
            self.send(last)
        self.end()

    def end(self) -> None:
        """Let what waits go out, then end the response."""
        self._ended = True
        self._flush_at_turn_end()

    # ---- the sweep's side -------------------------------------------------------------------------------------------

    def ping(self) -> None:
        if not self._outbox.waiting and not self.closed:
            self._put(PING)

    def unread(self) -> int:
        """Bytes that the kernel has not taken from the transport."""
        if self._connection is None or self._connection.transport.is_closing():
            return 0
        return self._connection.transport.get_write_buffer_size()

    def abort(self) -> None:
        """End the connection now; what waits is lost."""
        if self._connection is not None:
            self._connection.transport.abort()
        self._gone()

    # ---- the response's side ----------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        connection: HttpConnection = scope["extensions"][CONNECTION]
        if scope["method"] == "HEAD" or connection.transport.is_closing():
            await send({"type": "http.response.body", "body": b""})
            return
        _configure(connection.transport)
        self._connection = connection
        connection.on_writable, connection.on_lost = self._writable, self._gone
        follower = self._begin(self)
        self._shared.open.add(self)
        try:
            await self._over.wait()
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._lost = True
            connection.on_writable = connection.on_lost = None
            self._shared.open.discard(self)
            follower.feed.remove(follower)
            self._left()
            if not connection.transport.is_closing():
                connection.transport.set_write_buffer_limits()  # it may serve other requests

    def flush(self) -> None:
        """Write what waits, in batches, for as long as the kernel takes all of a batch."""
        self._due = False
        connection, outbox = self._connection, self._outbox
        if self._lost or connection is None or connection.transport.is_closing():
            return
        while outbox.waiting and not connection.blocked:
            batch = outbox.take()
            connection.transport.write(b"%x\r\n%b\r\n" % (len(batch), batch))  # may block
            self.moved_s = self._shared.clock.monotonic_s()
            if not connection.blocked:
                outbox.landed()
        if connection.blocked:
            return
        if outbox.over and outbox.fell() and self.on_drained is not None:
            self.on_drained()
        if self._ended and not outbox.waiting:
            self._over.set()

    def _writable(self) -> None:
        self._outbox.landed()
        self.flush()

    def _gone(self) -> None:
        self._lost = True
        self.on_drained = None
        self._outbox.drop_waiting()
        self._over.set()

    def _put(self, text: bytes) -> None:
        self._outbox.put(text)
        self._flush_at_turn_end()

    def _flush_at_turn_end(self) -> None:
        if not self._due and self._connection is not None:
            self._due = True
            self._connection.at_turn_end(self)


def _configure(transport: asyncio.Transport) -> None:
    """Learn at once when the kernel takes no more, let it take little, and have it give up a client that is gone."""
    transport.set_write_buffer_limits(high=1, low=0)  # high=0 would never resume under TLS
    raw = transport.get_extra_info("socket")
    if raw is None:
        return
    for name, value in (("TCP_NOTSENT_LOWAT", NOTSENT_LOWAT_BYTES), ("TCP_USER_TIMEOUT", GONE_MS)):
        if hasattr(sockets, name):
            raw.setsockopt(sockets.IPPROTO_TCP, getattr(sockets, name), value)


class Streaming:
    """What all streams of one server share."""

    def __init__(self, clock: Clock, supervisor: Supervisor, outbox_bytes: int, outbox_frames: int) -> None:
        self.clock = clock
        self.supervisor = supervisor
        self.outbox_bytes = outbox_bytes
        self.outbox_frames = outbox_frames
        self.events = SharedEvents()
        self.open: set[EventStream] = set()
