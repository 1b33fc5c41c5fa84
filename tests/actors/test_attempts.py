"""What is alive in a session: started once, and not again while its outcome waits to be decided."""

import asyncio

from msgspec.structs import replace

from agentd.actors.attempts import ABANDON_S, Attempts, Outcome
from agentd.clock import SystemClock
from agentd.core.intents import AttemptEnded
from agentd.core.session import Work, begun, due
from agentd.core.state import Run, Session
from agentd.protocol.facts import By
from agentd.supervisor import Supervisor
from tests.edge.rig import ManualClock

ANSWER = Work(run="r", task="answer", attempt=1)
BY = By(principal="local", via="worker")


class Rig:
    """Attempts whose work ends at once; what they did is counted."""

    def __init__(self) -> None:
        clock = SystemClock()
        self.supervisor = Supervisor(clock, lambda name: None)
        self.begun = 0
        self.outcomes: list[Outcome] = []
        self.over = asyncio.Event()
        self.attempts = Attempts(clock, self.supervisor, self._work, self._ended, lambda work: None)
        run = Run(id="r", kind="chat", state="running", content="hello", accepted=1)
        self.state = Session(key="s", agent="default", owner="local", runs={"r": run})

    async def _work(self, work: Work) -> Outcome:
        self.begun += 1
        return AttemptEnded(by=BY, run=work.run, task=work.task, attempt=work.attempt, outcome="done")

    def _ended(self, outcome: Outcome | None) -> None:
        assert outcome is not None
        self.outcomes.append(outcome)
        self.over.set()

    async def until_over(self) -> None:
        self.over.clear()
        self.attempts.reconcile(self.state, [ANSWER])
        await asyncio.wait_for(self.over.wait(), 5)


async def test_an_attempt_whose_outcome_is_not_decided_yet_is_not_made_again() -> None:
    """Its session was busy with another append: the state that this ends with still names the attempt."""
    rig = Rig()
    await rig.until_over()
    rig.attempts.reconcile(rig.state, [ANSWER])
    await asyncio.sleep(0)
    assert (rig.begun, len(rig.attempts)) == (1, 0)


async def test_an_attempt_whose_outcome_was_refused_is_made_again() -> None:
    rig = Rig()
    await rig.until_over()
    rig.attempts.decided(rig.outcomes)
    await rig.until_over()
    assert rig.begun == 2


async def test_an_attempt_that_was_begun_and_cancelled_in_one_step_has_its_end_told_once() -> None:
    """Nobody ever worked at it, so nobody else can tell; a run was left in `cancelling` for ever."""
    rig = Rig()
    run = rig.state.runs["r"]
    cancelling = replace(run, state="cancelling", answer=replace(run.answer, active=True, number=1))
    state = replace(rig.state, runs={"r": cancelling}, current="r")
    assert (due(state), begun(state)) == ((), (ANSWER,))
    rig.attempts.reconcile(state, due(state))
    rig.attempts.reconcile(state, due(state))
    (outcome,) = rig.outcomes
    assert isinstance(outcome, AttemptEnded)
    assert (outcome.run, outcome.task, outcome.attempt, outcome.outcome) == ("r", "answer", 1, "cancelled")
    assert rig.begun == 0


async def test_work_that_ignores_its_cancellation_is_told_as_abandoned_and_counted_until_it_ends() -> None:
    """Rulings 18: its permit comes back only when the work really ends; a metric shows these."""
    clock = ManualClock()
    supervisor = Supervisor(clock, lambda name: None)
    begun, stubborn, told = asyncio.Event(), asyncio.Event(), list[Work]()

    async def work(work: Work) -> Outcome:
        try:
            begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await stubborn.wait()
        return AttemptEnded(by=BY, run=work.run, task=work.task, attempt=work.attempt, outcome="cancelled")

    ended = list[Outcome | None]()
    attempts = Attempts(clock, supervisor, work, ended.append, told.append)
    state = Rig().state
    attempts.reconcile(state, [ANSWER])
    await begun.wait()
    attempts.reconcile(state, [])
    await clock.advance(ABANDON_S - 0.1)
    assert (told, attempts.abandoned) == ([], 0)
    await clock.advance(0.2)
    assert (told, attempts.abandoned, len(attempts)) == ([ANSWER], 1, 1)
    stubborn.set()
    await attempts.ended_one()
    assert (attempts.abandoned, len(attempts), attempts.lingering(state)) == (0, 0, 0)
    assert len(ended) == 1


async def test_work_that_ends_when_it_is_asked_to_is_not_abandoned() -> None:
    clock = ManualClock()
    supervisor = Supervisor(clock, lambda name: None)
    told = list[Work]()

    async def work(work: Work) -> Outcome:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        return AttemptEnded(by=BY, run=work.run, task=work.task, attempt=work.attempt, outcome="cancelled")

    attempts = Attempts(clock, supervisor, work, lambda outcome: None, told.append)
    attempts.reconcile(Rig().state, [ANSWER])
    await clock.advance(0)
    attempts.reconcile(Rig().state, [])
    await attempts.ended_one()
    await clock.advance(ABANDON_S + 1)
    assert (told, attempts.abandoned) == ([], 0)


async def test_an_attempt_that_is_cancelled_before_its_first_step_is_over_too() -> None:
    """Nothing of its task's code ran, a `finally` in it neither, so its permit was never given back (seed 2148)."""
    ended: list[Outcome | None] = []
    supervisor = Supervisor(SystemClock(), lambda name: None)
    attempts = Attempts(SystemClock(), supervisor, Rig()._work, ended.append, lambda work: None)
    state = Rig().state
    attempts.reconcile(state, [ANSWER])
    attempts.reconcile(state, [])
    await attempts.ended_one()
    assert (len(attempts), attempts.lingering(state), ended) == (0, 0, [None])
