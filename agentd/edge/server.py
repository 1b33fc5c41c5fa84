"""The server on one port: uvicorn parses HTTP, an upgrade becomes a `WebSocket`, nobody takes over the signals.

Of uvicorn's `Server` only state and `on_tick` (the Date header) are used, not `serve()`, which installs signal
handlers, raises SIGTERM again at its end and exits the process when a port is taken. Binding is ours, so that a port
in use is an error with a remedy, and so is the end, because uvicorn's polls and cuts nothing off (decision 022).
"""

import asyncio
import errno
import functools
import socket as sockets
import ssl
from pathlib import Path

import msgspec
import structlog
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import Server, ServerState

from agentd.clock import Clock
from agentd.edge.connection import HttpConnection
from agentd.edge.descriptors import DescriptorWatch, raise_limit
from agentd.edge.door import Door
from agentd.edge.hub import Figures, Hub
from agentd.edge.keepalive import Keepalive
from agentd.edge.limits import Limits
from agentd.edge.stream import Stream
from agentd.edge.websocket import WebSocket
from agentd.supervisor import Supervisor

BACKLOG = 2_048
KEEP_ALIVE_S = 5
NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
TICK_S = 1.0  # how often the Date header is renewed
ABORT_S = 1.0  # kept back from the deadline of `stop` for those that had to be cut off

log = structlog.get_logger(__name__)


class ListenError(Exception):
    """The server cannot listen. `hint` says what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Tls(msgspec.Struct, frozen=True):
    """PEM files. Without `key` the certificate file holds both."""

    cert: Path
    key: Path | None = None


class EdgeServer:
    """Listens between `start` and `stop`."""

    def __init__(
        self,
        host: str,
        port: int,
        door: Door,
        http_app: ASGIApp,
        clock: Clock,
        supervisor: Supervisor,
        limits: Limits | None = None,
        tls: Tls | None = None,
    ) -> None:
        self._host = host
        self._wanted_port = port
        self._clock = clock
        self._supervisor = supervisor
        self._tls = tls
        self._http_app = http_app
        self._hub = Hub(door, clock, supervisor, limits or Limits())
        self._server: Server | None = None
        self._listeners: list[sockets.socket] = []
        self._keepers: list[asyncio.Task[None]] = []

    @property
    def port(self) -> int:
        """The port listened on, also when 0 was asked for; 0 before `start`."""
        return int(self._listeners[0].getsockname()[1]) if self._listeners else 0

    @property
    def open_sockets(self) -> int:
        """Open WebSockets, handshakes included."""
        return len(self._hub.sockets)

    @property
    def outbox_bytes_max(self) -> int:
        """What waits in the fullest outbox of a socket."""
        return max((one.outbox_bytes for one in self._hub.sockets if isinstance(one, Stream)), default=0)

    @property
    def figures(self) -> Figures:
        return self._hub.figures

    async def start(self) -> None:
        """Listen.

        Raises:
            ListenError: the address cannot be listened on, or the TLS files cannot be used.
        """
        server = Server(self._config())
        try:
            server.config.load()
        except (OSError, ssl.SSLError) as error:
            raise ListenError(
                f"the TLS certificate or key cannot be used: {error}", "Check server.tls_cert and server.tls_key."
            ) from error
        if server.config.ssl is not None:
            server.config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
        raise_limit(self._hub.limits.sockets + self._hub.limits.connections_beside)
        self._listeners = await self._bind()
        await server.on_tick(0)
        try:
            await self._listen(server)
        except OSError as error:  # two that bound the same port at once find out only here
            self._unlisten(server)
            raise self._cannot_listen(error) from error
        self._server = server
        keepalive = Keepalive(self._hub.sockets, self._clock, self._hub.limits)
        self._keepers = [
            self._supervisor.keep("edge.keepalive", keepalive.run),
            self._supervisor.keep("edge.tick", self._tick),
        ]

    def drain(self) -> None:
        """Refuse new WebSockets (503 `draining`); those that are open stay, and so does HTTP."""
        self._hub.draining = True

    async def stop(self, deadline_s: float) -> None:
        """Stop listening, tell every socket (`error draining`, close 1001), be done within `deadline_s`."""
        self.drain()
        server, self._server = self._server, None
        if server is None:
            return
        for keeper in self._keepers:
            keeper.cancel()
        self._unlisten(server)
        state = server.server_state
        for connection in list(state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(max(deadline_s - ABORT_S, deadline_s / 2)):
                await self._all_left(state)
        except TimeoutError:
            await self._cut_off(state)
        await asyncio.wait(self._keepers, timeout=ABORT_S)

    async def _listen(self, server: Server) -> None:
        """As uvicorn's `startup`, with deadlines for both ends of TLS, which uvicorn leaves at a minute."""
        loop = asyncio.get_running_loop()
        config, state, limits = server.config, server.server_state, self._hub.limits
        tls = config.ssl is not None

        def make() -> asyncio.Protocol:
            return HttpConnection(self._hub, config=config, server_state=state, app_state={})

        server.servers = []
        for listener in self._listeners:
            serving = await loop.create_server(
                make,
                sock=listener,
                ssl=config.ssl,
                backlog=BACKLOG,
                ssl_handshake_timeout=limits.header_s if tls else None,
                ssl_shutdown_timeout=limits.close_s if tls else None,
            )
            server.servers.append(serving)

    def _unlisten(self, server: Server) -> None:
        for serving in server.servers:
            serving.close()
        for listener in self._listeners:
            listener.close()
        self._listeners = []

    async def _all_left(self, state: ServerState) -> None:
        while state.connections:
            self._hub.left.clear()
            await self._hub.left.wait()
        while state.tasks:
            await asyncio.wait(state.tasks)

    async def _cut_off(self, state: ServerState) -> None:
        log.warning("edge.cut_off", connections=len(state.connections), requests=len(state.tasks))
        for task in state.tasks:
            task.cancel()
        for connection in list(state.connections):
            connection.transport.abort()
        try:
            async with asyncio.timeout(ABORT_S):
                await self._all_left(state)
        except TimeoutError:
            log.error("edge.not_ended", connections=len(state.connections), requests=len(state.tasks))

    async def _tick(self) -> None:
        watch = DescriptorWatch()
        while self._server is not None:
            await self._server.on_tick(0)
            watch.look(self._listeners[0].fileno())
            await self._clock.sleep(TICK_S)

    def _config(self) -> Config:
        tls = self._tls
        return Config(
            self._http_app,
            http=HttpConnection,
            ws=functools.partial(WebSocket, self._hub),  # type: ignore[arg-type]
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # anybody could claim any address
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            ssl_certfile=None if tls is None else tls.cert,
            ssl_keyfile=None if tls is None else tls.key,
        )

    async def _bind(self) -> list[sockets.socket]:
        """One listening socket for each address of the host name, all on the same port."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                self._host or None, self._wanted_port, type=sockets.SOCK_STREAM, flags=sockets.AI_PASSIVE
            )
        except OSError as error:
            raise ListenError(f"the host {self._host!r} is not known: {error}", "Check server.host.") from error
        bound: list[sockets.socket] = []
        absent: OSError | None = None
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            port = bound[0].getsockname()[1] if bound else self._wanted_port
            try:
                bound.append(_bound(family, (address[0], port, *address[2:])))
            except OSError as error:
                if error.errno in NOT_HERE:  # a name may have addresses that this machine has not
                    absent = error
                    continue
                for listener in bound:
                    listener.close()
                raise self._cannot_listen(error) from error
        if not bound and absent is not None:
            raise self._cannot_listen(absent) from absent
        return bound

    def _cannot_listen(self, error: OSError) -> ListenError:
        where = f"{self._host}:{self._wanted_port}"
        if error.errno == errno.EADDRINUSE:
            return ListenError(
                f"{where} is in use by another process",
                "Stop it, or choose another port (--port, AGENTD_SERVER__PORT, server.port; 0 takes a free one).",
            )
        if error.errno == errno.EACCES:
            return ListenError(f"no permission to listen on {where}", "Choose a port from 1024 up.")
        return ListenError(f"cannot listen on {where}: {error.strerror or error}", "Check server.host and server.port.")


def _bound(family: int, address: tuple[str | int, ...]) -> sockets.socket:
    listener = sockets.socket(family, sockets.SOCK_STREAM)
    try:
        listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        if family == sockets.AF_INET6:
            listener.setsockopt(sockets.IPPROTO_IPV6, sockets.IPV6_V6ONLY, 1)
        listener.setblocking(False)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
