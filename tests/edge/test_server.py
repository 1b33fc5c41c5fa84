"""The server as a whole: listening, draining, stopping, TLS, and differences from the library's own server."""

import asyncio
import json
import signal
import socket as sockets
import ssl
from contextlib import suppress
from pathlib import Path

import pytest
import websockets.asyncio.client as client_library
import websockets.asyncio.server as server_library
from starlette.types import Receive, Scope, Send
from websockets.exceptions import ConnectionClosed

from agentd.clock import SystemClock
from agentd.edge.limits import Limits
from agentd.edge.server import EdgeServer, ListenError, Tls
from agentd.edge.stream import TLS_LINGER_S
from agentd.supervisor import Supervisor
from tests.edge.rig import (
    CLOSE,
    CONT,
    PING,
    TEXT,
    EchoDoor,
    ManualClock,
    RawClient,
    close_frame,
    frame,
    make_certificate,
    plain_app,
    running,
    until,
    upgrade_request,
)
from tests.edge.test_websocket import BROKEN, NOT_UTF8


async def test_http_and_websocket_share_the_port_that_was_free() -> None:
    async with running() as rig:
        assert rig.server.port > 0
        http = await rig.connect()
        http.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await http.read_response())[::2] == (200, b"ok")
        async with client_library.connect(rig.url()) as socket:
            await socket.send("hello")
            assert await socket.recv(decode=False) == b"hello"
            await (await socket.ping())
        await rig.peer.gone.wait()
        assert socket.close_code == 1000


async def test_a_port_in_use_is_an_error_with_a_remedy() -> None:
    async with running() as rig:
        supervisor = Supervisor(rig.clock, lambda name: None)
        second = EdgeServer("127.0.0.1", rig.server.port, EchoDoor(), plain_app, rig.clock, supervisor)
        with pytest.raises(ListenError) as error:
            await second.start()
        assert str(rig.server.port) in error.value.message
        assert "another port" in error.value.hint
        await second.stop(1.0)


async def test_an_unknown_host_is_an_error_with_a_remedy() -> None:
    clock = SystemClock()
    server = EdgeServer("nobody.invalid", 0, EchoDoor(), plain_app, clock, Supervisor(clock, lambda name: None))
    with pytest.raises(ListenError, match="not known"):
        await server.start()


async def test_localhost_listens_on_all_its_addresses_with_one_port() -> None:
    async with running(host="localhost") as rig:
        addresses = {listener.getsockname()[:2] for listener in rig.server._listeners}
        assert ("127.0.0.1", rig.server.port) in addresses
        assert {port for _, port in addresses} == {rig.server.port}


async def test_an_address_of_another_machine_is_an_error_with_a_remedy() -> None:
    clock = SystemClock()
    server = EdgeServer("192.0.2.1", 0, EchoDoor(), plain_app, clock, Supervisor(clock, lambda name: None))
    with pytest.raises(ListenError) as error:
        await server.start()
    assert "server.host" in error.value.hint


async def test_no_signal_is_taken_over() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with running() as rig:
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
        await rig.raw()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


async def test_draining_refuses_new_sockets_and_leaves_open_ones_alone() -> None:
    async with running() as rig:
        client = await rig.raw()
        rig.server.drain()
        late = await rig.connect()
        late.write(upgrade_request())
        status, headers, body = await late.read_response()
        assert (status, headers["retry-after"], json.loads(body)["code"]) == (503, "2", "draining")
        client.write(frame(TEXT, b"still here"))
        assert await client.read_text() == b"still here"


async def test_stopping_tells_every_socket_and_ends_when_they_have_gone() -> None:
    async with running() as rig:
        polite, knocking = await rig.raw(), await rig.connect()
        rig.door.gate.clear()
        rig.door.asked.clear()
        knocking.write(upgrade_request())
        await rig.door.asked.wait()
        stopping = asyncio.ensure_future(rig.server.stop(5.0))
        error = await polite.read_error()
        assert (error["code"], error["retryable"]) == ("draining", True)
        assert await polite.read_close() == 1001
        assert (await knocking.read_response())[0] == 503
        assert not stopping.done()
        polite.write(close_frame(1001))
        await polite.read_end()
        knocking.close()
        await stopping
        assert (rig.peer.closings, rig.server.open_sockets) == (1, 0)
        with pytest.raises(OSError):
            await rig.connect()


async def test_stopping_cuts_off_at_its_deadline_whoever_stays() -> None:
    hanging = asyncio.Event()

    async def hang(scope: Scope, receive: Receive, send: Send) -> None:
        hanging.set()
        await asyncio.Event().wait()

    async with running(app=hang) as rig:
        stubborn, idle, waiting = await rig.raw(), await rig.connect(), await rig.connect()
        waiting.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await hanging.wait()
        async with asyncio.timeout(1.0):
            await rig.server.stop(0.2)
        assert rig.server.open_sockets == 0
        await stubborn.read_error()
        for client in (idle, waiting):
            with pytest.raises((ConnectionError, AssertionError)):
                assert await client.read_end() != b""


async def test_stopping_twice_or_before_the_start_does_nothing() -> None:
    async with running() as rig:
        await rig.server.stop(1.0)
        await rig.server.stop(1.0)
    clock = SystemClock()
    await EdgeServer("127.0.0.1", 0, EchoDoor(), plain_app, clock, Supervisor(clock, lambda name: None)).stop(1.0)


async def test_the_date_header_moves_on() -> None:
    clock = ManualClock()
    async with running(clock=clock) as rig:
        assert rig.server._server is not None
        headers = rig.server._server.server_state.default_headers
        assert [name for name, _ in headers] == [b"date"]
        await clock.advance(1.0)
        assert rig.server._server.server_state.default_headers is not headers


# TLS.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return make_certificate(tmp_path_factory.mktemp("tls"))


async def test_over_tls_messages_failures_and_large_backlogs_work(certificate: Tls) -> None:
    trust = ssl.create_default_context(cafile=str(certificate.cert))
    clock = ManualClock()
    async with running(Limits(outbox_bytes=1 << 16), clock=clock, tls=certificate) as rig:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.server.port, ssl=trust)
        client = RawClient(reader, writer)
        rig.clients.append(client)
        client.write(upgrade_request(), frame(TEXT, b"early"))
        await client.read_head()
        assert await client.read_text() == b"early"
        assert rig.door.upgrades[0].secure
        for number in range(200):
            rig.peer.socket.send(b"%04d" % number + b"." * 50_000)
        assert rig.peer.socket.full
        client.write(frame(TEXT, b"after the backlog"))
        for number in range(200):
            assert (await client.read_text())[:4] == b"%04d" % number
        assert await client.read_text() == b"after the backlog"
        client.write(frame(TEXT, b"\xff"))
        assert (await client.read_error())["code"] == "invalid_frame"
        assert await client.read_close() == 1007
        assert not rig.peer.gone.is_set()
        await clock.advance(TLS_LINGER_S)
        await rig.peer.gone.wait()


async def test_a_tls_handshake_that_does_not_come_ends_at_the_deadline(certificate: Tls) -> None:
    async with running(Limits(header_s=0.05), tls=certificate) as rig:
        client = await rig.connect()
        assert await client.read_end() == b""


async def test_unusable_tls_files_are_an_error_with_a_remedy(tmp_path: Path) -> None:
    clock = SystemClock()
    for content in (None, "no certificate"):
        cert = tmp_path / "cert.pem"
        if content is not None:
            cert.write_text(content)
        server = EdgeServer(
            "127.0.0.1", 0, EchoDoor(), plain_app, clock, Supervisor(clock, lambda name: None), tls=Tls(cert)
        )
        with pytest.raises(ListenError) as error:
            await server.start()
        assert "server.tls_cert" in error.value.hint


# The library's own server as the reference: what a client sees of us is what it sees there, but for our error frame.


async def _seen(client: RawClient, data: bytes) -> list[tuple[int, bytes]]:
    client.write(data)
    seen = []
    try:
        while True:
            opcode, payload = await client.read_frame()
            if opcode == CLOSE:
                payload = payload[:2]  # the reason is for people
            if not (opcode == TEXT and payload.startswith(b'{"type":"error"')):
                seen.append((opcode, payload))
    except (asyncio.IncompleteReadError, ConnectionError):
        return seen


async def _reference_echo(socket: server_library.ServerConnection) -> None:
    with suppress(ConnectionClosed):
        async for message in socket:
            await socket.send(message)


SESSIONS = {
    **BROKEN,
    **{name: b"".join(frame(TEXT, part) for part in parts) for name, parts in NOT_UTF8.items()},
    "echo and close": frame(TEXT, b"x") + frame(TEXT, b"y" * 70_000) + close_frame(1000, b"bye"),
    "empty close": frame(CLOSE),
    "fragments and ping": frame(TEXT, b"a", fin=False) + frame(PING, b"p") + frame(CONT, b"b") + close_frame(4000),
    "too large": frame(TEXT, b"x" * 100_001),
}


@pytest.mark.parametrize("session", SESSIONS.values(), ids=SESSIONS)
async def test_a_client_sees_what_it_sees_of_the_librarys_own_server(session: bytes) -> None:
    async with (
        running(Limits(frame_bytes=100_000)) as rig,
        server_library.serve(_reference_echo, "127.0.0.1", 0, max_size=100_000, compression=None) as reference,
    ):
        ours = await rig.raw()
        port = next(iter(reference.sockets)).getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        theirs = RawClient(reader, writer)
        theirs.write(upgrade_request())
        await theirs.read_head()
        seen, expected = await _seen(ours, session), await _seen(theirs, session)
        theirs.close()
        assert [each for each in seen if each[0] != TEXT] == [each for each in expected if each[0] != TEXT]
        # The reference answers in a task, so a close in the same segment costs it the answer. Never the other way.
        assert {text for opcode, text in expected if opcode == TEXT} <= {
            text for opcode, text in seen if opcode == TEXT
        }
        assert seen[-1:] == expected[-1:]


async def test_a_hundred_connections_at_once_come_and_go_again_and_again() -> None:
    async with running() as rig:
        for _ in range(4):
            group = await asyncio.gather(*(rig.raw() for _ in range(100)))
            assert rig.server.open_sockets == 100
            for client in group:
                client.close()
            await until(lambda: rig.server.open_sockets == 0)
        assert rig.server.figures.accepted == 400


def test_the_socket_option_that_bounds_the_kernels_buffer_is_known_here() -> None:
    assert hasattr(sockets, "TCP_NOTSENT_LOWAT")
