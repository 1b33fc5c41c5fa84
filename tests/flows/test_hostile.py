"""Clumsy and hostile clients: each bad frame has its one typed error, and harms nobody else."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from agentd.clock import SystemClock
from agentd.edge.tokens import Tokens
from tests.child import Child, Frame, facts, of_type, until

BAD: list[tuple[str | bytes, str]] = [
    ("", "invalid_frame"),
    ("{", "invalid_frame"),
    ("[1]", "invalid_frame"),
    ('"text"', "invalid_frame"),
    ('{"id": "b"}', "invalid_frame"),
    (b"\x00\x01", "invalid_frame"),
    ("[" * 5_000, "invalid_frame"),
    ('{"type": "nope", "id": "b"}', "unknown_type"),
    ('{"type": "plan.apply", "id": "b"}', "unknown_type"),
    ('{"type": "chat.send", "id": "b"}', "invalid_payload"),
    ('{"type": "chat.send", "id": "b", "content": ""}', "invalid_payload"),
    ('{"type": "chat.send", "id": "b", "content": 5}', "invalid_payload"),
    ('{"type": "chat.send", "id": "b", "content": "\\ud800"}', "invalid_payload"),
    ('{"type": "chat.send", "id": "b", "content": "/goal  "}', "invalid_payload"),
    ('{"type": "chat.send", "id": "b", "content": "x", "session": "a b"}', "invalid_payload"),
    ('{"type": "agent.control", "id": "b", "action": "dance"}', "invalid_payload"),
    ('{"type": "agent.control", "id": "b", "action": "approve"}', "invalid_payload"),
    ('{"type": "session.resume", "id": "b", "after": -1}', "invalid_payload"),
    ('{"type": "session.new", "id": "b", "archive": false}', "invalid_payload"),
    (json.dumps({"type": "chat.send", "id": "b", "content": "x" * 70_000}), "too_large"),
    ('{"type": "agent.control", "id": "b", "action": "steer", "text": "x"}', "no_active_run"),
    ('{"type": "agent.control", "id": "b", "action": "cancel", "run": "run_x"}', "not_found"),
    ('{"type": "agent.control", "id": "b", "action": "cancel", "task": "t1"}', "not_found"),
    ('{"type": "agent.control", "id": "b", "action": "answer", "task": "t1", "value": 1}', "not_found"),
    ('{"type": "trace.get", "id": "b", "run": "run_x"}', "not_found"),
    ('{"type": "session.history", "id": "b", "leaf_id": "x"}', "not_found"),
    ('{"type": "chat.send", "id": "b", "content": "x", "leaf_id": "x"}', "not_found"),
    ('{"type": "chat.send", "id": "b", "content": "x", "session": "_server"}', "forbidden"),
    ('{"type": "connect", "id": "b", "token": "x"}', "conflict"),
]


@pytest.fixture
async def child(tmp_path: Path) -> AsyncIterator[Child]:
    server = Child(tmp_path, "AGENTD_LIMITS__OUTBOX_FRAMES=50", "AGENTD_LIMITS__OUTBOX_BYTES=32768")
    await server.start()
    yield server
    assert await asyncio.to_thread(server.end, signal.SIGTERM) == 0


async def test_each_bad_frame_has_exactly_one_typed_error_and_the_socket_goes_on(child: Child) -> None:
    async with child.connect("bad") as socket:
        await socket.recv()
        for frame, code in BAD:
            await socket.send(frame)
            await socket.send('{"type": "ping", "id": "p"}')
            heard = await until(socket, of_type("error"))
            while not any(found.get("request") == "p" for found in heard):
                heard += await until(socket, lambda found: found.get("request") == "p" or found["type"] == "error")
            errors = [found for found in heard if found["type"] == "error"]
            assert [error["code"] for error in errors] == [code], frame[:80]
            has_id = code != "invalid_frame" or (isinstance(frame, str) and '"id"' in frame)
            assert errors[0].get("request") == ("b" if has_id else None), frame[:80]


async def test_strangers_are_refused_at_the_upgrade(child: Child) -> None:
    limited = await asyncio.to_thread(lambda: Tokens(child.state, SystemClock()).add("guest", frozenset({"chat"})))
    address = f"{child.url}/v1/agents/default/stream"

    async def status(url: str, token: str | None, origin: str | None = None) -> int:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        if origin is not None:
            headers["Origin"] = origin
        try:
            async with connect(url, additional_headers=headers):
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code

    local = (child.state / "token").read_text().strip()
    async with child.connect("mine") as socket:
        await socket.send('{"type": "chat.send", "content": "hello", "wait": true, "id": "w"}')
        await until(socket, lambda frame: frame.get("request") == "w")
    assert await status(f"{address}?session=mine", limited) == 403
    assert await status(f"{address}?session=guests", limited) == 101
    assert await status(address.replace("default", "other") + "?session=mine", local) == 409
    assert await status(f"{address}?session=a%20b", local) == 400
    assert await status(f"{address}?token={local}", None) == 400
    assert await status(address, local, "http://evil.example") == 403
    assert await status(address.replace("default", "..%2f"), local) in (400, 404)
    assert [await status(address, "wrong") for _ in range(12)][-1] in (429, 503)


async def test_a_client_that_reads_nothing_disturbs_nobody_and_loses_no_fact(child: Child) -> None:
    turns = 60
    async with child.connect("slow") as slow, child.connect("slow") as quick:
        slow.transport.pause_reading()
        for turn in range(turns):
            await quick.send(
                json.dumps({"type": "chat.send", "id": str(turn), "content": "[[chunks=40]] " + "x" * 4_000})
            )
            await until(quick, of_type("run.completed"))
        slow.transport.resume_reading()
        told: list[Frame] = []
        while sum(fact["type"] == "run.completed" for fact in told) < turns:
            told += facts(await until(slow, lambda frame: "seq" in frame and frame["type"] != "session.ack"))
        assert [fact["seq"] for fact in told] == list(range(1, len(told) + 1))
