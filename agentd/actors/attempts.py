"""The attempts of one session that are alive: started because `due` names them, ended because it no longer does.

An attempt is a task of the supervisor; its end comes back as a command with its own slot, so it is never refused. It
may have to wait there for a step that is being stored; until it is decided its work is not started again. Work
that ignores its cancellation is told as abandoned after a deadline, and keeps its permit until it really ends
(rulings 18).
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from agentd.clock import Clock
from agentd.core.intents import AnyIntent, AttemptEnded, PlanProposed, Warn
from agentd.core.session import Work, begun
from agentd.core.state import Run, Session
from agentd.protocol.facts import By, Cause
from agentd.supervisor import Supervisor

ABANDON_S = 10.0
SELF = By(principal="agentd", via="timer")

Outcome = AttemptEnded | PlanProposed


class Alive:
    """One attempt that runs: its task, the worker it holds, whether it holds a model permit."""

    def __init__(self, work: Work, worker: int | None, model: bool) -> None:
        self.work = work
        self.worker = worker
        self.model = model
        self.task: asyncio.Task[Any] | None = None
        self.ending = False
        self.abandoned = False


class Attempts:
    """What runs for one session."""

    def __init__(
        self,
        clock: Clock,
        supervisor: Supervisor,
        run: Callable[[Work], Coroutine[Any, Any, Outcome]],
        ended: Callable[[Outcome | None], None],
        abandoned: Callable[[Work], None],
    ) -> None:
        self._clock = clock
        self._supervisor = supervisor
        self._run = run
        self._ended = ended
        self._abandoned = abandoned
        self._alive: dict[Work, Alive] = {}
        self.workers: frozenset[int] = frozenset()  # numbers of those that are really at work
        self._lingering: tuple[Run | None, int] = (None, 0)
        self._told: dict[Work, Outcome] = {}  # outcomes on their way to a step: until then the state names their work
        self.draining = False

    def __len__(self) -> int:
        return len(self._alive)

    def lingering(self, state: Session) -> int:
        """Model calls that go on although `state` does not name their work any more; reckoned once for each state of
        the run in progress."""
        if not self._alive:
            return 0
        run, count = self._lingering
        if run is None or run is not state.run:
            named = set(begun(state))
            count = sum([alive.model and work not in named for work, alive in self._alive.items()])
            self._lingering = state.run, count
        return count

    @property
    def abandoned(self) -> int:
        """Work that was told as abandoned and still goes on."""
        return sum(alive.abandoned for alive in self._alive.values())

    async def ended_one(self) -> None:
        """Return when one of those that run now has ended; at once when none does."""
        tasks = {alive.task for alive in self._alive.values() if alive.task is not None}
        if tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)

    def running(self, run: str, task: str, attempt: int) -> bool:
        return any((work.run, work.task, work.attempt) == (run, task, attempt) for work in self._alive)

    def reconcile(self, state: Session, due: Sequence[Work]) -> None:
        """Start what is due and not alive, end what is alive and not due; tell the end of what was begun and ended in
        one step, because nobody works at it who could."""
        wanted = set(due)
        for work, alive in list(self._alive.items()):
            if work not in wanted and not alive.ending:
                self._end(alive)
        for work in begun(state) if not due else ():  # a run that is not ending has nothing begun that is not due
            if work not in wanted and work not in self._alive and work not in self._told:
                self._told[work] = _never_alive(work)
                self._ended(self._told[work])
        if self.draining:
            return
        for work in due:
            if work not in self._alive and work not in self._told:
                self._start(state, work)

    def decided(self, intents: Iterable[AnyIntent]) -> None:
        """A step has taken these: for the outcomes among them, the state says from here on whether work is due."""
        if self._told:
            taken = {id(intent) for intent in intents}
            self._told = {work: outcome for work, outcome in self._told.items() if id(outcome) not in taken}

    def _start(self, state: Session, work: Work) -> None:
        run = state.runs[work.run]
        task = run.tasks.get(work.task)
        model = task is None or task.spec.kind == "model"
        alive = Alive(work, task.worker if task is not None else None, model)
        self._alive[work] = alive
        self._reckon()
        alive.task = self._supervisor.start(f"attempt {work.run} {work.task} {work.attempt}", self._run(work))
        # Not by a `finally` in the task: one that is cancelled before its first step runs nothing of its code.
        alive.task.add_done_callback(lambda task: self._over(alive, task))

    def _over(self, alive: Alive, task: asyncio.Task[Outcome]) -> None:
        del self._alive[alive.work]
        self._reckon()
        outcome = None if task.cancelled() or task.exception() is not None else task.result()
        if not self._cut_off(alive, outcome):
            if outcome is not None:
                self._told[alive.work] = outcome
            self._ended(outcome)

    def _reckon(self) -> None:
        """A step asks for these more often than they change."""
        self.workers = frozenset([one.worker for one in self._alive.values() if one.worker is not None])
        self._lingering = (None, 0)

    @staticmethod
    def _cut_off(alive: Alive, outcome: Outcome | None) -> bool:
        """Cancelled by nobody here: the process goes down, and the next one recovers what is cut off."""
        cancelled = isinstance(outcome, AttemptEnded) and outcome.outcome == "cancelled"
        return (outcome is None or cancelled) and not alive.ending

    def _end(self, alive: Alive) -> None:
        alive.ending = True
        if alive.task is not None:
            alive.task.cancel()
        self._clock.call_later(ABANDON_S, lambda: self._check(alive))

    def _check(self, alive: Alive) -> None:
        if self._alive.get(alive.work) is alive:
            alive.abandoned = True
            self._abandoned(alive.work)


def _never_alive(work: Work) -> AttemptEnded:
    return AttemptEnded(
        by=SELF, run=work.run, task=work.task, attempt=work.attempt, step=work.step,
        outcome="cancelled", cause=Cause(code="cancelled", message="cancelled before it began", task=work.task),
    )  # fmt: skip


def given_up(work: Work) -> tuple[Warn, AttemptEnded]:
    """What a session is told of work that ignores its cancellation."""
    cause = Cause(
        code="abandoned", message=f"it did not end within {ABANDON_S:.0f} s of its cancellation", task=work.task
    )
    warning = Warn(
        by=SELF, run=work.run, code="attempt_abandoned", message=cause.message, source="worker",
        details={"task": work.task, "attempt": work.attempt},
    )  # fmt: skip
    ended = AttemptEnded(
        by=SELF, run=work.run, task=work.task, attempt=work.attempt, step=work.step, outcome="cancelled", cause=cause
    )
    return warning, ended
