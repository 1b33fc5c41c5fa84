"""A session that rests: its state is out of memory, its followers, heartbeat and commands are not (rulings 35)."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from agentd.actors.heartbeat import liveness
from agentd.actors.seat import SNAPSHOT_FACTS, Seat
from agentd.core import intents as i
from agentd.protocol import facts as f
from agentd.protocol.errors import Conflict, Overloaded, StorageUnavailable
from agentd.settings import Limits, Settings
from tests.actors.rig import BY, Heard, Rig, Script, Sink, plan

ALL = float("inf")
Make = Callable[[Script, Settings], Rig]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig(lambda request: "done", Settings(limits=Limits(mailbox=2)))
    yield made
    await made.end()


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    rigs: list[Rig] = []

    def made(script: Script, settings: Settings) -> Rig:
        rigs.append(Rig(script, settings))
        return rigs[-1]

    yield made
    for one in rigs:
        await one.end()


def awake(seat: Seat) -> bool:
    return seat.actor is not None


async def rested(rig: Rig, turns: int = 1) -> Seat:
    """A followed session that has had so many turns and rests now."""
    seat = await rig.session()
    seat.feed.add(Sink(), 0)
    for number in range(turns):
        await rig.ended(seat, await rig.start(seat, f"turn {number}"))
    assert seat.actor is not None
    await seat.actor.quiet()
    assert rig.directory.let_go(ALL, ALL) == 1
    assert not awake(seat)
    return seat


async def test_its_state_is_gone_and_its_next_command_brings_it_in(rig: Rig) -> None:
    seat = await rested(rig)
    assert (seat.state.window, seat.state.runs, seat.unfinished) == ((), {}, 0)
    assert rig.directory.awake == 0
    assert liveness(seat, True).status == "idle"
    assert not awake(seat), "a heartbeat does not wake it"
    facts = await rig.ended(seat, await rig.start(seat, "again"))
    assert isinstance(facts[-1], f.RunCompleted)
    assert len(seat.state.window) == 4, "with all that it remembered"
    assert rig.directory.get("s") is seat


async def test_a_run_that_waits_rests_and_is_still_counted_and_told(rig: Rig) -> None:
    seat = await rig.session()
    await rig.tell(seat, i.SetMode(by=BY, mode="paused"))
    await rig.start(seat, "held")
    assert seat.actor is not None
    await seat.actor.quiet()
    assert rig.directory.let_go(ALL, ALL) == 1
    assert not awake(seat)
    assert (seat.unfinished, rig.shared.load.unfinished) == (1, 1)
    assert liveness(seat, True).status == "blocked"
    await rig.tell(seat, i.SetMode(by=BY, mode="running"))
    await rig.until(seat, lambda fact: isinstance(fact, f.RunCompleted))
    assert rig.shared.load.unfinished == 0


async def test_what_runs_is_not_put_to_rest() -> None:
    go_on = asyncio.Event()

    async def slow() -> str:
        await go_on.wait()
        return "done"

    rig = Rig(lambda request: slow())
    seat = await rig.session()
    await rig.start(seat, "work")
    assert rig.directory.let_go(ALL, ALL) == 0
    go_on.set()
    await rig.until(seat, lambda fact: isinstance(fact, f.RunCompleted))
    await rig.end()


async def test_nobody_follows_and_nothing_is_unfinished_so_it_leaves(rig: Rig) -> None:
    seat = await rested(rig)
    seat.feed.followers.clear()
    rig.directory.let_go(ALL, ALL)
    assert rig.directory.get("s") is None


async def test_a_snapshot_is_kept_when_there_is_much_to_read_again(rig: Rig) -> None:
    seat = await rested(rig, turns=SNAPSHOT_FACTS // 5)
    await rig.until(seat, lambda fact: fact.seq == seat.feed.seq)
    kept = await rig.store.snapshot("s", 1)
    assert kept is not None
    assert kept.seq == seat.feed.seq
    actor = await seat.awake()
    assert actor.state.seq == kept.seq


async def test_commands_that_come_while_it_is_read_wait_in_order_and_are_bounded(rig: Rig) -> None:
    seat = await rested(rig)
    heard = [Heard() for _ in range(2)]
    for one, mode in zip(heard, ("paused", "running"), strict=True):
        seat.tell(i.SetMode(by=BY, mode=mode), "control", one)  # type: ignore[arg-type]
    with pytest.raises(Overloaded):
        seat.tell(i.SetMode(by=BY, mode="paused"), "control", Heard())
    answers = [await one.answer for one in heard]
    assert [answer.mode for answer in answers] == ["running", "running"], "one step, shown as it left"
    modes = [fact.mode for fact in await rig.facts(seat) if isinstance(fact, f.SessionMode)]
    assert modes == ["paused", "running"]


async def test_a_session_that_can_not_be_read_refuses_its_clients_and_keeps_its_place(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seat = await rested(rig)

    async def broken(session: str) -> None:
        raise StorageUnavailable("the disk is away")

    with monkeypatch.context() as patched:
        patched.setattr(rig.store, "load", broken)
        with pytest.raises(StorageUnavailable):
            await rig.start(seat, "lost?")
        assert rig.shared.load.reserved == 0
    assert await rig.start(seat, "and now")


async def test_a_command_that_comes_while_it_is_brought_in_for_a_question_is_not_lost(rig: Rig) -> None:
    """It went into a list that nobody held: no answer, and the reservation of its run for ever."""
    seat = await rested(rig)
    question = asyncio.ensure_future(seat.awake())
    await asyncio.sleep(0)
    assert await rig.start(seat, "meanwhile")
    await question
    assert rig.shared.load.reserved == 0


async def test_a_session_that_is_read_and_comes_to_nothing_is_not_counted(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The actor was made, counted its runs, and then what its queued runs start from could not be read."""
    seat = await rig.session()
    await rig.ended(seat, await rig.start(seat, "a turn"))
    leaf = seat.state.leaf
    await rig.tell(seat, i.SetMode(by=BY, mode="paused"))
    run = rig.clock.new_id("run")
    await rig.tell(seat, i.StartRun(by=BY, run=run, kind="chat", content="held", leaf_id=leaf))
    assert seat.actor is not None
    await seat.actor.quiet()
    assert rig.directory.let_go(ALL, ALL) == 1
    before = rig.shared.load.unfinished

    async def broken(*args: object, **more: object) -> None:
        raise StorageUnavailable("the disk is away")

    with monkeypatch.context() as patched:
        patched.setattr(rig.store, "path", broken)
        with pytest.raises(StorageUnavailable):
            await rig.tell(seat, i.SetMode(by=BY, mode="running"))
    assert rig.shared.load.unfinished == before == 1


async def test_queued_tasks_of_a_session_that_rests_hold_no_room(make: Make) -> None:
    go_on = asyncio.Event()

    async def slow() -> str:
        await go_on.wait()
        return "done"

    tasks = plan(*({"id": f"t{n}", "prompt": "do"} for n in range(3)))
    rig = make(lambda request: tasks if request.purpose == "planning" else slow(), Settings(limits=Limits(workers=1)))
    seat = await rig.session()
    run = await rig.start(seat, "three things", "goal")
    await rig.until(seat, lambda fact: isinstance(fact, f.AgentStatus) and fact.status == "running")
    await rig.tell(seat, i.SetMode(by=BY, mode="paused"))
    go_on.set()
    await rig.until(seat, lambda fact: isinstance(fact, f.AgentStatus) and fact.status == "done")
    assert seat.actor is not None
    await seat.actor.quiet()
    assert rig.shared.dispatcher.queued == 2
    assert rig.directory.let_go(ALL, ALL) == 1
    assert rig.shared.dispatcher.queued == 0
    await rig.tell(seat, i.SetMode(by=BY, mode="running"))
    await rig.ended(seat, run)
    assert rig.shared.dispatcher.queued == 0


async def test_a_session_with_something_to_try_again_does_not_rest(rig: Rig) -> None:
    """A result that could not be stored waits outside the mailbox; the session left without it and came back as a
    second one."""
    seat = await rig.session()
    await rig.tell(seat, i.SetMode(by=BY, mode="running"))
    rig.store.fail()
    seat.tell(i.Warn(by=BY, code="c", message="m", source="test"), "result")
    actor = seat.actor
    assert actor is not None
    await actor.quiet()
    assert not actor.restful
    assert not actor.idle
    await rig.until(seat, lambda fact: isinstance(fact, f.Warned))
    await actor.quiet()
    assert actor.restful


async def test_a_timer_rings_for_a_session_that_rests_wherever_the_wall_clock_is(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a wall clock that had jumped ahead the time had passed already, so no timer was set, and nobody woke it."""
    tasks = plan({"id": "w", "kind": "delay", "delay_s": 0.2})
    rig = make(lambda request: tasks if request.purpose == "planning" else "done", Settings())
    seat = await rig.session()
    seat.feed.add(Sink(), 0)
    run = await rig.start(seat, "wait", "goal")
    await rig.until(seat, lambda fact: isinstance(fact, f.AgentPlan))
    assert seat.actor is not None
    await seat.actor.quiet()
    now_ms = rig.clock.now_ms
    monkeypatch.setattr(rig.clock, "now_ms", lambda: now_ms() + 3_600_000)
    assert rig.directory.let_go(ALL, ALL) == 1
    facts = await rig.ended(seat, run)
    assert isinstance(facts[-1], f.RunCompleted)


async def test_a_wake_that_could_not_be_read_for_is_not_lost_when_somebody_else_brings_it_in(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was to be tried again; who came first took the timer away, and was refused: the run stood (seed 141)."""
    rig.shared.load.server_paused = True
    seat = await rig.session()
    seat.feed.add(Sink(), 0)
    run = await rig.start(seat, "held")
    assert rig.directory.let_go(ALL, ALL) == 1
    load, failed = rig.store.load, asyncio.Event()

    async def failing(session: str) -> object:
        failed.set()
        raise StorageUnavailable("the disk is away")

    monkeypatch.setattr(rig.store, "load", failing)
    rig.shared.load.server_paused = False
    seat.mode_changed()
    await failed.wait()
    await asyncio.sleep(0)
    monkeypatch.setattr(rig.store, "load", load)
    with pytest.raises(Conflict):
        await rig.tell(seat, i.StartRun(by=BY, run="run_x", kind="chat", content="no", mode="reject"))
    assert isinstance((await rig.ended(seat, run))[-1], f.RunCompleted)
