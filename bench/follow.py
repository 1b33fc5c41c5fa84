"""What followers over SSE cost the runs that they follow: `python -m bench.follow [--sessions N] [--rounds N]`.

Each session's client starts one run after the other on its socket; all runs are live at the same time. Rounds without
and with one follower on each alternate, on one server: `session` streams stay open over the runs, `run` streams are
opened for each run, so that the request is counted too, `socket` is a second WebSocket for comparison. Server on one
core, clients on the other. Every stream is checked: ids without gap, the end of each run once; a breach ends the bench
with exit code 1. Trust the ratios.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
from websockets.asyncio.client import connect

decode = msgspec.json.Decoder().decode
ASKS = {
    "chat": '{"type":"chat.send","id":"1","content":"hello there [[chunks=20]] [[pace_ms=200]]"}',
    "goal": '{"type":"agent.control","action":"goal","id":"1",'
    '"goal":"a; b; c; d; e; f; g; then h [[chunks=20]] [[pace_ms=200]]"}',
}
LIMITS = {
    "AGENTD_LIMITS__MODEL_CALLS": "4000",
    "AGENTD_LIMITS__WORKERS": "4000",
    "AGENTD_LIMITS__RUNS_GLOBAL": "8000",
    "AGENTD_LIMITS__QUEUED_GLOBAL": "20000",
}
CONNECTING = 50  # at once


class Server:
    """agentd as a child process on the first core."""

    def __init__(self, state: Path) -> None:
        command = [sys.executable, "-m", "agentd", "serve", "--port", "0", "--state-dir", str(state)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | LIMITS
        )
        assert self.process.stdout is not None
        self.host, _, port = self.process.stdout.readline().split()[-1].removeprefix("http://").partition(":")
        self.port = int(port)
        self.token = (state / "token").read_text().strip()
        os.sched_setaffinity(self.process.pid, {0})

    def cpu_s(self) -> float:
        """With its children's none; all threads."""
        ticks = 0.0
        for stat in Path(f"/proc/{self.process.pid}/task").glob("*/schedstat"):
            ticks += int(stat.read_text().split()[0])
        return ticks / 1e9

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


class Follower(asyncio.Protocol):
    """Reads one stream and checks it: ids rise, in a session's stream without a gap, and each run ends once."""

    def __init__(self, path: str, token: str) -> None:
        self.ends = 0
        self.over = asyncio.Event()
        self.opened = asyncio.Event()
        self.wanted = 0
        self._last = 0
        self._of_run = path.startswith("/v1/runs/")
        self._rest = b""
        self._request = f"GET {path} HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"id: "):
                number = int(line[4:])
                follows = number > self._last if self._of_run else self._last in (0, number - 1)
                assert follows, f"id {number} after {self._last}"
                self._last = number
            elif line == b"event: stream.opened":
                self.opened.set()
            elif line in (b"event: run.completed", b"event: run.failed"):
                assert line == b"event: run.completed", "a run failed"
                self.ends += 1
                if self.ends == self.wanted:
                    self.over.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.over.set()


class Bench:
    """One server and its clients."""

    def __init__(self, server: Server, options: argparse.Namespace) -> None:
        self.server = server
        self.options = options
        self.sockets: list[Any] = []

    async def open(self) -> None:
        url = f"ws://{self.server.host}:{self.server.port}/v1/agents/default/stream?session=f{{}}"
        headers = {"Authorization": f"Bearer {self.server.token}"}
        gate = asyncio.Semaphore(CONNECTING)

        async def one(number: int) -> Any:
            async with gate:
                socket = await connect(
                    url.format(number), additional_headers=headers, compression=None, max_queue=None, open_timeout=60
                )
                await socket.recv()
                return socket

        self.sockets = list(await asyncio.gather(*map(one, range(self.options.sessions))))

    async def follow(self, path: str, wanted: int) -> Follower:
        loop = asyncio.get_running_loop()
        _, follower = await loop.create_connection(
            lambda: Follower(path, self.server.token), self.server.host, self.server.port
        )
        follower.wanted = wanted
        return follower

    async def sockets_again(self, turns: int) -> list[asyncio.Task[None]]:
        """A second socket on each session, for comparison; each reads to the end of the last run."""
        first, self.sockets = self.sockets, []
        await self.open()
        again, self.sockets = self.sockets, first

        async def read(socket: Any) -> None:
            ends = 0
            while ends < turns:
                ends += decode(await socket.recv())["type"] == "run.completed"
            socket.transport.abort()

        return [asyncio.create_task(read(socket)) for socket in again]

    async def round(self, ask: str, turns: int, followed: str) -> tuple[float, float, float]:
        """CPU microseconds of a run, median and p99 of its milliseconds."""
        followers = []
        if followed == "session":
            for number in range(len(self.sockets)):
                follower = await self.follow(f"/v1/sessions/f{number}/events", turns)
                await follower.opened.wait()
                followers.append(follower)
        others = await self.sockets_again(turns) if followed == "socket" else []
        times: list[float] = []

        async def client(number: int, socket: Any) -> None:
            await asyncio.sleep(number / len(self.sockets))  # spread over a second
            for _ in range(turns):
                begun = time.perf_counter()
                await socket.send(ask)
                while True:
                    frame = decode(await socket.recv())
                    kind = frame["type"]
                    if kind == "run.accepted" and followed == "run":
                        followers.append(await self.follow(f"/v1/runs/{frame['run']}/events", 1))
                    if kind == "run.completed":
                        break
                    assert kind not in ("run.failed", "error"), frame
                times.append(time.perf_counter() - begun)

        cpu = self.server.cpu_s()
        await asyncio.gather(*(client(number, socket) for number, socket in enumerate(self.sockets)))
        for follower in followers:
            async with asyncio.timeout(30):
                await follower.over.wait()
            assert follower.ends == follower.wanted, f"{follower.ends} ends of {follower.wanted}"
        await asyncio.gather(*others)
        spent = (self.server.cpu_s() - cpu) / len(times) * 1e6
        for follower in followers:
            if follower.transport is not None:
                follower.transport.abort()
        times.sort()
        return spent, times[len(times) // 2] * 1e3, times[len(times) * 99 // 100] * 1e3


async def measure(server: Server, options: argparse.Namespace) -> None:
    bench = Bench(server, options)
    await bench.open()
    for name in options.kinds:
        ask = ASKS[name]
        await bench.round(ask, 1, "none")
        pairs: dict[str, list[tuple[float, float]]] = {followed: [] for followed in options.followed}
        for _ in range(options.rounds):
            for followed in pairs:
                alone = await bench.round(ask, options.turns, "none")
                with_them = await bench.round(ask, options.turns, followed)
                pairs[followed].append((with_them[0] / alone[0], with_them[2] / alone[2]))
                print(
                    f"  {name}: alone {alone[0]:6.0f} µs a run, p50 {alone[1]:6.0f}, p99 {alone[2]:6.0f} ms;"
                    f"  a {followed} stream each {with_them[0]:6.0f} µs, p50 {with_them[1]:6.0f},"
                    f" p99 {with_them[2]:6.0f} ms", flush=True,
                )  # fmt: skip
        for followed, ratios in pairs.items():
            cpu, slow = (statistics.median(ratio[n] for ratio in ratios) for n in (0, 1))
            print(f"{name}, {followed} streams: {cpu - 1:+.0%} CPU a run, {slow - 1:+.0%} p99 (medians)", flush=True)
    for socket in bench.sockets:
        socket.transport.abort()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=1_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--followed", nargs="*", default=["session", "run"], choices=["session", "run", "socket"])
    parser.add_argument("--kinds", nargs="*", default=["chat", "goal"], choices=list(ASKS))
    options = parser.parse_args()
    os.sched_setaffinity(0, {1} if len(os.sched_getaffinity(0)) > 1 else {0})
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        try:
            asyncio.run(measure(server, options))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
