"""What concerns all sessions: a pause that can't be stored leaves nothing waiting for it to end."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from agentd.actors.server import ServerActor
from agentd.edge.ask import Ask
from agentd.edge.auth import Auth
from agentd.edge.reception import CALM_MAX_S, REFUSALS_PER_S, Reception
from agentd.protocol import facts as f
from agentd.protocol.errors import AgentdError, StorageUnavailable
from agentd.store.store import Append
from tests.actors.rig import BY, Rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig(lambda request: "done")
    yield made
    await made.end()


class Told:
    """Who asked for the pause."""

    def __init__(self) -> None:
        self.error: AgentdError | None = None

    def refused(self, session: str, seq: int, error: AgentdError) -> None:
        self.error = error

    def done(self, session: str, seq: int, reply: Any) -> None:
        raise AssertionError("the pause can't be stored")


async def test_going_on_lets_nothing_begin_while_the_server_shuts_down(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempts were told as begun that nobody started any more."""
    server = ServerActor(rig.shared)
    reception = Reception(rig.shared, rig.directory, server, cast(Auth, None), "log")
    await server.record(f.ServerMode, BY, mode="paused")
    reception.draining_ms = 8_000
    rig.shared.dispatcher.hold(True)
    answered: list[Any] = []
    monkeypatch.setattr(Told, "done", lambda self, session, seq, reply: answered.append(reply.mode))
    await reception.for_all("resume", BY, None, cast(Ask, Told()))
    assert answered == ["running"]
    assert rig.shared.dispatcher.models.held


async def test_what_is_held_back_by_a_pause_that_is_not_stored_goes_on(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permits are held back before the fact is stored. What looked for work meanwhile found none, and nobody told it
    that the pause had come to nothing."""
    reception = Reception(rig.shared, rig.directory, ServerActor(rig.shared), cast(Auth, None), "log")
    seat = await rig.session()
    runs: list[str] = []

    append = rig.store.append

    async def not_the_server_s(one: Append) -> None:
        if one.session == "_server":
            runs.append(await rig.start(seat, "hello"))
            raise StorageUnavailable("the disk is full")
        await append(one)

    monkeypatch.setattr(rig.store, "append", not_the_server_s)
    told = Told()
    await reception.for_all("pause", BY, None, cast(Ask, told))
    assert isinstance(told.error, StorageUnavailable)
    assert not rig.shared.load.server_paused
    facts = await rig.ended(seat, runs[0])
    assert isinstance(facts[-1], f.RunCompleted)


async def test_refused_sockets_come_back_one_after_the_other_few_soon_and_none_after_a_tenth_of_a_second(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many refusals a second cost 5 % of a core, however many sockets there are (rulings 28)."""
    server = ServerActor(rig.shared)
    reception = Reception(rig.shared, rig.directory, server, cast(Auth, None), "log")
    now = [100.0]
    monkeypatch.setattr(rig.clock, "monotonic_s", lambda: now[0])
    assert reception.calm_s() == pytest.approx(1 / REFUSALS_PER_S)
    waits = [reception.calm_s() for _ in range(400)]
    assert waits == sorted(waits)
    assert waits[29] == pytest.approx(31 / REFUSALS_PER_S)
    assert waits[-1] == pytest.approx(CALM_MAX_S)
    now[0] += CALM_MAX_S
    assert reception.calm_s() == pytest.approx(1 / REFUSALS_PER_S), "what is over is not paid for later"
