"""Cancels that wait for their answer: until all that ran has ended, or for 5 s (protocol.md, 4; rulings 17, 47)."""

from collections.abc import Callable

from agentd.actors.caller import Caller
from agentd.clock import Clock, Timer
from agentd.core.intents import Cancelling
from agentd.protocol.replies import ControlDone

ANSWER_S = 5.0

Attempt = tuple[str, str, int]


class _Cancel:
    def __init__(self, caller: Caller, queued: int, attempts: tuple[Attempt, ...]) -> None:
        self.caller = caller
        self.queued = queued
        self.attempts = attempts
        self.left = set(attempts)
        self.timer: Timer | None = None


class Stopping:
    """The cancels of one session whose answer is open."""

    def __init__(self, session: str, clock: Clock, running: Callable[[Attempt], bool], seq: Callable[[], int]) -> None:
        self._session = session
        self._clock = clock
        self._running = running
        self._seq = seq
        self._open: list[_Cancel] = []

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, caller: Caller, met: Cancelling) -> None:
        cancel = _Cancel(caller, met.queued, met.attempts)
        self._open.append(cancel)
        self.check()
        if cancel in self._open:
            cancel.timer = self._clock.call_later(ANSWER_S, lambda: self._answer(cancel))

    def check(self) -> None:
        """Something ended: answer the cancels for which that was the last."""
        for cancel in list(self._open):
            cancel.left = {attempt for attempt in cancel.left if self._running(attempt)}
            if not cancel.left:
                self._answer(cancel)

    def _answer(self, cancel: _Cancel) -> None:
        if cancel not in self._open:
            return
        self._open.remove(cancel)
        if cancel.timer is not None:
            cancel.timer.cancel()
        reply = ControlDone(
            session=self._session,
            ts=self._clock.now_ms(),
            action="cancel",
            queued_cancelled=cancel.queued,
            active_cancelled=len(cancel.attempts) - len(cancel.left),
            still_running=len(cancel.left),
        )
        cancel.caller.done(self._session, self._seq(), reply)
