"""Which sessions are here: one seat for each key, whoever comes first."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from agentd.actors import directory
from agentd.core import intents as i
from agentd.protocol import facts as f
from agentd.protocol.errors import StorageUnavailable
from agentd.providers.provider import ModelRequest
from agentd.store.store import Loaded
from tests.actors.rig import BY, Rig

ALL = float("inf")


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig(lambda request: "done")
    yield made
    await made.end()


async def test_a_session_that_is_adopted_and_written_to_while_it_is_looked_for_has_one_actor(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who looked found its first facts in the log, and put a second actor in the place of the one that wrote them."""
    load, begun, go_on = rig.store.load, asyncio.Event(), asyncio.Event()

    async def slow(session: str) -> Loaded | None:
        begun.set()
        await go_on.wait()
        return await load(session)

    seat = await rig.session()
    rig.directory.let_go(ALL, ALL)
    monkeypatch.setattr(rig.store, "load", slow)
    looking = asyncio.ensure_future(rig.directory.find("s"))
    await begun.wait()
    assert rig.directory.keep(seat) is seat, "its socket was made meanwhile"
    await rig.tell(seat, i.SetMode(by=BY, mode="paused"))
    go_on.set()
    assert await looking is seat
    assert rig.directory.get("s") is seat


@pytest.mark.parametrize("first", ["nobody", "a client"])
async def test_a_session_that_can_not_be_read_at_the_start_is_recovered_later(
    monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Nobody went on with its runs; and whoever brought it in next had its attempts begin again as if they were new."""
    hang = asyncio.Event()

    async def hangs(request: ModelRequest) -> str:
        await hang.wait()
        return "too late"

    old = Rig(hangs)
    seat = await old.session()
    run = await old.start(seat, "hello")
    await old.until(seat, lambda fact: isinstance(fact, f.AgentProgress) and fact.status == "started")
    new = Rig(lambda request: "done", disk=old.store.disk.copy())
    load, read, failures = new.store.load, asyncio.Event(), [StorageUnavailable("the disk is away")]

    async def failing(session: str) -> Loaded | None:
        if failures:
            raise failures.pop()
        read.set()
        return await load(session)

    monkeypatch.setattr(new.store, "load", failing)
    monkeypatch.setattr(directory, "RECOVER_AGAIN_S", 0.01 if first == "nobody" else 60.0)
    await new.directory.recover()
    if first == "nobody":
        await read.wait()
    facts = await new.ended(await new.session(), run)
    told = [fact for fact in facts if isinstance(fact, f.AgentStatus) and fact.status == "retrying"]
    assert [fact.by.via for fact in told if fact.by is not None] == ["recovery"]
    assert isinstance(facts[-1], f.RunCompleted)
    hang.set()
    await old.end()
    await new.end()
