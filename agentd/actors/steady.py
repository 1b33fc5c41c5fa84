"""What time it is for one session: the wall clock, except that a timer which is set runs to its end on monotonic time.

Timers are stored as wall time, because they have to outlive the process. Within it the wall clock may jump by any
amount in either direction, and a jump must neither end a wait at once nor hold it for a day (rulings 4). So while a
timer is set, a session's time goes on from where it was, as monotonic time does; without one it is the wall clock's. It
never goes back either way. After a start it begins at the later of the wall clock and the newest fact, which bounds
what is left of a wait by the wait's own length.
"""

from agentd.clock import Clock


class Steady:
    """Give `now_ms` the `ts` of the newest fact; it remembers the rest."""

    def __init__(self, clock: Clock, ts: int) -> None:
        self._clock = clock
        self._now_ms = float(max(clock.now_ms(), ts))
        self._at_s = clock.monotonic_s()

    def now_ms(self, ts: int, *, timed: bool) -> int:
        """Unix ms, not before `ts`. `timed`: a timer is set, so the wall clock does not count."""
        at_s = self._clock.monotonic_s()
        now_ms = self._now_ms + (at_s - self._at_s) * 1000 if timed else self._clock.now_ms()
        self._now_ms = now_ms if now_ms > ts else float(ts)
        self._at_s = at_s
        return int(self._now_ms)
