"""All streams of events of one server: how many, a sweep that pings the quiet ones and cuts off who reads nothing, an
end for all when the server goes.

A stream hears something at least every `PING_S`, so that proxies keep it and clients know that it lives. What is no
sign of life: bytes that only reached our own buffers. A sweep that comes late by more than `LATE_S` says nothing about
the clients (the process slept), and judges nobody.
"""

from agentd.clock import Clock
from agentd.edge.keepalive import LATE_S, SLICE
from agentd.edge.refusal import SocketsFull
from agentd.edge.sse import EventStream, Streaming
from agentd.supervisor import Supervisor

PING_S = 15.0
SWEEP_S = 5.0
STALLED_S = 60.0


class Streams(Streaming):
    """One for a server; `run` is kept while it listens."""

    def __init__(
        self, clock: Clock, supervisor: Supervisor, *, streams: int, outbox_bytes: int, outbox_frames: int
    ) -> None:
        """`streams`: how many at once; the bounds of each outbox are those of a socket's."""
        super().__init__(clock, supervisor, outbox_bytes, outbox_frames)
        self.streams_max = streams
        self.opened = 0
        self.stalled = 0

    def __len__(self) -> int:
        return len(self.open)

    @property
    def outbox_bytes_max(self) -> int:
        return max((stream.outbox_bytes for stream in self.open), default=0)

    def check_room(self) -> None:
        """Raises SocketsFull when there is no room for another stream."""
        if len(self.open) >= self.streams_max:
            raise SocketsFull(
                used=len(self.open), limit=self.streams_max, message="the server has as many streams as it may"
            )

    def end(self) -> None:
        """Let what waits go out, then end every stream; clients come back with their `Last-Event-ID`."""
        for stream in list(self.open):
            stream.end()

    async def run(self) -> None:
        """For ever: sweep."""
        while True:
            due_s = self.clock.monotonic_s() + SWEEP_S
            await self.clock.sleep(SWEEP_S)
            await self.sweep(late=self.clock.monotonic_s() > due_s + LATE_S)

    async def sweep(self, *, late: bool = False) -> None:
        """Judge every stream once."""
        streams = list(self.open)
        for start in range(0, len(streams), SLICE):
            if start:
                await self.clock.sleep(0)
            now = self.clock.monotonic_s()
            for stream in streams[start : start + SLICE]:
                self._judge(stream, now, late)

    def _judge(self, stream: EventStream, now: float, late: bool) -> None:
        backlog = stream.unread()
        if backlog and (backlog < stream.backlog or late):
            stream.moved_s = now
        stream.backlog = backlog
        if not backlog:
            if now - stream.moved_s >= PING_S - SWEEP_S:
                stream.ping()
        elif now - stream.moved_s >= STALLED_S:
            self.stalled += 1
            stream.abort()
