"""What is behind a socket: each request has its answer, also when it goes elsewhere or meets a bound."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from agentd.app import App
from tests.edge.served import app, token_of

WAIT_S = 10.0


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[App]:
    async with app(tmp_path, limits__runs_per_session=1, limits__requests_per_socket=2) as made:
        yield made


def opened(served: App, tmp_path: Path, session: str) -> connect:
    address = f"ws://127.0.0.1:{served.edge.port}/v1/agents/default/stream?session={session}"
    return connect(address, additional_headers={"Authorization": f"Bearer {token_of(tmp_path)}"}, proxy=None)


async def answer_to(socket: ClientConnection, request: str) -> dict[str, Any]:
    async with asyncio.timeout(WAIT_S):
        while True:
            frame: dict[str, Any] = json.loads(await socket.recv())
            if frame.get("request") == request:
                return frame


async def test_a_command_for_another_session_that_is_refused_is_answered(served: App, tmp_path: Path) -> None:
    """The refusal closed the request, and who was to tell it found it closed: no answer at all."""
    async with opened(served, tmp_path, "busy") as busy, opened(served, tmp_path, "mine") as mine:
        await busy.send(json.dumps({"type": "agent.control", "action": "pause", "id": "p"}))
        await busy.send(json.dumps({"type": "chat.send", "content": "waits", "id": "w"}))
        await answer_to(busy, "w")
        await mine.send(json.dumps({"type": "chat.send", "session": "busy", "content": "one too many", "id": "e"}))
        frame = await answer_to(mine, "e")
        assert (frame["code"], frame["details"]["cap"]) == ("overloaded", "runs_per_session")
        await mine.send(json.dumps({"type": "chat.send", "session": "nowhere", "content": "x", "id": "n"}))
        assert (await answer_to(mine, "n"))["code"] == "not_found"


async def test_a_request_behind_a_held_one_that_is_refused_for_load_bears_its_id(served: App, tmp_path: Path) -> None:
    async with opened(served, tmp_path, "mine") as mine:
        frame = {"type": "chat.send", "session": "elsewhere", "content": "x"}
        for name in ("a", "b", "c", "d", "e"):  # the first holds the others back, two of them may wait
            await mine.send(json.dumps({**frame, "id": name}))
        async with asyncio.timeout(WAIT_S):
            heard = [json.loads(await mine.recv()) for _ in range(6)][1:]
        assert sorted(one["request"] for one in heard) == ["a", "b", "c", "d", "e"]
