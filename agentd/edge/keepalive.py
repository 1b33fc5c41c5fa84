"""One sweep over all sockets: ping the quiet ones, close the silent ones and those that read nothing.

What counts as life: any byte received, and bytes taken by the client's kernel while our writing was blocked (then
only its reading can have made room; the ping lies behind the backlog and cannot be answered yet). A socket that we do
not read ourselves is never silent. A sweep that comes late by more than `LATE_S` says nothing about the clients: the
process slept, so nobody is closed and everybody gets one more round (rulings 4).
"""

from collections.abc import Collection
from typing import Protocol

from agentd.clock import Clock
from agentd.edge.limits import Limits

SWEEP_S = 5.0
LATE_S = 5.0
SLICE = 500  # sockets judged in one loop turn: a ping is a write, 10,000 of them are too long a turn


class Watched(Protocol):
    """What the sweep reads and notes on a socket."""

    heard: bool
    """Set by the socket at every sign of life, cleared by the sweep."""
    heard_s: float
    pinged: bool
    left: int
    """What its transport held at the last sweep, while blocked; the socket clears it when all of that was taken."""
    moved_s: float

    @property
    def unread(self) -> bool:
        """Its reading is stopped by us."""
        ...

    def backlog(self) -> int:
        """Bytes that the transport cannot pass on to the kernel now; 0 when writing is not blocked."""
        ...

    def ping(self) -> None: ...

    def silent(self) -> None:
        """Nothing was heard for too long."""
        ...

    def stalled(self) -> None:
        """Nothing was read for too long."""
        ...


class Keepalive:
    """Runs for as long as the server listens."""

    def __init__(self, sockets: Collection[Watched], clock: Clock, limits: Limits) -> None:
        self._sockets = sockets
        self._clock = clock
        self._limits = limits
        self._interval_s = min(SWEEP_S, limits.ping_s / 4)

    async def run(self) -> None:
        while True:
            due_s = self._clock.monotonic_s() + self._interval_s
            await self._clock.sleep(self._interval_s)
            await self.sweep(late=self._clock.monotonic_s() > due_s + LATE_S)

    async def sweep(self, *, late: bool = False) -> None:
        """Judge every socket once."""
        sockets = list(self._sockets)
        for start in range(0, len(sockets), SLICE):
            if start:
                await self._clock.sleep(0)
            now = self._clock.monotonic_s()
            for socket in sockets[start : start + SLICE]:
                self._judge(socket, now, late)

    def _judge(self, socket: Watched, now: float, late: bool) -> None:
        backlog = socket.backlog()
        if not backlog or not socket.left or backlog < socket.left or late:
            socket.moved_s = now
            socket.heard = socket.heard or 0 < backlog < socket.left
        socket.left = backlog
        if now - socket.moved_s >= self._limits.stalled_s:
            socket.stalled()
        elif socket.heard or socket.unread:
            socket.heard, socket.heard_s, socket.pinged = False, now, False
        elif late:
            socket.heard_s = max(socket.heard_s, now - self._limits.ping_s)
            self._ping_if_due(socket, now, again=True)
        elif now - socket.heard_s >= self._limits.silent_s:
            socket.silent()
        else:
            self._ping_if_due(socket, now, again=False)

    def _ping_if_due(self, socket: Watched, now: float, *, again: bool) -> None:
        if (again or not socket.pinged) and now - socket.heard_s >= self._limits.ping_s:
            socket.pinged = True
            socket.ping()
