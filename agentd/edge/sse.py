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
from agentd.edge.connection import TRANSPORT
from agentd.edge.outbox import Outbox
from agentd.edge.stream import NOTSENT_LOWAT_BYTES
from agentd.supervisor import Supervisor

PING = b": ping\n\n"
GONE_MS = 60_000  # a client whose machine acknowledges nothing for so long is gone
HEADERS = {"content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no"}
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
    """A `Sink`. `begin` is called when the response has started: it greets and begins to follow, without waiting.
    `left` is called exactly once after that."""

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
        self._wake = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._ended = False
        self._lost = False

    # ---- the follower's side ----------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        return self._outbox.full

    @property
    def closed(self) -> bool:
        return self._ended or self._lost

    def send(self, frame: bytes, *, soon: bool = False) -> None:
        """Take a frame, if it belongs to this stream. What waits in one loop turn leaves in one write."""
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
        self._wake.set()

    # ---- the sweep's side -------------------------------------------------------------------------------------------

    def ping(self) -> None:
        if not self._outbox.waiting and not self.closed:
            self._put(PING)

    def unread(self) -> int:
        """Bytes that the kernel has not taken from the transport."""
        transport = self._transport
        return 0 if transport is None or transport.is_closing() else transport.get_write_buffer_size()

    def abort(self) -> None:
        """End the connection now; what waits is lost."""
        self._lost = True
        self._outbox.drop_waiting()
        self._wake.set()
        if self._transport is not None:
            self._transport.abort()

    # ---- the response's side ----------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        transport = self._transport = scope.get("extensions", {}).get(TRANSPORT)
        if transport is not None and not transport.is_closing():
            _configure(transport)
        follower = self._begin(self)
        self._shared.open.add(self)
        gone = self._shared.supervisor.start("sse.gone", self._listen(receive))
        try:
            await self._write(send)
        finally:
            self._lost = True
            self._shared.open.discard(self)
            follower.feed.remove(follower)
            self._left()
            gone.cancel()
            if transport is not None and not transport.is_closing():
                transport.set_write_buffer_limits()  # the connection may serve other requests

    async def _listen(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._lost = True
        self._wake.set()

    async def _write(self, send: Send) -> None:
        outbox, clock = self._outbox, self._shared.clock
        while not self._lost:
            if not outbox.waiting:
                if self._ended:
                    await send({"type": "http.response.body", "body": b""})
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            batch = outbox.take()
            await send({"type": "http.response.body", "body": batch, "more_body": True})
            self.moved_s = clock.monotonic_s()
            outbox.landed()
            if outbox.over and outbox.fell() and self.on_drained is not None:
                self.on_drained()

    def _put(self, text: bytes) -> None:
        self._outbox.put(text)
        self._wake.set()


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
