"""Two thousand connects a second, sockets that say nothing, sockets that say it slowly: the others do not notice."""

import asyncio
import os
import socket as sockets
import time

from tests.child import ask
from tests.faults.conftest import MAKE, Faulty

CONNECTS = int(os.environ.get("AGENTD_CONNECTS", "2000"))
RATE = 2_000  # a second
SLOW = 200
SHORT = {"ping_s": 0.5, "silent_s": 1.0, "header_s": 1.0}
STATE_S = 0.5


def open_files(server: Faulty) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))


def upgrade(server: Faulty, session: str) -> bytes:
    host = server.url.removeprefix("ws://")
    return (
        f"GET /v1/agents/default/stream?session={session} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
        f"Authorization: Bearer {server.token}\r\n\r\n"
    ).encode()


def place(server: Faulty) -> tuple[str, int]:
    host, _, port = server.url.removeprefix("ws://").partition(":")
    return host, int(port)


async def connect(server: Faulty, number: int, request: bytes) -> bytes:
    """Connect, be answered, go; the first line."""
    reader, writer = await asyncio.open_connection(*place(server))
    writer.write(request)
    async with asyncio.timeout(20):
        head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return head.split(b"\r\n", 1)[0]


async def test_two_thousand_connects_a_second_are_answered_and_leave_nothing(make: MAKE) -> None:
    server = make()
    await server.start()
    async with server.connect("inside") as inside:
        await inside.recv()
        before = open_files(server)
        began = time.monotonic()
        lines: list[asyncio.Task[bytes]] = []
        waits: list[float] = []
        while len(lines) < CONNECTS:
            due = min(CONNECTS, int((time.monotonic() - began) * RATE) + 1)
            lines += [
                asyncio.ensure_future(connect(server, number, upgrade(server, f"storm{number}")))
                for number in range(len(lines), due)
            ]
            if len(lines) % 100 < 10:
                asked = time.monotonic()
                assert (await ask(inside, type="agent.control", action="state"))["type"] == "agent.state"
                waits.append(time.monotonic() - asked)
            await asyncio.sleep(0)
        answers = await asyncio.gather(*lines)
        took_s = time.monotonic() - began
        assert {line.split()[1] for line in answers} == {b"101"}
        assert max(waits) < STATE_S, waits
        assert took_s < 4 * CONNECTS / RATE + 2
        async with asyncio.timeout(10):
            while open_files(server) > before:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert (await ask(inside, type="chat.send", content="after", wait=True))["state"] == "completed"


async def test_who_says_nothing_or_says_it_byte_by_byte_is_sent_away_and_disturbs_nobody(make: MAKE) -> None:
    server = make(edge=SHORT)
    await server.start()
    async with server.connect("inside") as inside:
        await inside.recv()
        before = open_files(server)
        slow = [asyncio.ensure_future(slowly(server, upgrade(server, "slow"))) for _ in range(SLOW)]
        silent = [asyncio.ensure_future(slowly(server, b"")) for _ in range(SLOW)]
        while not all(each.done() for each in (*slow, *silent)):
            asked = time.monotonic()
            assert (await ask(inside, type="chat.send", content="hello", wait=True))["state"] == "completed"
            assert time.monotonic() - asked < STATE_S
            await asyncio.wait([*slow, *silent], timeout=0.05)
        answers = {each.result() for each in (*slow, *silent)}
        assert answers == {b"HTTP/1.1 408 Request Timeout"}
        async with asyncio.timeout(10):
            while open_files(server) > before:  # noqa: ASYNC110
                await asyncio.sleep(0)


async def slowly(server: Faulty, request: bytes) -> bytes:
    """Send a byte now and then until the server has enough of it; what it says."""
    reader, writer = await asyncio.open_connection(*place(server))
    answer = asyncio.ensure_future(reader.read(4_096))
    for byte in request:
        writer.write(bytes((byte,)))
        await asyncio.wait({answer}, timeout=0.1)
        if answer.done():
            break
    async with asyncio.timeout(20):
        said = await answer
    writer.close()
    return said.split(b"\r\n", 1)[0]


async def test_half_open_sockets_are_noticed(make: MAKE) -> None:
    """One whose client answers no ping any more, one whose client's machine forgot it: both are gone within the time,
    and a session that they had followed goes on."""
    server = make(edge=SHORT)
    await server.start()
    async with server.connect("shared") as alive:
        await alive.recv()
        before = open_files(server)
        mute = await half_open(server)
        forgotten = await half_open(server)
        forget(forgotten)
        assert open_files(server) == before + 2
        assert (await ask(alive, type="chat.send", content="hello", wait=True))["state"] == "completed"
        async with asyncio.timeout(15):
            while open_files(server) > before:
                assert (await ask(alive, type="agent.control", action="state"))["type"] == "agent.state"
        mute.close()


async def half_open(server: Faulty) -> sockets.socket:
    """A socket whose upgrade was answered and whose client never reads or says anything again."""
    raw = sockets.create_connection(place(server))
    raw.sendall(upgrade(server, "shared"))
    while b"session.ack" not in await asyncio.to_thread(raw.recv, 65_536, sockets.MSG_PEEK):
        pass
    return raw


def forget(raw: sockets.socket) -> None:
    """Close without a word to the other side, where that is allowed (TCP_REPAIR needs root); else just be mute."""
    try:
        raw.setsockopt(sockets.IPPROTO_TCP, 19, 1)
    except OSError:
        return
    raw.close()
