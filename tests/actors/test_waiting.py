"""`wait: true`: one answer, at the run's end, on a repeated key too; a deadline that leaves the run alone."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentd.actors.waiting import WAIT_S, Waiting, run_result
from agentd.core import intents as i
from agentd.protocol import facts as f
from agentd.protocol.errors import AgentdError, Timeout
from agentd.protocol.replies import Reply, RunResult
from agentd.protocol.signals import Signal
from tests.actors.rig import BY, Heard, Rig
from tests.edge.rig import ManualClock

COUNTS = f.Counts(total=0, done=0, failed=0, cancelled=0, skipped=0, dropped=0)
CAUSE = f.Cause(code="x", message="y")


class Told:
    """Keeps what a caller is told."""

    waits = True

    def __init__(self) -> None:
        self.replies: list[Any] = []

    def is_fact(self, session: str, seq: int, body: bytes) -> None:
        self.replies.append(body)

    def done(self, session: str, seq: int, reply: Reply | Signal) -> None:
        self.replies.append(reply)

    def refused(self, session: str, seq: int, error: AgentdError) -> None:
        self.replies.append(error)

    def repeated(self, session: str, run: str) -> None:
        self.replies.append(run)


def end(kind: Any, run: str, **more: Any) -> f.AnyFact:
    fact: f.AnyFact = kind(
        session="s", seq=9, ts=1, run=run, run_seq=5, cause=CAUSE, usage=f.Usage(calls=2), duration_ms=1, counts=COUNTS,
        **more,
    )  # fmt: skip
    return fact


def words(run: str, content: str) -> f.AnyFact:
    return f.SessionReceive(
        session="s", seq=8, ts=1, run=run, run_seq=4, role="assistant", content=content, entry="e", parent=None,
        message="m", usage=f.Usage(), finish_reason="stop", model=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "state"), [(f.RunCompleted, "completed"), (f.RunFailed, "failed"), (f.RunCancelled, "cancelled")]
)
def test_the_result_tells_state_words_usage_and_cause(kind: Any, state: str) -> None:
    result = run_result("s", 7, end(kind, "r"), "said")  # type: ignore[arg-type]
    assert (result.state, result.content, result.run, result.usage.calls, result.cause, result.ts) == (
        state, "said", "r", 2, CAUSE, 7,
    )  # fmt: skip


async def test_everybody_who_waits_for_a_run_hears_its_last_words_once_and_nobody_else_does() -> None:
    clock = ManualClock()
    waiting = Waiting("s", clock)
    first, second, other = Told(), Told(), Told()
    waiting.add("r", first)
    waiting.add("r", second)
    waiting.add("q", other)
    waiting.heard([words("r", "one"), words("q", "not this"), words("r", "two"), words("unknown", "nor this")])
    waiting.heard([end(f.RunCompleted, "r")])
    assert [[reply.content for reply in told.replies] for told in (first, second, other)] == [["two"], ["two"], []]
    assert len(waiting) == 1
    await clock.advance(WAIT_S + 1)
    assert len(first.replies) == 1, "its deadline went with the answer"


async def test_who_has_waited_too_long_is_told_that_the_run_goes_on_and_the_others_wait_on() -> None:
    clock = ManualClock()
    waiting = Waiting("s", clock)
    early, late = Told(), Told()
    waiting.add("r", early)
    await clock.advance(WAIT_S / 2)
    waiting.add("r", late)
    waiting.heard([words("r", "so far")])
    await clock.advance(WAIT_S / 2 + 1)
    assert [type(reply) for reply in early.replies] == [Timeout]
    assert "it goes on" in early.replies[0].message
    assert (late.replies, len(waiting)) == ([], 1)
    waiting.heard([end(f.RunFailed, "r")])
    assert (late.replies[0].state, late.replies[0].content) == ("failed", "so far")
    waiting.add("q", late)
    await clock.advance(WAIT_S + 1)
    assert len(waiting) == 0, "nothing is kept of it"


# ---- a repeated key -------------------------------------------------------------------------------------------------


@pytest.fixture
async def held() -> AsyncIterator[tuple[Rig, asyncio.Event]]:
    """A model that answers when it is let."""
    gate = asyncio.Event()

    async def script(_: object) -> str:
        await gate.wait()
        return "at last"

    rig = Rig(script)
    try:
        yield rig, gate
    finally:
        await rig.end()


async def test_who_repeats_a_request_and_waits_gets_the_end_of_the_run_that_goes_on(
    held: tuple[Rig, asyncio.Event],
) -> None:
    """Rulings 23: with `wait: true` a repeated key answers with its `run.result`; a client that lost its connection
    asks again while the run goes on, and would hear nothing of its end."""
    rig, gate = held
    seat = await rig.session()
    start = {"by": BY, "kind": "chat", "content": "hello", "key": "k", "body_hash": "h"}
    await rig.tell(seat, i.StartRun(run="run_1", **start))  # type: ignore[arg-type]
    again, impatient = Heard(), Heard()
    again.waits = True
    for caller in (again, impatient):
        assert rig.shared.load.reserve()
        seat.tell(i.StartRun(run="run_2", **start), "work", caller)  # type: ignore[arg-type]
    told = await asyncio.wait_for(impatient.answer, 10)
    assert (told.run, told.state, told.repeated) == ("run_1", "running", True)
    assert not again.answer.done()
    gate.set()
    result = await asyncio.wait_for(again.answer, 10)
    assert isinstance(result, RunResult)
    assert (result.run, result.state, result.content) == ("run_1", "completed", "at last")
    late = Heard()
    late.waits = True
    assert rig.shared.load.reserve()
    seat.tell(i.StartRun(run="run_3", **start), "work", late)  # type: ignore[arg-type]
    assert await asyncio.wait_for(late.answer, 10) == "run_1", "it has ended: its end is looked up"
    assert rig.shared.load.used == 0
