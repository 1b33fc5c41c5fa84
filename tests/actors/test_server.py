"""The server's own stream: one fact at a time, in order, stored before it counts (rulings 38, 49)."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from agentd.actors.server import ServerActor
from agentd.core.server import KEY, ServerState
from agentd.protocol import facts as f
from agentd.protocol.codec import decode_fact
from agentd.protocol.errors import StorageUnavailable
from tests.actors.rig import BY, Rig, Sink


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig(lambda _: "yes")
    yield made
    await made.end()


async def stored(rig: Rig) -> list[f.AnyFact]:
    return [decode_fact(body) for body in (await rig.store.read(KEY, 0, 100, 1 << 20)).bodies]


async def test_acts_at_the_same_moment_are_numbered_one_after_the_other_and_heard_in_order(rig: Rig) -> None:
    server = ServerActor(rig.shared)
    await server.load()
    sink = Sink()
    server.feed.add(sink, 0).follow()
    acts = [server.record(f.ServerDenied, BY, action=f"a{n}", target="t", reason="no") for n in range(5)]
    assert await asyncio.gather(*acts) == [1, 2, 3, 4, 5]
    heard = [await sink.next() for _ in acts]
    assert heard == await stored(rig)
    assert [fact.seq for fact in heard if fact is not None] == [1, 2, 3, 4, 5]


async def test_its_row_shows_the_mode_that_the_fact_led_to(rig: Rig) -> None:
    """A view is a function of a fact and the state after it (design 6)."""
    server = ServerActor(rig.shared)
    for mode in ("paused", "running"):
        await server.record(f.ServerMode, BY, mode=mode)
        rows = {info.row.key: info.row for info in await rig.store.sessions(limit=10)}
        assert (rows[KEY].mode, server.state.mode) == (mode, mode)


async def test_what_was_not_stored_did_not_happen_and_the_next_act_takes_its_number(rig: Rig) -> None:
    server = ServerActor(rig.shared)
    rig.store.fail(1)
    with pytest.raises(StorageUnavailable):
        await server.record(f.ServerMode, BY, mode="paused")
    assert (server.state, server.feed.seq, await stored(rig)) == (ServerState(), 0, [])
    assert await server.record(f.ServerMode, BY, mode="paused") == 1
    assert server.state.mode == "paused"


async def test_a_pause_of_all_survives_a_restart_and_holds_the_permits_back(rig: Rig) -> None:
    server = ServerActor(rig.shared)
    await server.record(f.ServerStarted, version="1", log="l", term=1)
    await server.record(f.ServerMode, BY, mode="paused")
    await server.record(f.ServerStopped, drained=True)
    again = ServerActor(rig.shared)
    await again.load()
    assert again.state == server.state
    assert (again.state.mode, again.state.drained, again.feed.seq) == ("paused", True, 3)
    assert rig.shared.load.server_paused
    assert not rig.shared.dispatcher.workers.available("s"), "held"


async def test_time_never_goes_back_in_its_stream(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rulings 2."""
    server = ServerActor(rig.shared)
    for now in (5_000, 4_000, 6_000):
        monkeypatch.setattr(rig.clock, "now_ms", lambda now=now: now)
        await server.record(f.ServerMode, BY, mode="paused")
    assert [fact.ts for fact in await stored(rig)] == [5_000, 5_000, 6_000]


async def test_an_act_that_is_stored_later_than_anybody_waited_for_counts_and_the_next_one_follows_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that hangs for half a minute: who asked hears `timeout`, and the stream does not lose its place."""
    monkeypatch.setattr("agentd.actors.server.LOCK_S", 0.02)
    server = ServerActor(rig.shared)
    gate = asyncio.Event()

    async def slow(_: object) -> None:
        await gate.wait()

    rig.store.before_commit = slow
    with pytest.raises(TimeoutError):
        await server.record(f.ServerMode, BY, mode="paused")
    gate.set()
    monkeypatch.undo()
    assert await server.record(f.ServerDenied, BY, action="a", target="t", reason="r") == 2
    assert [type(fact) for fact in await stored(rig)] == [f.ServerMode, f.ServerDenied]
    assert (server.state.mode, server.feed.seq, rig.shared.load.server_paused) == ("paused", 2, True)
