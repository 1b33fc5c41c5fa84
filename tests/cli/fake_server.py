"""A server of the wire contract that says what a test tells it to, connection by connection."""

import http
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from agentd.cli.address import Server as Address
from agentd.clock import SystemClock

Script = Callable[["Talk"], Awaitable[None]]
Refusal = tuple[int, dict[str, Any]]


class QuickClock(SystemClock):
    """Sleeping takes no time and moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.slept_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.slept_s

    async def sleep(self, delay_s: float) -> None:
        self.slept_s += delay_s
        await super().sleep(0)


class Talk:
    """One connection, from the server's side."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection

    async def ack(self, seq: int = 0, session: str = "s", **more: Any) -> None:
        told = {
            "first": 1, "log": "log_1", "mode": "running", "server": {"version": "9"}, "restored": False, "limits": {},
            "provider": {"name": "offline", "offline": True}, "scopes": ["chat", "operator"], "warnings": [],
            "identity": {"hash": "h", "bytes": 1, "warnings": []},
        }  # fmt: skip
        await self.send(**{"type": "session.ack", "session": session, "ts": 1, "agent": "a", "seq": seq} | told | more)

    async def send(self, **fields: Any) -> None:
        await self.connection.send(json.dumps(fields))

    async def fact(self, seq: int, type: str = "warning", session: str = "s", **more: Any) -> None:
        await self.send(type=type, session=session, seq=seq, ts=seq, **more)

    async def receive(self) -> dict[str, Any]:
        return dict(json.loads(await self.connection.recv()))

    async def break_off(self) -> None:
        """As if the server was killed: no closing frame."""
        self.connection.transport.abort()
        await self.connection.wait_closed()


class FakeServer:
    """Plays `scripts`, one a connection; a refusal among them answers the upgrade instead."""

    def __init__(self, scripts: list[Script | Refusal]) -> None:
        self.scripts = scripts
        self.paths: list[str] = []
        self.headers: list[Headers] = []
        self.server: Server | None = None

    def address(self) -> Address:
        assert self.server is not None
        port = self.server.sockets[0].getsockname()[1]
        return Address(f"http://127.0.0.1:{port}", "the-token", local=True)

    async def play(self, connection: ServerConnection) -> None:
        script = self.scripts.pop(0)
        assert not isinstance(script, tuple)
        await script(Talk(connection))

    def look(self, connection: ServerConnection, request: Request) -> Response | None:
        self.paths.append(request.path)
        self.headers.append(request.headers)
        if self.scripts and isinstance(self.scripts[0], tuple):
            status, body = self.scripts.pop(0)  # type: ignore[misc]
            return Response(status, http.HTTPStatus(status).phrase, Headers(), json.dumps(body).encode())
        return None


@asynccontextmanager
async def fake_server(*scripts: Script | Refusal) -> AsyncIterator[FakeServer]:
    fake = FakeServer(list(scripts))
    async with serve(fake.play, "127.0.0.1", 0, process_request=fake.look, compression=None) as server:
        fake.server = server
        yield fake
