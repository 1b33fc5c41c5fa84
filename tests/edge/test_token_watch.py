"""A token that is given out, taken back and given out again while a whole server runs."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from agentd.clock import SystemClock
from agentd.edge.tokens import Tokens
from tests.child import Child, Frame, all_facts, of_type, until


@pytest.fixture
async def child(tmp_path: Path) -> AsyncIterator[Child]:
    server = Child(tmp_path / "state")
    await server.start()
    yield server
    await asyncio.to_thread(server.kill)


def with_token(child: Child, session: str, token: str) -> connect:
    return connect(child.address(session), additional_headers={"Authorization": f"Bearer {token}"})


async def last_of(socket: ClientConnection) -> Frame:
    """What it heard last before it was closed."""
    last: Frame = {}
    with suppress(ConnectionClosedError):
        async with asyncio.timeout(10):
            while True:
                last = json.loads(await socket.recv())
    return last


async def told(child: Child, count: int) -> list[Frame]:
    """The server's facts about tokens, once there are so many."""
    async with child.connect("_server", after=0) as socket:
        found: list[Frame] = []
        while len(found) < count:
            found += (await until(socket, lambda frame: str(frame["type"]).startswith("token.")))[-1:]
        return found


async def test_tokens_are_told_and_a_revoked_one_is_disconnected_at_once(child: Child) -> None:
    tokens = Tokens(child.state, SystemClock())
    secret = tokens.add("phone", frozenset({"chat"}))
    async with with_token(child, "p", secret) as phone, child.connect("p") as ours:
        await phone.send(json.dumps({"type": "chat.send", "content": "hello"}))
        await until(phone, of_type("run.completed"))
        assert [(fact["type"], fact["name"]) for fact in await told(child, 1)] == [("token.added", "phone")]
        tokens.revoke("phone")
        last = await last_of(phone)
        assert (phone.close_code, last["code"], last["message"]) == (1008, "unauthorized", "this token was revoked")
        await until(ours, of_type("run.completed"))
        await ours.send(json.dumps({"type": "ping", "id": "1"}))
        await until(ours, of_type("pong"))
    with pytest.raises(InvalidStatus):
        async with with_token(child, "p", secret):
            pass
    facts = await told(child, 2)
    assert [(fact["type"], fact["by"]["via"]) for fact in facts] == [("token.added", "cli"), ("token.revoked", "cli")]
    assert secret not in json.dumps(facts)


async def test_another_token_of_the_same_name_is_told_as_another_one_and_nothing_twice(child: Child) -> None:
    tokens = Tokens(child.state, SystemClock())
    tokens.add("phone", frozenset({"chat"}))
    await told(child, 1)
    tokens.revoke("phone")
    tokens.add("phone", frozenset({"chat", "operator"}))
    facts = await told(child, 3)
    assert [fact["type"] for fact in facts] == ["token.added", "token.revoked", "token.added"]
    assert facts[2]["scopes"] == ["chat", "operator"]
    await asyncio.to_thread(child.end, signal.SIGTERM)
    await child.start()
    tokens.add("desk", frozenset({"chat"}))
    assert [fact["name"] for fact in await told(child, 4)] == ["phone", "phone", "phone", "desk"]
    assert len([fact for fact in await all_facts(child, "_server") if fact["type"].startswith("token.")]) == 4
