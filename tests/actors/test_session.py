"""A session's step when something goes wrong: a full disk, a rule that throws, another appender, work nobody foresaw.

Whatever happens, each caller is told once, the state is what is stored, and no permit is lost to the others.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from agentd.actors import prompts, retries, session
from agentd.actors.seat import Seat
from agentd.core import intents as i
from agentd.core.identity import Identity
from agentd.core.session import decide
from agentd.core.trace import problems
from agentd.protocol import facts as f
from agentd.protocol.errors import Conflict, Internal, StorageUnavailable
from agentd.providers.provider import ModelRequest
from agentd.settings import Limits, Settings
from agentd.store.store import Append, Record
from agentd.tools.builtin import BUILTIN
from tests.actors.rig import BY, Answer, Heard, Rig, Script, calls, plan, statuses
from tests.actors.test_worker import Odd, one_task, script

Make = Callable[..., Rig]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    rigs: list[Rig] = []

    def made(script: Script, settings: Settings | None = None) -> Rig:
        rigs.append(Rig(script, settings))
        return rigs[-1]

    yield made
    for rig in rigs:
        await rig.end()


class Held:
    """A model that answers when it is let go."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, request: ModelRequest) -> Answer:
        self.asked.set()
        await self.go_on.wait()
        return "done"


async def appended_by_another(rig: Rig, seat: Seat) -> None:
    """The session's next number is taken: its newest fact once more, under that number."""
    newest, seq = rig.store.disk.facts[seat.key][-1], seat.state.seq + 1
    record = Record(seq=seq, step=seq, ts=newest.ts, type=newest.type, body=newest.body)
    again = Append(session=seat.key, term=rig.shared.term, records=(record,))
    await rig.store.append(again)
    rig.replays = False


async def test_a_full_disk_refuses_the_client_and_leaves_the_state(make: Make) -> None:
    rig = make(lambda request: "done")
    seat = await rig.session()
    await rig.ended(seat, await rig.start(seat, "first"))
    before = seat.state
    rig.store.fail(1)
    with pytest.raises(StorageUnavailable):
        await rig.start(seat, "second")
    assert seat.state is before
    assert (rig.shared.load.reserved, rig.shared.load.unfinished) == (0, 0)
    assert (rig.shared.dispatcher.models.in_use, rig.shared.dispatcher.workers.in_use) == (0, 0)
    facts = await rig.ended(seat, await rig.start(seat, "third"))
    assert isinstance(facts[-1], f.RunCompleted)


async def test_a_result_that_could_not_be_stored_is_stored_later_and_its_work_not_done_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "RETRY_S", 0.001)
    held = Held()
    rig = make(held)
    seat = await rig.session()
    run = await rig.start(seat, "work")
    await held.asked.wait()
    rig.store.fail(3)
    held.go_on.set()
    facts = await rig.ended(seat, run)
    assert isinstance(facts[-1], f.RunCompleted)
    assert len(rig.model.asked) == 1
    assert rig.shared.dispatcher.models.in_use == 0


async def test_a_rule_that_throws_refuses_that_command_alone(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = make(lambda request: "done")
    seat = await rig.session()
    await rig.ended(seat, await rig.start(seat, "first"))

    def throws(state: Any, intent: Any, given: Any) -> Any:
        if isinstance(intent, i.NewEpoch):
            raise ZeroDivisionError("a secret of ours")
        return decide(state, intent, given)

    monkeypatch.setattr(session, "decide", throws)
    bad, good = Heard(), Heard()
    before = seat.state.seq
    seat.tell(i.NewEpoch(by=BY), "control", bad)
    seat.tell(i.SetMode(by=BY, mode="paused"), "control", good)
    with pytest.raises(Internal) as told:
        await bad.answer
    assert "secret" not in told.value.message
    assert (await good.answer).mode == "paused"
    assert (seat.state.seq, seat.state.epoch, seat.broken) == (before + 1, 0, None)


async def test_a_session_whose_log_somebody_else_writes_stops_and_says_so(make: Make) -> None:
    rig = make(lambda request: "done")
    seat = await rig.session()
    await rig.ended(seat, await rig.start(seat, "first"))
    await appended_by_another(rig, seat)
    before = seat.state
    with pytest.raises(Internal) as told:
        await rig.start(seat, "second")
    assert seat.broken is not None
    assert seat.broken in told.value.message
    assert seat.state is before
    with pytest.raises(Internal):
        await rig.tell(seat, i.SetMode(by=BY, mode="paused"))
    assert rig.shared.load.reserved >= 0


async def test_a_session_that_stopped_ends_its_work_and_leaves_the_permits_to_others(make: Make) -> None:
    """A worker that a stopped session had was lost to all the others for ever."""
    held = Held()

    async def answers(request: ModelRequest) -> Answer:
        if request.purpose == "planning":
            return one_task()
        return await held(request) if "stops" in str(request.messages) else "done"

    rig = make(answers, Settings(limits=Limits(workers=1, model_calls=1)))
    seat, other = await rig.session("s"), await rig.session("other")
    await rig.start(seat, "stops", "goal")
    await held.asked.wait()
    waiting = await rig.start(other, "goes on", "goal")
    assert (rig.shared.dispatcher.models.in_use, rig.shared.dispatcher.workers.in_use) == (1, 1)
    await appended_by_another(rig, seat)
    with pytest.raises(Internal):
        await rig.tell(seat, i.SetMode(by=BY, mode="paused"))
    facts = await rig.ended(other, waiting)
    assert isinstance(facts[-1], f.RunCompleted)
    assert (rig.shared.dispatcher.models.in_use, rig.shared.dispatcher.workers.in_use) == (0, 0)


async def test_facts_that_can_not_be_written_stop_the_session_and_are_told(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step's task died of it: nobody was answered, and its permits were gone."""
    rig = make(lambda request: "done")
    seat = await rig.session()
    await rig.ended(seat, await rig.start(seat, "first"))

    def unwritable(fact: Any) -> bytes:
        raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")

    monkeypatch.setattr(session, "encode", unwritable)
    with pytest.raises(Internal):
        await rig.start(seat, "second")
    assert seat.broken is not None
    assert rig.shared.dispatcher.models.in_use == 0
    assert rig.shared.load.reserved == 0


async def test_work_that_nobody_foresaw_to_fail_fails_its_run_and_not_silently(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt's task died of it, and its run said `running` for ever (F10)."""

    async def unreadable(*_: object) -> Any:
        raise StorageUnavailable("the log can't be read")

    rig = make(lambda request: "done")
    seat = await rig.session()
    with monkeypatch.context() as patched:
        patched.setattr(prompts, "for_answer", unreadable)
        facts = await rig.ended(seat, await rig.start(seat, "hello"))
    assert isinstance(facts[-1], f.RunFailed)
    assert facts[-1].cause is not None
    assert (facts[-1].cause.code, facts[-1].cause.task) == ("storage_unavailable", "answer")
    assert rig.shared.dispatcher.models.in_use == 0
    assert isinstance((await rig.ended(seat, await rig.start(seat, "again")))[-1], f.RunCompleted)


async def test_a_tool_that_returns_what_is_no_value_is_an_error_and_the_run_goes_on(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    round_: list[Any] = []
    round_.append(round_)
    for output in (object(), round_, {"a": "\ud800"}):

        async def odd(given: bytes, context: Any, output: Any = output) -> Any:
            return output

        monkeypatch.setitem(BUILTIN, "odd", Odd("odd", odd))
        rig = make(script(one_task(), calls(("odd", {})), "without it"))
        facts = await rig.goal("try")
        assert statuses(facts)["t"] == "done"
        assert [fact.error.kind for fact in facts if isinstance(fact, f.ToolFailed)] == ["failed"]
        assert problems(facts) == []


async def test_a_wrong_number_is_no_reason_to_try_again(make: Make) -> None:
    rig = make(lambda request: "done")
    seat = await rig.session()
    await rig.ended(seat, await rig.start(seat, "first"))
    rig.store.fail(1, Conflict("another term"))
    appends = rig.store.figures.commits
    assert seat.actor is not None
    seat.actor.wake()
    with pytest.raises(Internal):
        await rig.tell(seat, i.SetMode(by=BY, mode="paused"))
    await seat.actor.quiet()
    assert seat.broken is not None
    assert rig.store.figures.commits <= appends + 1


async def test_a_run_that_was_accepted_under_a_pause_which_ends_before_it_is_stored_starts(make: Make) -> None:
    """It was decided as held; when the pause ended nothing of it was published yet, so nobody woke it."""
    rig = make(lambda request: "done")
    seat = await rig.session()
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(batch: list[Append]) -> None:
        begun.set()
        await go_on.wait()

    rig.store.before_commit = slow
    rig.shared.load.server_paused = True
    starting = asyncio.ensure_future(rig.start(seat, "hello"))
    await begun.wait()
    rig.shared.load.server_paused = False
    seat.mode_changed()
    go_on.set()
    facts = await rig.ended(seat, await starting)
    assert isinstance(facts[-1], f.RunCompleted)


async def test_what_becomes_due_while_a_step_is_stored_is_not_forgotten() -> None:
    """The timer was set for what is due after the step was stored; what had become due meanwhile was taken for
    something that waits for something else, and its run stood still."""
    waits = plan({"id": "a", "kind": "delay", "delay_s": 0.20}, {"id": "b", "kind": "delay", "delay_s": 0.25})
    rig = Rig(lambda request: waits if request.purpose == "planning" else "done")

    async def slow(batch: list[Append]) -> None:
        await rig.clock.sleep(0.1)

    rig.store.before_commit = slow
    facts = await rig.goal("wait")
    assert isinstance(facts[-1], f.RunCompleted)
    await rig.end()


async def test_the_identity_files_are_looked_at_for_runs_that_begin_and_not_for_those_that_queue(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = asyncio.Event()

    async def slow() -> str:
        await go_on.wait()
        return "done"

    rig = make(lambda request: slow())
    seat = await rig.session()
    looks = list[str]()
    read = rig.shared.identity.read

    async def counted(agent: str) -> Identity:
        looks.append(agent)
        return await read(agent)

    monkeypatch.setattr(rig.shared.identity, "read", counted)
    runs = [await rig.start(seat, f"turn {number}") for number in range(6)]
    assert len(looks) == 1
    go_on.set()
    facts = [fact for run in runs for fact in await rig.ended(seat, run)]
    begun = [fact for fact in facts if isinstance(fact, f.RunStarted)]
    assert len({fact.identity for fact in begun} - {None}) == 1
    assert len(looks) == len(begun) == 6


async def test_a_run_that_ended_a_command_before_in_the_same_step_is_known_to_have_ended(make: Make) -> None:
    rig = make(lambda request: "done")
    seat = await rig.session()
    rig.shared.load.server_paused = True
    run = await rig.start(seat, "hello")
    twice = [asyncio.ensure_future(rig.tell(seat, i.Cancel(by=BY, run=run))) for _ in range(2)]
    first, second = await asyncio.gather(*twice)
    assert (first.queued_cancelled, second.queued_cancelled) == (1, 0)
