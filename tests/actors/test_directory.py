"""Which sessions are here: one seat for each key, whoever comes first."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from agentd.core import intents as i
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
