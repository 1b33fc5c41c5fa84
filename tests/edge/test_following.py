"""Streams inside of a whole server: who may open one, what a slow one and a gone one leave behind (L4, L5)."""

import asyncio
import gc
import json
import socket as sockets
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect

from agentd.app import App
from agentd.edge.sse import EventStream
from agentd.edge.streams import STALLED_S
from tests.child import of_type, until
from tests.edge.rig import until as until_true
from tests.edge.served import app, token_of
from tests.events import Events, facts


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[App]:
    async with app(tmp_path) as made:
        yield made


@pytest.fixture
def token(server: App, tmp_path: Path) -> str:
    return token_of(tmp_path)


def tokens_of(server: App, name: str, *scopes: str) -> str:
    return server.reception.auth._tokens.add(name, frozenset(scopes))


async def said(server: App, token: str, session: str, content: str, times: int = 1) -> str:
    """The last of the runs that were asked for, ended."""
    url = f"{server.url.replace('http', 'ws')}/v1/agents/default/stream?session={session}"
    run = ""
    async with connect(url, additional_headers={"Authorization": f"Bearer {token}"}) as socket:
        for _ in range(times):
            await socket.send(json.dumps({"type": "chat.send", "content": content}))
            run = (await until(socket, of_type("run.completed")))[-1]["run"]
    return run


async def refused(server: App, path: str, token: str | None, **headers: str) -> tuple[int, str]:
    async with Events(server.url, path, token, **headers) as events:
        return events.status, json.loads(events.body)["code"]


async def test_what_is_not_there_or_not_yours_is_refused_as_on_a_socket(server: App, token: str) -> None:
    run = await said(server, token, "mine", "hello")
    guest = tokens_of(server, "guest", "chat")
    reader = tokens_of(server, "reader", "admin")
    paths = ("/v1/sessions/mine/events", f"/v1/runs/{run}/events")
    assert [await refused(server, path, None) for path in paths] == [(401, "unauthorized")] * 2
    assert [await refused(server, path, "wrong") for path in paths] == [(401, "unauthorized")] * 2
    assert await refused(server, paths[0], guest) == (403, "forbidden")
    assert await refused(server, paths[1], guest) == (404, "not_found")
    assert [await refused(server, path, reader) for path in paths] == [(403, "forbidden")] * 2
    assert await refused(server, "/v1/sessions/nobody/events", token) == (404, "not_found")
    assert await refused(server, "/v1/runs/run_nobody/events", token) == (404, "not_found")
    assert await refused(server, f"/v1/runs/{'x' * 5000}/events", token) == (404, "not_found")
    assert await refused(server, "/v1/sessions/_server/events", guest) == (403, "forbidden")
    assert await refused(server, "/v1/sessions/_other/events", token) == (404, "not_found")
    assert await refused(server, "/v1/sessions/no%20key/events", token) == (400, "invalid_payload")
    own = await said(server, guest, "theirs", "hello")
    for path in ("/v1/sessions/theirs/events", f"/v1/runs/{own}/events"):
        for who in (guest, token):
            async with Events(server.url, path, who) as events:
                assert events.status == 200


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("?token=secret", {}),
        ("?access_token=secret", {}),
        ("?after=x", {}),
        ("?after=-1", {}),
        ("?after=1&after=2", {}),
        ("?log=a&log=b", {}),
        ("", {"Last_Event_ID": "12a"}),
        ("", {"Last_Event_ID": "9" * 30}),
    ],
)
async def test_a_malformed_request_is_refused_before_anything_is_looked_up(
    server: App, token: str, query: str, headers: dict[str, str]
) -> None:
    for path in ("/v1/sessions/s/events", "/v1/runs/r/events"):
        assert await refused(server, path + query, token, **headers) == (400, "invalid_payload")


async def test_a_foreign_origin_may_not_follow(server: App, token: str) -> None:
    assert await refused(server, "/v1/sessions/_server/events", token, Origin="https://evil.example") == (
        403,
        "forbidden",
    )


async def test_a_cursor_before_what_is_kept_is_told(server: App, token: str) -> None:
    run = await said(server, token, "old", "hello", times=2)
    seat = await server.reception.existing("old")
    seat.first = 5  # as if the oldest facts had been removed
    async with Events(server.url, "/v1/sessions/old/events?after=2", token) as events:
        heard = await events.until(lambda event: event.id == str(seat.feed.seq))
    assert (heard[0].frame["reset"], heard[0].frame["first"]) == ("pruned", 5)
    assert [int(event.id or 0) for event in facts(heard)] == list(range(5, seat.feed.seq + 1))
    async with Events(server.url, f"/v1/runs/{run}/events?after=2", token) as events:
        heard = await events.rest()
    assert heard[0].frame["reset"] == "pruned"
    assert int(facts(heard)[0].id or 0) == heard[0].frame["first"]


async def test_a_head_of_a_stream_is_a_head(server: App, token: str) -> None:
    await said(server, token, "s", "hello")
    async with Events(server.url, "/v1/sessions/s/events", token, method="HEAD") as events:
        assert (events.status, events.headers["content-type"]) == (200, "text/event-stream")
    assert len(server._streams) == 0


async def test_the_streams_of_one_session_are_bounded_with_its_sockets(tmp_path: Path) -> None:
    async with app(tmp_path, limits__sockets_per_session=2) as server:
        token = token_of(tmp_path)
        await said(server, token, "s", "hello")
        path = "/v1/sessions/s/events"
        async with Events(server.url, path, token), Events(server.url, path, token):
            assert await refused(server, path, token) == (429, "overloaded")
        await until_true(lambda: len(server._streams) == 0)
        async with Events(server.url, path, token) as events:
            assert events.status == 200


async def test_the_streams_of_the_server_are_bounded(server: App, token: str) -> None:
    server._streams.streams_max = 1
    path = "/v1/sessions/_server/events"
    async with Events(server.url, path, token):
        assert await refused(server, path, token) == (429, "overloaded")


async def test_a_stream_that_is_left_leaves_nothing_behind(server: App, token: str) -> None:
    await said(server, token, "s", "hello")
    seat = await server.reception.existing("s")
    alive: list[weakref.ref[EventStream]] = []
    for _ in range(20):
        async with Events(server.url, "/v1/sessions/s/events?after=0", token) as events:
            await events.next()
            alive += map(weakref.ref, server._streams.open)
    await until_true(lambda: len(server._streams) == 0)
    assert seat.feed.followers == []
    assert server.reception._connected == {}
    assert len(alive) >= 20

    def all_gone() -> bool:
        gc.collect()
        return not [found for found in alive if found() is not None]

    await until_true(all_gone)  # the last one's task may still be ending


class Deaf:
    """A client that asks for a stream and then reads nothing."""

    def __init__(self, server: App, path: str, token: str) -> None:
        url = urlsplit(server.url)
        self.socket = sockets.socket()
        self.socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4_096)
        self.socket.connect((url.hostname, url.port))
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())

    def close(self) -> None:
        self.socket.close()


async def test_a_client_that_reads_nothing_is_bounded_then_cut_off_and_disturbs_nobody(tmp_path: Path) -> None:
    async with app(tmp_path, limits__outbox_bytes=65_536, limits__outbox_frames=50) as server:
        token = token_of(tmp_path)
        await said(server, token, "s", "hello")
        seat = await server.reception.existing("s")
        deaf = Deaf(server, "/v1/sessions/s/events?after=0", token)
        await until_true(lambda: len(server._streams) == 1)
        stream = next(iter(server._streams.open))
        async with Events(server.url, "/v1/sessions/s/events", token) as other:
            await other.next()
            while not stream.full:  # what the kernel takes is not ours to bound
                await said(server, token, "s", "x" * 60_000, times=5)
            await said(server, token, "s", "x" * 60_000, times=5)
            assert stream._outbox.size < 65_536 + 2 * 256 * 1024
            heard = await other.until(lambda event: event.id == str(seat.feed.seq))
        numbers = [int(event.id or 0) for event in facts(heard)]
        assert numbers == list(range(numbers[0], seat.feed.seq + 1))
        await until_true(lambda: len(server._streams) == 1)
        await server._streams.sweep()
        assert len(server._streams) == 1
        stream.moved_s -= STALLED_S
        await server._streams.sweep()
        await until_true(lambda: len(server._streams) == 0)
        assert (server._streams.stalled, seat.feed.followers) == (1, [])
        deaf.close()


async def test_a_slow_client_loses_deltas_and_no_fact(tmp_path: Path) -> None:
    """It reads nothing while its outbox runs full, then everything: the facts follow from the log."""
    async with app(tmp_path, limits__outbox_bytes=65_536, limits__outbox_frames=50) as server:
        token = token_of(tmp_path)
        await said(server, token, "s", "hello")
        async with Events(server.url, "/v1/sessions/s/events?after=0", token) as events:
            await until_true(lambda: len(server._streams) == 1)
            stream = next(iter(server._streams.open))
            while not stream.full:
                await said(server, token, "s", "x" * 60_000, times=5)
            await said(server, token, "s", "tell me [[chunks=200]]", times=2)
            seat = await server.reception.existing("s")
            heard = await events.until(lambda event: event.id == str(seat.feed.seq))
    assert [int(event.id or 0) for event in facts(heard)] == list(range(1, seat.feed.seq + 1))


async def test_a_connection_serves_other_requests_behind_a_stream_that_ended(server: App, token: str) -> None:
    run = await said(server, token, "s", "hello")
    async with Events(server.url, f"/v1/runs/{run}/events", token) as events:
        await events.rest()
        events._writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(5):
            assert b" 200 " in await events._reader.readline()
