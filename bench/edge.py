"""What the edge costs beside websockets' own asyncio server: CPU per message, memory per idle connection.

Each server runs in a process of its own and does nothing but echo and fan out; CPU is its process time, so the
client's share is not in the figures. Runs of the servers alternate and the medians are compared: trust the ratios,
not the figures. `python -m bench.edge [--rounds N] [--json FILE]`.
"""

import argparse
import asyncio
import base64
import json
import os
import platform
import resource
import socket as sockets
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.protocol import Protocol, Side

from agentd.clock import SystemClock
from agentd.edge.door import Socket, Upgrade
from agentd.edge.framing import SharedFrames, text_frame
from agentd.edge.server import EdgeServer
from agentd.supervisor import Supervisor
from tests.edge.rig import plain_app

SERVERS = ("agentd", "websockets")
LOOPS = ("asyncio", "uvloop")
MESSAGE = b'{"type":"chat.send","id":"r1","content":"How many roads must a man walk down before you call him a man?"}'
DELTA = b'{"type":"session.delta","session":"s1","message":"m1","offset":17,"text":"a word or two"}'
DELTAS = 200
WAIT_S = 60.0
SETTLE_S = 0.5

# The servers, each in its own process.


class Fan:
    """Sends `DELTAS` deltas to every socket: all in one turn, or one a millisecond."""

    def __init__(self, send_all: Callable[[bytes], None]) -> None:
        self._send_all = send_all
        self._task: asyncio.Task[None] | None = None

    def start(self, text: bytes) -> bool:
        if text not in (b"fan turn", b"fan paced"):
            return False
        self._task = asyncio.ensure_future(self._run(0.001 if text == b"fan paced" else None))
        return True

    async def _run(self, gap_s: float | None) -> None:
        for number in range(DELTAS):
            self._send_all(DELTA + b" " * (number % 2))  # another object each time
            if gap_s is not None:
                await asyncio.sleep(gap_s)


class Echo:
    peers: set["Echo"]

    def __init__(self, socket: Socket, peers: set["Echo"], fan: Fan) -> None:
        self.socket, self.peers, self.fan = socket, peers, fan
        peers.add(self)

    def received(self, text: bytes) -> None:
        if not self.fan.start(text):
            self.socket.send(text)

    def received_binary(self) -> None:
        self.socket.close(1003, "")

    def closed(self) -> None:
        self.peers.discard(self)


class EchoDoor:
    def __init__(self) -> None:
        self.peers: set[Echo] = set()
        self.fan = Fan(self._send_all)

    def _send_all(self, frame: bytes) -> None:
        for peer in self.peers:
            peer.socket.send(frame, soon=True)

    async def admit(self, upgrade: Upgrade) -> Callable[[Socket], Echo]:
        return lambda socket: Echo(socket, self.peers, self.fan)


async def serve_agentd(answer: Callable[[int], asyncio.Future[None]]) -> None:
    clock = SystemClock()
    supervisor = Supervisor(clock, lambda name: None)
    server = EdgeServer("127.0.0.1", 0, EchoDoor(), plain_app, clock, supervisor)
    await server.start()
    await answer(server.port)
    await server.stop(2.0)
    await supervisor.stop(1.0)


async def serve_websockets(answer: Callable[[int], asyncio.Future[None]]) -> None:
    connections: set[ServerConnection] = set()
    fan = Fan(lambda frame: broadcast(connections, frame.decode()))

    async def echo(connection: ServerConnection) -> None:
        connections.add(connection)
        with suppress(ConnectionClosed):  # else the log of these is a good part of its figures
            async for message in connection:
                if not fan.start(message.encode() if isinstance(message, str) else message):
                    await connection.send(message)
        connections.discard(connection)

    async with serve(echo, "127.0.0.1", 0, compression=None) as server:
        await answer(next(iter(server.sockets)).getsockname()[1])


def run_server(name: str, loop_name: str) -> None:
    """Print the port, then answer `cpu` and `rss` lines until the input ends."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)

    def answer(port: int) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        print(port, flush=True)

        def asked() -> None:
            for line in os.read(0, 4096).splitlines() or [b""]:
                if not line:
                    loop.remove_reader(0)
                    ended.set_result(None)
                else:
                    print(time.process_time() if line == b"cpu" else resident_kib(), flush=True)

        loop.add_reader(0, asked)
        return ended

    factory = uvloop.new_event_loop if loop_name == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve_agentd(answer) if name == "agentd" else serve_websockets(answer))


def resident_kib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1024


# The client.


class Child:
    def __init__(self, name: str, loop_name: str) -> None:
        command = [sys.executable, "-m", "bench.edge", "--serve", name, "--loop", loop_name]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.port = int(self._line())

    def ask(self, what: str) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n".encode())
        self._process.stdin.flush()
        return float(self._line())

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def masked(text: bytes) -> bytes:
    mask = b"\x01\x02\x03\x04"
    head = bytes((0x81, 0x80 | len(text))) if len(text) < 126 else b"\x81\xfe" + len(text).to_bytes(2, "big")
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(text))


@contextmanager
def connected(port: int, count: int) -> Iterator[list[sockets.socket]]:
    key = base64.b64encode(os.urandom(16)).decode()
    request = (
        f"GET /v1/agents/default/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()
    opened: list[sockets.socket] = []
    try:
        for _ in range(count):
            client = sockets.create_connection(("127.0.0.1", port), timeout=WAIT_S)
            opened.append(client)
            client.sendall(request)
            head = client.recv(4096)
            assert head.startswith(b"HTTP/1.1 101"), head
            assert head.endswith(b"\r\n\r\n"), head
        yield opened
    finally:
        for client in opened:
            client.close()
        time.sleep(SETTLE_S)  # the server's work on their end belongs to nobody's figures


def read_exactly(client: sockets.socket, size: int) -> None:
    while size > 0:
        data = client.recv(min(size, 1 << 16))
        assert data, "the server closed"
        size -= len(data)


def cpu_of(child: Child, work: Callable[[], int]) -> float:
    """CPU microseconds of the server for each of the messages that `work` counts."""
    before = child.ask("cpu")
    count = work()
    return (child.ask("cpu") - before) * 1e6 / count


def echoes(clients: list[sockets.socket], messages: int) -> int:
    frame, size = masked(MESSAGE), len(text_frame(MESSAGE))
    turns = max(messages // len(clients), 1)
    for _ in range(turns):
        for client in clients:
            client.sendall(frame)
        for client in clients:
            read_exactly(client, size)
    return turns * len(clients)


def fan_out(clients: list[sockets.socket], how: bytes) -> int:
    size = (len(text_frame(DELTA)) + len(text_frame(DELTA + b" "))) * DELTAS // 2
    clients[0].sendall(masked(how))
    for client in clients:
        read_exactly(client, size)
    return DELTAS * len(clients)


def measure(name: str, loop_name: str, idle: int) -> dict[str, float]:
    child = Child(name, loop_name)
    figures = {}
    try:
        with connected(child.port, 64) as clients:
            echoes(clients, 2_000)
            figures["echo, 64 connections, us"] = cpu_of(child, lambda: echoes(clients, 20_000))
        with connected(child.port, 1_000) as clients:
            figures["echo, 1000 connections, us"] = cpu_of(child, lambda: echoes(clients, 10_000))
        with connected(child.port, 100) as clients:
            figures["delta to 100 sockets, one turn, us"] = cpu_of(child, lambda: fan_out(clients, b"fan turn"))
            figures["delta to 100 sockets, 1 ms apart, us"] = cpu_of(child, lambda: fan_out(clients, b"fan paced"))
    finally:
        child.end()
    child = Child(name, loop_name)
    try:
        with connected(child.port, 200):
            pass
        before, cpu = child.ask("rss"), child.ask("cpu")
        with connected(child.port, idle):
            figures["handshake, us"] = (child.ask("cpu") - cpu) * 1e6 / idle
            figures["idle connection, KiB"] = (child.ask("rss") - before) / idle
    finally:
        child.end()
    return figures


def framing() -> dict[str, float]:
    """Nanoseconds to make one server frame: through the library, by hand, and from the shared slot."""
    protocol = Protocol(Side.SERVER)
    frames = SharedFrames()
    large = DELTA * 180

    def library() -> None:
        protocol.send_text(DELTA)
        protocol.data_to_send()

    calls: dict[str, Callable[[], object]] = {
        "send_text and data_to_send": library,
        "text_frame": lambda: text_frame(DELTA),
        "SharedFrames, same object": lambda: frames.of(DELTA),
        "text_frame, 16 KiB": lambda: text_frame(large),
        "SharedFrames, same object, 16 KiB": lambda: frames.of(large),
    }
    found = {}
    for name, call in calls.items():
        begin = time.process_time()
        for _ in range(200_000):
            call()
        found[f"{name}, ns"] = (time.process_time() - begin) * 1e9 / 200_000
    return found


def report(rounds: int, idle: int) -> dict[str, object]:
    runs: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(rounds):
        for loop_name in LOOPS:
            for name in SERVERS:
                runs.setdefault((loop_name, name), []).append(measure(name, loop_name, idle))
    result: dict[str, object] = {"machine": f"{platform.platform()}, Python {platform.python_version()}"}
    for loop_name in LOOPS:
        ours, theirs = (
            {key: statistics.median(run[key] for run in runs[loop_name, name]) for key in runs[loop_name, name][0]}
            for name in SERVERS
        )
        result[loop_name] = {
            key: {
                "agentd": round(ours[key], 2),
                "websockets": round(theirs[key], 2),
                "ratio": round(ours[key] / theirs[key], 2),
            }
            for key in ours
        }
    result["framing"] = {key: round(value) for key, value in framing().items()}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", choices=SERVERS)
    parser.add_argument("--loop", choices=LOOPS, default="asyncio")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", type=int, default=2_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.serve:
        return run_server(options.serve, options.loop)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    text = json.dumps(report(options.rounds, options.idle), indent=2)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
