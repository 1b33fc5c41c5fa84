"""What could not be stored and is nobody's request: results, timers, recovery; tried again after a growing wait."""

from collections.abc import Callable

from agentd.actors.mailbox import Envelope
from agentd.clock import Clock

RETRY_S = 0.1
RETRY_MAX_S = 5.0


class Retries:
    """Batches of one session's commands that wait for the disk. `waiting` of them are on their way back."""

    def __init__(self, clock: Clock, put_back: Callable[[list[Envelope]], None]) -> None:
        self.waiting = 0
        self._clock = clock
        self._put_back = put_back
        self._failures = 0

    def stored(self) -> None:
        """The disk takes facts again."""
        self._failures = 0

    def later(self, envelopes: list[Envelope]) -> None:
        """Back into the mailbox after 0.1 s, twice as long after each failure, at most 5 s."""
        delay_s = min(RETRY_S * 2**self._failures, RETRY_MAX_S)
        self._failures += 1
        self.waiting += 1
        self._clock.call_later(delay_s, lambda: self._again(envelopes))

    def _again(self, envelopes: list[Envelope]) -> None:
        self.waiting -= 1
        self._put_back(envelopes)
