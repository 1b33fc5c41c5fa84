"""Faults to be put into the real code by a test, and the laws of which one has to find each.

Each is one that somebody could make in a change of a few lines. `FOUND_BEFORE` are those that the simulation found in
agentd when it was new, put back.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from agentd.actors import permits, session, step
from agentd.actors.dispatcher import Dispatcher, Need
from agentd.actors.feed import Follower
from agentd.actors.mailbox import Envelope
from agentd.actors.permits import Held
from agentd.actors.seat import Seat
from agentd.actors.session import SessionActor
from agentd.core import memory, schedule
from agentd.core import run as runs
from agentd.core import session as rules
from agentd.core.draft import Draft
from agentd.core.intents import AttemptEnded
from agentd.edge import greeting, reception
from agentd.store.store import Append
from tests.simulation.process import SimStore
from tests.store.memory_store import Disk

Patch = pytest.MonkeyPatch
Plant = Callable[[Patch], None]


class Fault(NamedTuple):
    """How it is planted, the laws that may find it first, and the seed that did when this was written."""

    plant: Plant
    laws: tuple[str, ...]
    seed: int


PLANTED: dict[str, Fault] = {}
FOUND_BEFORE: dict[str, Fault] = {}


def fault(*laws: str, seed: int = 0, before: bool = False) -> Callable[[Plant], Plant]:
    """One of `laws` finds it."""

    def known(plant: Plant) -> Plant:
        (FOUND_BEFORE if before else PLANTED)[plant.__name__] = Fault(plant, laws, seed)
        return plant

    return known


# ---- the disk -------------------------------------------------------------------------------------------------------


@fault("acknowledged-lost")
def skipped_sync(patch: Patch) -> None:
    """The store says that it is stored when it is in its cache; what a crash leaves is one commit older."""
    commit, kept = SimStore._commit, dict[SimStore, Disk]()

    async def lazily(self: SimStore, batch: list[Append]) -> Any:
        kept[self] = self.disk.copy()
        return await commit(self, batch)

    patch.setattr(SimStore, "_commit", lazily)
    patch.setattr(SimStore, "kept", lambda self: kept.get(self, self.disk).copy())


@fault("snapshot-lags")
def lagging_snapshot(patch: Patch) -> None:
    """The snapshot of a step is the state before it, under the number after it."""
    append_of = step.append_of

    def lags(before: Any, facts: Any, bodies: Any, after: Any, shared: Any, snapshot: bool) -> Append:
        append = append_of(before, facts, bodies, after, shared, snapshot)
        old = append_of(before, facts, bodies, replace(before, seq=after.seq), shared, snapshot).rows[-1:]
        return replace(append, rows=(*append.rows[:-1], *old)) if snapshot else append

    patch.setattr(session, "append_of", lags)


# ---- who is told ----------------------------------------------------------------------------------------------------


@fault("fan-out-before-commit")
def fan_out_before_commit(patch: Patch) -> None:
    """Followers get the bytes of a step while it is on its way to the disk."""
    append_of, enter, actors = step.append_of, SessionActor.enter, list[SessionActor]()

    def early(before: Any, facts: Any, bodies: Any, *more: Any) -> Append:
        for actor in actors:
            if actor.state is before:
                actor.feed.publish(facts[0].seq, bodies)
        return append_of(before, facts, bodies, *more)

    def entering(self: SessionActor) -> None:
        actors.append(self)
        enter(self)

    patch.setattr(SessionActor, "enter", entering)
    patch.setattr(session, "append_of", early)


@fault("fact-doubled", seed=3)
def doubled_fact(patch: Patch) -> None:
    """Who had no room is paged from the last fact that he had, and not from the one after it."""
    drained = Follower._drained

    def again(self: Follower) -> None:
        self.cursor = max(self.cursor - 1, 0)
        drained(self)

    patch.setattr(Follower, "_drained", again)


@fault("fact-missing")
def cursor_off_by_one(patch: Patch) -> None:
    """Who comes back begins one fact too late."""
    place = greeting.place

    def late(after: int | None, log: str | None, seq: int, first: int, log_id: str) -> Any:
        cursor, reset = place(after, log, seq, first, log_id)
        return (min(cursor + 1, seq) if after is not None else cursor), reset

    patch.setattr(reception, "place", late)


@fault("answered-twice")
def answer_given_twice(patch: Patch) -> None:
    """A refusal is told by the step, and once more by who comes after it."""
    reply = SessionActor._reply

    def again(self: SessionActor, commands: Any, facts: Any) -> None:
        for taken in commands:
            caller: Any = taken.envelope.caller
            if taken.error is not None and hasattr(caller, "open"):
                caller.refused(self.state.key, taken.seq, taken.error)
                caller.open = True
        reply(self, commands, facts)

    patch.setattr(SessionActor, "_reply", again)


@fault("unanswered", "answered-late", seed=2)
def answer_forgotten(patch: Patch) -> None:
    """Who asked hears nothing when the disk fails."""
    not_stored = SessionActor._not_stored

    def silent(self: SessionActor, envelopes: Any, error: Any) -> None:
        for one in envelopes:
            if one.caller is not None and one.lane != "result":
                one.caller.refused = lambda *args: None
        not_stored(self, envelopes, error)

    patch.setattr(SessionActor, "_not_stored", silent)


# ---- permits and counters -------------------------------------------------------------------------------------------


@fault("liveness", "not-quiet", seed=1)
def lost_wake_up(patch: Patch) -> None:
    """A permit that came free is kept for who waits for it, and he is not told."""

    settle = Dispatcher.settle
    patch.setattr(Dispatcher, "settle", lambda self, key, need, wake: settle(self, key, need, lambda: None))


@fault("counters", "not-quiet")
def reservation_kept(patch: Patch) -> None:
    """A run that could not be stored keeps its reservation."""
    not_stored = SessionActor._not_stored

    def keeps(self: SessionActor, envelopes: Any, error: Any) -> None:
        before = self.shared.load.reserved
        not_stored(self, envelopes, error)
        self.shared.load.reserved = before

    patch.setattr(SessionActor, "_not_stored", keeps)


@fault("counters", "not-quiet")
def queue_not_counted_down(patch: Patch) -> None:
    """Tasks that leave a queue are still counted in it."""
    requeue = Held._requeue

    def keeps(self: Held, state: Any) -> None:
        before, count = self._dispatcher.queued, self._queued
        requeue(self, state)
        if self._queued < count:
            self._dispatcher.queued = before

    patch.setattr(Held, "_requeue", keeps)


@fault("permits", "dispatch-cap", seed=1)
def permit_given_back_early(patch: Patch) -> None:
    """A worker that is still at work after its task was cancelled is given to the next."""
    settle = Held.settle

    def early(self: Held, state: Any, alive: frozenset[int], lingering: int, wake: Any, waited: bool) -> None:
        settle(self, state, frozenset(), 0, wake, waited)

    patch.setattr(Held, "settle", early)


@fault("figures")
def cap_off_by_one(patch: Patch) -> None:
    """One task more is admitted than the dispatch cap says."""
    admissible = schedule._admissible

    def one_more(draft: Draft, run: Any) -> tuple[list[str], list[str]]:
        admitted, rest = admissible(draft, run)
        left = list(rest)
        return ([*admitted, left[0]], left[1:]) if left and admitted else (admitted, left)

    patch.setattr(schedule, "_admissible", one_more)


# ---- rules ----------------------------------------------------------------------------------------------------------


@fault("late-result", "trace", seed=2)
def late_result_taken(patch: Patch) -> None:
    """A result counts for the attempt that runs now, whichever it came from."""
    ended = rules._RULES[AttemptEnded]

    def takes(draft: Draft, intent: AttemptEnded) -> Any:
        run = draft.state.runs.get(intent.run)
        task = run.tasks.get(intent.task) if run is not None else None
        return ended(draft, replace(intent, attempt=task.attempt) if task is not None else intent)

    patch.setitem(rules._RULES, AttemptEnded, takes)


def _looks_away(patch: Patch, where: Any, name: str) -> None:
    rule = getattr(where, name)

    def looks_away(*args: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Draft, "paused", False)
            return rule(*args)

    patch.setattr(where, name, looks_away)


@fault("begun-while-paused", seed=2)
def pause_forgotten_by_tasks(patch: Patch) -> None:
    """Tasks are started without a look at the mode."""
    _looks_away(patch, schedule, "_startable")


@fault("begun-while-paused", seed=1)
def pause_forgotten_by_the_answer(patch: Patch) -> None:
    """Planning and the answer begin without a look at the mode."""
    _looks_away(patch, runs, "_think")


@fault("liveness")
def timer_not_set(patch: Patch) -> None:
    """Nobody rings when a delay or the wait before a retry is over."""
    patch.setattr(SessionActor, "_set_timer", lambda self: None)


@fault("memory-budget")
def memory_not_kept_within(patch: Patch) -> None:
    """Working memory grows."""
    patch.setattr(memory, "keep_within", lambda draft: None)


# ---- what it found in agentd ----------------------------------------------------------------------------------------


@fault("fact-missing", seed=21, before=True)
def pager_dies(patch: Patch) -> None:
    """A follower whose page can't be read is never paged again."""
    patch.setattr(Follower, "_catch_up_again", lambda self: None)


@fault("trace", "permits", seed=2, before=True)
def call_made_again(patch: Patch) -> None:
    """The end of a call that can't be stored is taken for the end of its attempt, which is begun anew."""
    not_stored = SessionActor._not_stored

    def refuses(self: SessionActor, envelopes: list[Envelope], error: Any) -> None:
        not_stored(self, [replace(one, lane="control") if one.caller else one for one in envelopes], error)

    patch.setattr(SessionActor, "_not_stored", refuses)


@fault("answered-late", "liveness", "counters", "unanswered", seed=5, before=True)
def command_lost_while_read(patch: Patch) -> None:
    """What is told to a session that a question brings in goes into a list that nobody holds."""
    tell = Seat.tell

    def into_nothing(self: Seat, *args: Any) -> None:
        if self.actor is None and self._arriving == []:
            return
        tell(self, *args)

    patch.setattr(Seat, "tell", into_nothing)


@fault("spins", "liveness", seed=48, before=True)
def worker_handed_to_and_fro(patch: Patch) -> None:
    """Who lacks both waits for a worker and does not say that it lacks a model permit too."""

    wants = rules.wants

    def worker_first(*args: Any) -> Need:
        worker, model = wants(*args)
        return worker, model and not worker

    patch.setattr(permits, "wants", worker_first)
