"""What the edge's tests stand on: an echo door, a server on a free port, a raw socket that speaks frames, a clock."""

import asyncio
import base64
import heapq
import itertools
import json
import struct
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from agentd.clock import SystemClock, Timer
from agentd.edge.door import Peer, Socket, Upgrade
from agentd.edge.limits import Limits
from agentd.edge.server import EdgeServer, Tls
from agentd.supervisor import Supervisor

KEY = base64.b64encode(b"0123456789abcdef")
WAIT_S = 5.0


class EchoPeer:
    """Echoes every text, and remembers all that it was told."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.texts: list[bytes] = []
        self.binaries = 0
        self.closings = 0
        self.gone = asyncio.Event()
        self.on_text: Callable[[bytes], None] = socket.send

    def received(self, text: bytes) -> None:
        self.texts.append(text)
        self.on_text(text)

    def received_binary(self) -> None:
        self.binaries += 1
        self.socket.send(b'{"type":"error","code":"invalid_frame"}')

    def closed(self) -> None:
        self.closings += 1
        self.gone.set()


class EchoDoor:
    """Admits everybody, at once or when `gate` is set, unless `refuse` holds an error."""

    def __init__(self) -> None:
        self.upgrades: list[Upgrade] = []
        self.peers: list[EchoPeer] = []
        self.refuse: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.greeting: bytes | None = None
        self.asked = asyncio.Event()
        self.prepare: Callable[[EchoPeer], None] = lambda peer: None

    async def admit(self, upgrade: Upgrade) -> Callable[[Socket], Peer]:
        self.upgrades.append(upgrade)
        self.asked.set()
        await self.gate.wait()
        if self.refuse is not None:
            raise self.refuse
        return self._make

    def _make(self, socket: Socket) -> Peer:
        peer = EchoPeer(socket)
        self.prepare(peer)
        self.peers.append(peer)
        if self.greeting is not None:
            socket.send(self.greeting)
        return peer


class ManualClock(SystemClock):
    """Real ids and randomness, time that moves only by `advance`."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0
        self._order = itertools.count()
        self._timers: list[tuple[float, int, ManualTimer]] = []

    def monotonic_s(self) -> float:
        return self.now_s

    def now_ms(self) -> int:
        return int(self.now_s * 1000)

    def call_later(self, delay_s: float, call: Callable[[], object]) -> Timer:
        timer = ManualTimer(call)
        heapq.heappush(self._timers, (self.now_s + delay_s, next(self._order), timer))
        return timer

    async def sleep(self, delay_s: float) -> None:
        if delay_s <= 0:
            return await asyncio.sleep(0)
        woken = asyncio.Event()
        self.call_later(delay_s, woken.set)
        await woken.wait()

    async def advance(self, delay_s: float) -> None:
        """Move on, firing what falls due in order, and let the loop settle after each."""
        end_s = self.now_s + delay_s
        while self._timers and self._timers[0][0] <= end_s:
            due_s, _, timer = heapq.heappop(self._timers)
            self.now_s = max(self.now_s, due_s)
            timer.fire()
            await settle()
        self.now_s = end_s
        await settle()


class ManualTimer:
    def __init__(self, call: Callable[[], object]) -> None:
        self._call: Callable[[], object] | None = call

    def cancel(self) -> None:
        self._call = None

    def fire(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()


async def settle(turns: int = 6) -> None:
    """Let everything that is ready run; no time passes on a manual clock."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def until(fact: Callable[[], bool]) -> None:
    """Wait for a fact that other tasks bring about."""
    async with asyncio.timeout(WAIT_S):
        while not fact():
            await settle(1)


async def plain_app(scope: Scope, receive: Receive, send: Send) -> None:
    """A minimal HTTP application."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


class Rig:
    """A running server with its door and clock."""

    def __init__(self, limits: Limits, clock: SystemClock, app: ASGIApp, tls: Tls | None, host: str) -> None:
        self.door = EchoDoor()
        self.clock = clock
        self.supervisor = Supervisor(clock, lambda name: None)
        self.clients: list[RawClient] = []
        self.server = EdgeServer(host, 0, self.door, app, clock, self.supervisor, limits, tls)

    async def raw(self, **headers: str) -> "RawClient":
        """A raw connection whose upgrade was accepted."""
        client = await self.connect()
        client.write(upgrade_request(**headers))
        head = await client.read_head()
        assert head.startswith(b"HTTP/1.1 101 "), head
        return client

    async def connect(self) -> "RawClient":
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        self.clients.append(RawClient(reader, writer))
        return self.clients[-1]

    def url(self, path: str = "/v1/agents/default/stream") -> str:
        return f"ws://127.0.0.1:{self.server.port}{path}"

    @property
    def peer(self) -> EchoPeer:
        return self.door.peers[-1]


@asynccontextmanager
async def running(
    limits: Limits | None = None,
    *,
    clock: SystemClock | None = None,
    app: ASGIApp = plain_app,
    tls: Tls | None = None,
    host: str = "127.0.0.1",
) -> AsyncIterator[Rig]:
    rig = Rig(limits or Limits(), clock or SystemClock(), app, tls, host)
    await rig.server.start()
    try:
        yield rig
    finally:
        for peer in rig.door.peers:
            abort = getattr(peer.socket, "abort", None)
            if abort is not None and not peer.gone.is_set():
                abort()
        for client in rig.clients:
            client.close()
        await rig.server.stop(1.0)
        assert await rig.supervisor.stop(1.0) == []


def make_certificate(folder: Path) -> Tls:
    """A certificate for 127.0.0.1 that nobody trusts yet, and its key."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    alternative = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*command.split(), *alternative, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True
    )
    return Tls(cert, key)


def upgrade_request(path: str = "/v1/agents/default/stream", *, extra: str = "", **headers: str) -> bytes:
    fields = {
        "Host": "127.0.0.1",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY.decode(),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"GET {path} HTTP/1.1\r\n{lines}{extra}\r\n".encode()


TEXT, BINARY, CONT, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
MASK = b"\x37\xfa\x21\x3d"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bool = True) -> bytes:
    """One client frame, well formed or not."""
    head = bytes(((0x80 if fin else 0) | rsv << 4 | opcode,))
    size, bit = len(payload), 0x80 if mask else 0
    if size < 126:
        head += bytes((bit | size,))
    elif size < 65536:
        head += bytes((bit | 126,)) + struct.pack("!H", size)
    else:
        head += bytes((bit | 127,)) + struct.pack("!Q", size)
    if not mask:
        return head + payload
    return head + MASK + bytes(byte ^ MASK[i % 4] for i, byte in enumerate(payload))


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


class RawClient:
    """A TCP connection, read frame by frame; it answers nothing by itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def write(self, *chunks: bytes) -> None:
        self.writer.write(b"".join(chunks))

    async def read_head(self) -> bytes:
        async with asyncio.timeout(WAIT_S):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def read_response(self) -> tuple[int, dict[str, str], bytes]:
        head = await self.read_head()
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        async with asyncio.timeout(WAIT_S):
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(lines[0].split()[1]), headers, body

    async def read_frame(self) -> tuple[int, bytes]:
        async with asyncio.timeout(WAIT_S):
            first, second = await self.reader.readexactly(2)
            assert first & 0x80, "servers do not fragment"
            assert not first & 0x70, "no extension was negotiated"
            assert not second & 0x80, "servers do not mask"
            size = second & 0x7F
            if size >= 126:
                size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
            return first & 0x0F, await self.reader.readexactly(size)

    async def read_text(self) -> bytes:
        opcode, payload = await self.read_frame()
        assert opcode == TEXT, (opcode, payload)
        return payload

    async def read_error(self) -> dict[str, Any]:
        error = json.loads(await self.read_text())
        assert error["type"] == "error"
        return dict(error)

    async def read_close(self) -> int | None:
        opcode, payload = await self.read_frame()
        assert opcode == CLOSE, (opcode, payload)
        return struct.unpack("!H", payload[:2])[0] if payload else None

    async def read_end(self) -> bytes:
        """All that is left, until the server ends its direction."""
        async with asyncio.timeout(WAIT_S):
            return await self.reader.read()

    def close(self) -> None:
        self.writer.close()
