"""How much the whole server has taken on: the reservation of unfinished runs, and the drain rate behind every hint
when to come again (rulings 26, 27)."""

from collections import deque
from collections.abc import Sequence

from agentd.clock import Clock
from agentd.core.admission import retry_after
from agentd.protocol import facts as f

ENDED_WINDOW_S = 10.0
REFUSED_WINDOW_S = 1.0
MARKS_MAX = 20_000


class Load:
    """Counts of one server. `unfinished` are stored runs that are not waiting for a person, `reserved` are requests
    on their way to their session; together they never pass the cap, except by runs that go on after waiting."""

    def __init__(self, clock: Clock, runs_max: int) -> None:
        self.runs_max = runs_max
        self.unfinished = 0
        self.reserved = 0
        self.server_paused = False
        self.drained_before = False
        self.memory_full = False
        self.draining = False
        self.refused: dict[str, int] = {}
        self._clock = clock
        self._ended: deque[float] = deque(maxlen=MARKS_MAX)
        self._refused_at: deque[float] = deque(maxlen=MARKS_MAX)
        self._born_s = clock.monotonic_s()

    @property
    def used(self) -> int:
        return self.unfinished + self.reserved

    def reserve(self) -> bool:
        """Take a place for one run; False when the server is full."""
        if self.used >= self.runs_max:
            return False
        self.reserved += 1
        return True

    def heard(self, facts: Sequence[f.AnyFact]) -> None:
        """Stored facts: each end of a run is marked."""
        for fact in facts:
            if isinstance(fact, f.RUN_ENDS):
                self._ended.append(self._clock.monotonic_s())

    def refuse(self, cap: str) -> None:
        self.refused[cap] = self.refused.get(cap, 0) + 1
        self._refused_at.append(self._clock.monotonic_s())

    def retry_after_ms(self, paused: bool = False) -> int:
        now = self._clock.monotonic_s()
        _expire(self._ended, now - ENDED_WINDOW_S)
        _expire(self._refused_at, now - REFUSED_WINDOW_S)
        window_s = min(max(now - self._born_s, 0.1), ENDED_WINDOW_S)
        return retry_after(
            len(self._refused_at), len(self._ended) / window_s, self._clock.random(), paused or self.server_paused
        )


def _expire(marks: deque[float], before: float) -> None:
    while marks and marks[0] < before:
        marks.popleft()
