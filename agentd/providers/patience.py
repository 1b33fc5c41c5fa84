"""A deadline that costs next to nothing to move: one timer that looks, when it fires, whether it still has to.

A streamed call moves its deadline with every chunk. `asyncio.Timeout.reschedule` would cancel and push a timer each
time; here only a number changes, and the timer is set again when it fires too early or when the deadline comes nearer.
"""

import asyncio
from types import TracebackType

from agentd.clock import Clock, Timer


class Patience:
    """Ends the block it surrounds with TimeoutError when the last allowed time is over; `expired` then says so."""

    def __init__(self, clock: Clock, first_s: float, ends_s: float) -> None:
        """`first_s`: seconds allowed at first. `ends_s`: on the clock's monotonic time, never later."""
        self._clock = clock
        self._ends_s = ends_s
        self._first_s = first_s
        self._scope = asyncio.timeout(None)

    @property
    def expired(self) -> bool:
        return self._scope.expired()

    async def __aenter__(self) -> "Patience":
        await self._scope.__aenter__()
        self._due_s = min(self._clock.monotonic_s() + self._first_s, self._ends_s)
        self._set()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._scope.__aexit__(kind, error, trace)

    def allow(self, seconds: float) -> None:
        """From now on so many seconds."""
        self._due_s = min(self._clock.monotonic_s() + seconds, self._ends_s)
        if self._due_s < self._fires_s:
            self._timer.cancel()
            self._set()

    def _set(self) -> None:
        self._fires_s = self._due_s
        self._timer: Timer = self._clock.call_later(max(0.0, self._due_s - self._clock.monotonic_s()), self._fired)

    def _fired(self) -> None:
        if self._clock.monotonic_s() >= self._due_s:
            self._scope.reschedule(0.0)  # the past: it expires in this loop turn
        else:
            self._set()
