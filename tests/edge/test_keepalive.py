"""One sweep: quiet sockets are pinged, silent and stalled ones closed, a late sweep closes nobody (rulings 4)."""

import asyncio

import pytest

from agentd.edge.keepalive import SLICE, Keepalive, Watched
from agentd.edge.limits import Limits
from tests.edge.rig import PING, PONG, TEXT, ManualClock, close_frame, frame, running, settle
from tests.edge.test_websocket import NARROW, fill, shrink_buffers


class Silent:
    """A socket on which nothing happens but what the test does."""

    def __init__(self, now: float) -> None:
        self.heard, self.heard_s, self.pinged = False, now, False
        self.left, self.moved_s = 0, now
        self.unread = False
        self.held = 0
        self.log: list[str] = []

    def backlog(self) -> int:
        return self.held

    def ping(self) -> None:
        self.log.append("ping")

    def silent(self) -> None:
        self.log.append("silent")

    def stalled(self) -> None:
        self.log.append("stalled")


class Sweeps:
    """A sweep over sockets, at times that the test chooses."""

    def __init__(self, count: int = 1) -> None:
        self.clock = ManualClock()
        self.sockets = [Silent(self.clock.now_s) for _ in range(count)]
        watched: list[Watched] = list(self.sockets)
        self.keepalive = Keepalive(watched, self.clock, Limits())

    async def at(self, *seconds: float, late: bool = False) -> list[str]:
        for second in seconds:
            self.clock.now_s = 1000.0 + second
            await self.keepalive.sweep(late=late)
        return self.sockets[0].log


async def test_a_quiet_socket_is_pinged_once_and_closed_when_nothing_comes() -> None:
    sweeps = Sweeps()
    assert await sweeps.at(5, 10, 15) == []
    assert await sweeps.at(20, 25, 30, 35) == ["ping"]
    assert await sweeps.at(40) == ["ping", "silent"]


async def test_any_byte_is_life() -> None:
    sweeps = Sweeps()
    await sweeps.at(20, 35)
    sweeps.sockets[0].heard = True
    assert await sweeps.at(40, 55) == ["ping"]
    assert await sweeps.at(60) == ["ping", "ping"]
    assert await sweeps.at(80) == ["ping", "ping", "silent"]


async def test_a_late_sweep_closes_nobody_and_gives_one_more_round() -> None:
    sweeps = Sweeps()
    await sweeps.at(20)
    assert await sweeps.at(3600, late=True) == ["ping", "ping"]
    assert await sweeps.at(3605, 3615) == ["ping", "ping"]
    assert await sweeps.at(3620) == ["ping", "ping", "silent"]


async def test_a_socket_that_we_do_not_read_is_not_silent() -> None:
    sweeps = Sweeps()
    sweeps.sockets[0].unread = True
    assert await sweeps.at(20, 40, 60, 80) == []


async def test_a_client_that_takes_nothing_for_a_minute_is_stalled() -> None:
    sweeps = Sweeps()
    socket = sweeps.sockets[0]
    socket.held, socket.unread = 1000, True
    assert await sweeps.at(5, 30, 60) == []
    assert await sweeps.at(65) == ["stalled"]


async def test_a_client_that_takes_little_is_alive_and_not_stalled() -> None:
    sweeps = Sweeps()
    socket = sweeps.sockets[0]
    for second in range(5, 300, 5):
        socket.held = 1000 - second
        await sweeps.at(second)
    assert socket.log == []


async def test_the_first_fill_of_the_buffers_is_no_sign_of_life() -> None:
    sweeps = Sweeps()
    sweeps.sockets[0].held = 1000
    assert await sweeps.at(20, 25, 40) == ["ping", "silent"]


async def test_a_large_number_is_judged_in_slices() -> None:
    sweeps = Sweeps(2 * SLICE + 1)
    sweeps.clock.now_s += 20
    task = asyncio.ensure_future(sweeps.keepalive.sweep())
    await asyncio.sleep(0)
    assert sum(len(socket.log) for socket in sweeps.sockets) == SLICE
    await task
    assert [socket.log for socket in sweeps.sockets] == [["ping"]] * len(sweeps.sockets)


@pytest.mark.parametrize("answer", [frame(PONG), frame(PING), frame(TEXT, b"x"), b"\x81"])
async def test_a_real_socket_is_pinged_and_lives_by_any_answer(answer: bytes) -> None:
    clock = ManualClock()
    async with running(clock=clock) as rig:
        client = await rig.raw()
        for _ in range(3):
            await clock.advance(25)
            assert await client.read_frame() == (PING, b"")
            client.write(answer)
            await settle(20)
            if answer != frame(PONG):
                answer = frame(PONG)
                if len(rig.peer.texts):
                    assert await client.read_text() == b"x"
                break
        assert not rig.peer.gone.is_set()


async def test_a_real_socket_that_is_silent_is_cut_off() -> None:
    clock = ManualClock()
    async with running(clock=clock) as rig:
        client = await rig.raw()
        await clock.advance(50)
        await rig.peer.gone.wait()
        assert await client.read_frame() == (PING, b"")
        assert await client.read_end() == b""
        assert rig.server.figures.silent == 1


async def test_a_real_client_that_reads_nothing_is_told_and_closed_with_1013() -> None:
    clock = ManualClock()
    async with running(NARROW, clock=clock) as rig:
        shrink_buffers(rig)
        client = await rig.raw()
        await fill(rig, client)
        await clock.advance(66)
        assert rig.server.figures.stalled == 1
        assert rig.peer.socket.closed
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        texts = []
        while (got := await client.read_frame())[0] == TEXT:
            texts.append(got[1])
        assert b'"overloaded"' in texts[-1]
        assert got[1][:2] == (1013).to_bytes(2, "big")
        client.write(close_frame(1013))
        await rig.peer.gone.wait()


async def test_a_client_that_never_reads_again_is_cut_off_after_the_close_deadline() -> None:
    clock = ManualClock()
    async with running(NARROW, clock=clock) as rig:
        shrink_buffers(rig)
        client = await rig.raw()
        await fill(rig, client)
        await clock.advance(75)
        await rig.peer.gone.wait()
        assert rig.server.open_sockets == 0
