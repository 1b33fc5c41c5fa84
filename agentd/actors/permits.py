"""The permits that one session holds, reckoned from its state and from the attempts that are alive.

A permit belongs to an attempt from the decision that starts it until its work has really ended *and* the fact of its
end is stored; so the number of permits out is never smaller than what any log reader or any process list can count.
Within a step a session may use the permits that its own ended attempts leave, as long as nobody else waits for one.
"""

from collections.abc import Callable

from agentd.actors.dispatcher import NOTHING, Dispatcher
from agentd.core.session import wants
from agentd.core.state import Run, Session

NOBODY: frozenset[int] = frozenset()


class Held:
    """Worker numbers and model permits of one session."""

    def __init__(self, key: str, dispatcher: Dispatcher, dispatch: int) -> None:
        self._key = key
        self._dispatch = dispatch
        self._dispatcher = dispatcher
        self._workers = NOBODY
        self._models = NOBODY
        self._queued = 0
        self._reckoned: tuple[Run | None, frozenset[int], int] = (None, NOBODY, 0)

    def free_workers(self, state: Session, alive: frozenset[int]) -> tuple[int, ...]:
        """Numbers that a decision on `state` may start attempts with."""
        permits = self._dispatcher.workers
        if permits.held:
            return ()
        own = self._workers - self._needed(state)[0] - alive if self._workers else NOBODY
        if not own or self._dispatcher.others_wait(permits, self._key):
            return permits.available(self._key)
        return (*sorted(own), *permits.available(self._key))

    def free_models(self, state: Session, lingering: int) -> int:
        permits = self._dispatcher.models
        if permits.held:
            return 0
        spare = len(self._models) - self._needed(state)[1] - lingering
        own = spare if spare > 0 and not self._dispatcher.others_wait(permits, self._key) else 0
        return len(permits.available(self._key)) + own

    def room(self) -> int:
        return self._dispatcher.room

    def take(self, state: Session, lingering: int) -> None:
        """Take what the decided `state` needs beyond what is held; called in the same loop turn as the decision.
        `lingering`: model calls that go on although the state does not name them any more."""
        workers, models = self._needed(state)
        more = workers - self._workers
        if more:
            self._dispatcher.workers.take(self._key, more)
            self._workers |= more
        need = models + lingering - len(self._models)
        if need > 0:
            taken = frozenset(self._dispatcher.models.available(self._key)[:need])
            self._dispatcher.models.take(self._key, taken)
            self._models |= taken
        self._requeue(state)

    def settle(
        self, state: Session, alive_workers: frozenset[int], lingering: int, wake: Callable[[], None], waited: bool
    ) -> None:
        """After a step, stored or failed: what `state` does not use goes back, and who waits joins the ring.

        `waited`: there was an append between the decision and now. A permit that came free in between was seen by
        neither, so a session that lacks nothing any more stands too, and is woken at once; without that it would wait
        for ever. One that could have started something and did not waits for something else.
        """
        dispatcher = self._dispatcher
        workers, models = self._needed(state)
        unused = self._workers - workers - alive_workers
        spare = len(self._models) - models - lingering
        extra = frozenset(sorted(self._models)[:spare]) if spare > 0 else NOBODY
        self._requeue(state)
        if unused or extra:
            self._workers -= unused
            self._models -= extra
            dispatcher.give_back(unused, extra)
        need = wants(state, dispatcher.workers.held, self._dispatch)
        dispatcher.wait_for_room(self._key, wake if need[0] and not dispatcher.room else None)
        if not waited and dispatcher.meets(self._key, need):
            need = NOTHING
        dispatcher.settle(self._key, need, wake)

    def leave(self) -> None:
        """The session leaves memory: what it has queued is counted again when it comes back."""
        self._dispatcher.requeue(-self._queued)
        self._queued = 0

    def _needed(self, state: Session) -> tuple[frozenset[int], int]:
        """Workers by number and model permits of the run in progress; reckoned once for each state of it."""
        run = state.run
        if run is None:
            return NOBODY, 0
        if run is not self._reckoned[0]:
            self._reckoned = run, run.workers, run.models
        return self._reckoned[1], self._reckoned[2]

    def _requeue(self, state: Session) -> None:
        run = state.run  # no other run has a plan
        queued = len(run.queued) if run is not None else 0
        if queued != self._queued:
            self._dispatcher.requeue(queued - self._queued)
            self._queued = queued
