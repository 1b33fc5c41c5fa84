"""What stands behind a socket, where it could not enter, or where a session can't be read (protocol.md, 1 and 3)."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from agentd.app import App
from agentd.edge.client import close_code
from agentd.edge.refusal import CREDENTIALS_CAP, SocketsFull
from agentd.protocol import errors as e
from tests.child import of_type, until
from tests.edge.served import app, token_of


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[App]:
    async with app(tmp_path, limits__sockets_per_session=1) as made:
        yield made


@pytest.fixture
def token(server: App, tmp_path: Path) -> str:
    return token_of(tmp_path)


def open_socket(server: App, session: str, token: str | None = None) -> connect:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    url = f"{server.url.replace('http', 'ws')}/v1/agents/default/stream?session={session}"
    return connect(url, additional_headers=headers)


async def parted(socket: ClientConnection, **frame: Any) -> tuple[dict[str, Any], int | None]:
    """The error that answers a frame, and the code of the close behind it."""
    await socket.send(json.dumps({"id": "q", **frame}))
    told = json.loads(await socket.recv())
    with pytest.raises(ConnectionClosed):
        await socket.recv()
    return told, socket.close_code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (e.Draining("x"), 1001),
        (SocketsFull(used=1, limit=1), 1013),
        (e.Overloaded("x", details={"cap": "memory"}), 1013),
        (e.Overloaded("x", details={"cap": CREDENTIALS_CAP}), 1008),
        (e.Unauthorized("x"), 1008),
        (e.Forbidden("x"), 1008),
        (e.Conflict("x"), 1008),
        (e.NotFound("x", kind="session"), 1008),
        (e.StorageUnavailable("x"), 1011),
        (e.Timeout("x"), 1011),
        (e.Internal("x"), 1011),
    ],
)
def test_a_close_says_whether_it_is_the_client_s_the_server_s_or_the_moment_s(error: e.AgentdError, code: int) -> None:
    assert close_code(error) == code


async def test_a_first_frame_with_a_wrong_token_or_another_s_session_is_1008(
    server: App, token: str, tmp_path: Path
) -> None:
    async with open_socket(server, "mine", token) as socket:
        await socket.send(json.dumps({"type": "chat.send", "content": "hello"}))
        await until(socket, of_type("run.completed"))
    guest = server.reception.auth._tokens.add("guest", frozenset({"chat"}))
    for given, code in (("wrong", "unauthorized"), (guest, "forbidden")):
        async with open_socket(server, "mine") as socket:
            told, closed = await parted(socket, type="connect", token=given)
            assert (told["code"], told["request"], closed) == (code, "q", 1008)


async def test_where_there_is_no_room_the_first_frame_is_answered_so_and_1013(server: App, token: str) -> None:
    async with open_socket(server, "full", token) as first:
        await until(first, of_type("session.ack"))
        async with open_socket(server, "full") as second:
            told, closed = await parted(second, type="connect", token=token)
            assert (told["code"], told["details"]["cap"], closed) == ("overloaded", "sockets", 1013)
    async with open_socket(server, "full") as third:
        await third.send(json.dumps({"type": "connect", "token": token}))
        assert (await until(third, of_type("session.ack")))[-1]["session"] == "full"


@pytest.mark.parametrize(
    ("failure", "code"),
    [(e.StorageUnavailable("the disk is gone"), "storage_unavailable"), (TimeoutError(), "timeout")],
)
async def test_a_session_that_can_not_be_read_is_our_fault_and_is_answered(
    server: App, token: str, monkeypatch: pytest.MonkeyPatch, failure: Exception, code: str
) -> None:
    async with open_socket(server, "here", token) as here, open_socket(server, "there") as there:
        await until(here, of_type("session.ack"))

        async def gone(key: str) -> None:
            raise failure

        monkeypatch.setattr(server.directory, "find", gone)
        told, closed = await parted(there, type="connect", token=token)
        assert (told["code"], told["retryable"], closed) == (code, True, 1011)
        for frame in (
            {"type": "chat.send", "content": "x", "session": "other"},
            {"type": "session.history", "session": "other"},
            {"type": "memory.forget", "memory_ids": ["e"], "session": "other"},
        ):
            await here.send(json.dumps({"id": frame["type"], **frame}))
            answer = (await until(here, of_type("error")))[-1]
            assert (answer["code"], answer["request"]) == (code, frame["type"])
        await here.send(json.dumps({"type": "ping", "id": "p"}))
        assert (await until(here, of_type("pong")))[-1]["request"] == "p", "the socket goes on"


async def test_frames_before_connect_and_a_second_connect_are_refused(server: App, token: str) -> None:
    async with open_socket(server, "s") as socket:
        told, closed = await parted(socket, type="chat.send", content="hello")
        assert (told["code"], closed) == ("unauthorized", 1008)
    async with open_socket(server, "s", token) as socket:
        await until(socket, of_type("session.ack"))
        await socket.send(json.dumps({"type": "connect", "token": token, "id": "again"}))
        told = (await until(socket, of_type("error")))[-1]
        assert (told["code"], told["details"]) == ("conflict", {"reason": "connected"})


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"type": "chat.send", "content": "x", "session": "_server"}, "forbidden"),
        ({"type": "session.branch", "leaf_id": "e", "new_session": "b", "session": "*"}, "invalid_payload"),
        ({"type": "session.branch", "leaf_id": "nobody", "new_session": "b"}, "not_found"),
        ({"type": "session.branch", "leaf_id": "nobody", "new_session": "_b"}, "forbidden"),
        ({"type": "agent.control", "action": "steer", "text": "x", "session": "*"}, "invalid_payload"),
        ({"type": "session.resume", "after": 1, "session": "other"}, "not_found"),
        ({"type": "agent.control", "action": "state", "session": "nobody"}, "not_found"),
        ({"type": "memory.load", "memory_id": "nobody"}, "not_found"),
        ({"type": "memory.update", "memory_id": "nobody"}, "invalid_payload"),
        ({"type": "memory.summarize"}, "invalid_payload"),
        ({"type": "memory.forget", "memory_ids": ["nobody"]}, "not_found"),
        ({"type": "session.history", "leaf_id": "nobody"}, "not_found"),
        ({"type": "session.history", "before": "nobody"}, "not_found"),
        ({"type": "trace.get", "run": "nobody"}, "not_found"),
        ({"type": "events.read", "run": "nobody"}, "not_found"),
        ({"type": "agent.control", "action": "approve"}, "invalid_payload"),
        ({"type": "agent.control", "action": "retry"}, "invalid_payload"),
    ],
)
async def test_what_can_not_be_done_is_answered_once_and_the_socket_goes_on(
    server: App, token: str, frame: dict[str, Any], code: str
) -> None:
    async with open_socket(server, "s", token) as socket:
        await until(socket, of_type("session.ack"))
        await socket.send(json.dumps({"type": "chat.send", "content": "hello"}))
        await until(socket, of_type("run.completed"))
        await socket.send(json.dumps({"id": "q", **frame}))
        told = (await until(socket, lambda one: one.get("request") == "q"))[-1]
        assert (told["type"], told["code"]) == ("error", code)
        await socket.send(json.dumps({"type": "ping", "id": "p"}))
        assert (await until(socket, lambda one: "request" in one))[-1]["request"] == "p", "no second answer"
