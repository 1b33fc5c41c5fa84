"""The permits that one session holds, reckoned from its state and from the attempts that are alive.

A permit belongs to an attempt from the decision that starts it until its work has really ended *and* the fact of its
end is stored; so the number of permits out is never smaller than what any log reader or any process list can count.
Within a step a session may use the permits that its own ended attempts leave, as long as nobody else waits for one.
"""

from collections.abc import Callable

from agentd.actors.dispatcher import Dispatcher, Permits
from agentd.core.session import wants
from agentd.core.state import Session


class Held:
    """Worker numbers and model permits of one session."""

    def __init__(self, key: str, dispatcher: Dispatcher, dispatch: int) -> None:
        self._key = key
        self._dispatch = dispatch
        self._dispatcher = dispatcher
        self._workers: frozenset[int] = frozenset()
        self._models: frozenset[int] = frozenset()
        self._queued = 0

    def free_workers(self, state: Session, alive: frozenset[int]) -> tuple[int, ...]:
        """Numbers that a decision on `state` may start attempts with."""
        return self._free(self._dispatcher.workers, self._workers, self._workers - _workers(state) - alive)

    def free_models(self, state: Session, lingering: int) -> int:
        spare = len(self._models) - _models(state) - lingering
        open_ones = len(self._dispatcher.models.available(self._key))
        own = spare if spare > 0 and not self._dispatcher.models.others_wait(self._key) else 0
        return 0 if self._dispatcher.models.held else open_ones + own

    def room(self) -> int:
        return self._dispatcher.room

    def take(self, state: Session, lingering: int) -> None:
        """Take what the decided `state` needs beyond what is held; called in the same loop turn as the decision.
        `lingering`: model calls that go on although the state does not name them any more."""
        more = _workers(state) - self._workers
        self._dispatcher.workers.take(self._key, more)
        self._workers |= more
        need = _models(state) + lingering - len(self._models)
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
        neither, so a session that lacks nothing any more looks again by itself; without that it would wait for ever.
        """
        unused = self._workers - _workers(state) - alive_workers
        self._workers -= unused
        spare = len(self._models) - _models(state) - lingering
        extra = frozenset(sorted(self._models)[: max(spare, 0)])
        self._models -= extra
        self._requeue(state)
        dispatcher = self._dispatcher
        dispatcher.workers.give_back(unused)
        dispatcher.models.give_back(extra)
        dispatcher.workers.settle(self._key, None)
        dispatcher.models.settle(self._key, None)
        wanted = wants(state, dispatcher.workers.held, self._dispatch)
        dispatcher.wait_for_room(self._key, wake if wanted.worker and not dispatcher.room else None)
        lacks_worker = wanted.worker and not dispatcher.workers.available(self._key)
        lacks_model = wanted.model and not dispatcher.models.available(self._key)
        # In one ring at most, that of what it lacks: in another it would be woken for what it can't use, again and
        # again. Who lacks both waits for workers only while none is to be had, or one alone would do: else two sessions
        # that lack a model permit would hand a free worker to each other for ever.
        if lacks_worker and (wanted.worker_alone or not lacks_model or dispatcher.workers.exhausted):
            dispatcher.workers.settle(self._key, wake)
        elif lacks_model:
            dispatcher.models.settle(self._key, wake)
        elif (wanted.worker or wanted.model) and waited:
            wake()

    def leave(self) -> None:
        """The session leaves memory: what it has queued is counted again when it comes back."""
        self._dispatcher.requeue(-self._queued)
        self._queued = 0

    def _free(self, permits: Permits, held: frozenset[int], spare: frozenset[int]) -> tuple[int, ...]:
        if permits.held:
            return ()
        own = () if permits.others_wait(self._key) else tuple(sorted(spare))
        return (*own, *permits.available(self._key))

    def _requeue(self, state: Session) -> None:
        queued = sum(len(run.queued) for run in state.runs.values())
        if queued != self._queued:
            self._dispatcher.requeue(queued - self._queued)
            self._queued = queued


def _workers(state: Session) -> frozenset[int]:
    return state.run.workers if state.run is not None else frozenset()


def _models(state: Session) -> int:
    return state.run.models if state.run is not None else 0
