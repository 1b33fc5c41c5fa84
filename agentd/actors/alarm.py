"""The one timer of a session that is awake: it rings when time alone would move something.

It is looked at after every step and mostly stays as it is; it is only set anew when what is waited for changed.
"""

from collections.abc import Callable

from agentd.clock import Clock, Timer


class Alarm:
    """Times are Unix ms of the session's own clock, which runs monotonic while the alarm is set (rulings 4)."""

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._timer: Timer | None = None
        self._at: int | None = None
        self.rings_s: float | None = None
        """Monotonic seconds at which it rings; None when it is not set."""

    @property
    def is_set(self) -> bool:
        return self._timer is not None

    def set(self, at: int | None, now: int) -> None:
        """Ring at `at`, or not at all."""
        if at is not None and at == self._at:
            return
        self.cancel()
        if at is not None:
            self._at = at
            self.rings_s = self._clock.monotonic_s() + (at - now) / 1000
            self._timer = self._clock.call_later((at - now) / 1000, self._rings)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._at = self.rings_s = None

    def _rings(self) -> None:
        """It may be a moment early: then it is set again."""
        self._at = None
        self._ring()
