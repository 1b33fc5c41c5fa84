"""A connection before it is a WebSocket: deadlines, bounds, and what uvicorn would let through."""

import asyncio
import json

import pytest
from starlette.types import Receive, Scope, Send

from agentd.edge.connection import HttpConnection
from agentd.edge.limits import Limits
from tests.edge.rig import TEXT, ManualClock, frame, running, settle, until, upgrade_request

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_headers_that_do_not_come_are_answered_with_408(said: bytes) -> None:
    clock = ManualClock()
    async with running(clock=clock) as rig:
        client = await rig.connect()
        client.write(said)
        await settle(10)
        await clock.advance(9.9)
        client.write(said and b"X-Slow: 1\r\n")
        await settle(10)
        await clock.advance(0.2)
        status, _, body = await client.read_response()
        assert (status, json.loads(body)["code"]) == (408, "timeout")
        assert await client.read_end() == b""
        assert rig.server.figures.header_timeouts == 1


@pytest.mark.parametrize("said", [b"G", b"\r\n"])
async def test_a_kept_alive_connection_has_the_same_deadline_for_its_next_request(said: bytes) -> None:
    clock = ManualClock()
    async with running(clock=clock) as rig:
        client = await rig.connect()
        client.write(GET)
        assert (await client.read_response())[0] == 200
        client.write(said)
        await settle(10)
        await clock.advance(10.1)
        assert (await client.read_response())[0] == 408


async def test_a_request_that_is_being_answered_has_no_such_deadline() -> None:
    clock = ManualClock()
    answer, asked = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        asked.set()
        await answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async with running(clock=clock, app=slow) as rig:
        client = await rig.connect()
        client.write(GET)
        await asked.wait()
        await clock.advance(60)
        answer.set()
        assert (await client.read_response())[0] == 200


async def test_headers_over_their_bound_are_answered_with_431() -> None:
    async with running() as rig:
        client = await rig.connect()
        client.write(b"GET / HTTP/1.1\r\n", b"X-Much: 1\r\n" * 8_000)
        status, _, body = await client.read_response()
        assert (status, json.loads(body)["code"]) == (431, "too_large")


async def test_what_is_no_http_is_a_400_with_the_error_object() -> None:
    async with running() as rig:
        client = await rig.connect()
        client.write(b"\x16\x03\x01 hello\r\n\r\n")
        status, _, body = await client.read_response()
        assert (status, json.loads(body)["code"]) == (400, "invalid_payload")


async def test_an_upgrade_behind_an_unanswered_request_is_not_taken() -> None:
    answer = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await answer.wait()

    async with running(app=slow) as rig:
        client = await rig.connect()
        client.write(GET, upgrade_request(), frame(TEXT, b"x"))
        assert await client.read_end() == b""
        assert rig.door.upgrades == []
        answer.set()


async def test_an_upgrade_behind_an_answered_request_is_taken() -> None:
    async with running() as rig:
        client = await rig.connect()
        client.write(GET)
        assert (await client.read_response())[0] == 200
        client.write(upgrade_request(), frame(TEXT, b"x"))
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
        assert await client.read_text() == b"x"


async def test_an_upgrade_to_something_else_is_answered_as_a_plain_request() -> None:
    async with running() as rig:
        client = await rig.connect()
        client.write(upgrade_request().replace(b"Upgrade: websocket", b"Upgrade: h2c"))
        assert (await client.read_response())[::2] == (200, b"ok")


async def test_connections_over_the_bound_are_answered_with_503() -> None:
    async with running(Limits(sockets=1, connections_beside=1)) as rig:
        await rig.raw()
        await rig.connect()
        await until(lambda: len(_connections(rig.server)) == 2)
        third = await rig.connect()
        status, _, body = await third.read_response()
        assert (status, json.loads(body)["details"]["cap"]) == (503, "sockets")
        assert await third.read_end() == b""


async def test_after_an_upgrade_only_the_socket_is_a_member() -> None:
    async with running() as rig:
        client = await rig.raw()
        members = _connections(rig.server)
        assert len(members) == 1
        assert not any(isinstance(member, HttpConnection) for member in members)
        client.close()
        await until(lambda: not members)


def _connections(server: object) -> set[object]:
    running_server = server._server  # type: ignore[attr-defined]
    assert running_server is not None
    members: set[object] = running_server.server_state.connections
    return members
