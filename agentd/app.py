"""Builds and wires every part of one server, runs it, and takes it down in order: the one place that knows all.

Start: lock and open the log, listen (not ready), recover every unfinished session, be ready. Stop on SIGTERM or SIGINT:
admission closes, running attempts have 8 s, sockets are told, the log is closed, within 10 s in all.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import structlog

from agentd import __version__
from agentd.actors.calibration import Calibration
from agentd.actors.directory import Directory
from agentd.actors.dispatcher import Dispatcher
from agentd.actors.heartbeat import Heartbeat
from agentd.actors.importing import Progress, import_folder
from agentd.actors.load import Load
from agentd.actors.memory_manager import MemoryManager
from agentd.actors.server import ServerActor
from agentd.actors.shared import Shared
from agentd.clock import Clock, SystemClock
from agentd.config import ConfigError, api_key
from agentd.edge.api import serve_api
from agentd.edge.auth import Auth
from agentd.edge.backup import backup_route
from agentd.edge.gateway import Gateway
from agentd.edge.http import HttpApp
from agentd.edge.imports import import_route
from agentd.edge.reception import Reception
from agentd.edge.server import EdgeServer, ListenError
from agentd.edge.streams import Streams
from agentd.edge.token_watch import TokenWatch
from agentd.edge.tokens import TokenError, Tokens
from agentd.figures import Scrape
from agentd.protocol import facts as f
from agentd.protocol.codec import encode
from agentd.protocol.errors import StorageUnavailable
from agentd.protocol.replies import Notice
from agentd.protocol.signals import ServerDraining
from agentd.providers.choose import ProviderChoiceError, ProviderSettings, choose_provider, chosen_by_default
from agentd.providers.measured import Measured
from agentd.settings import Settings
from agentd.store.backup import Backups
from agentd.store.errors import StoreError
from agentd.store.legacy import INDEX
from agentd.store.sqlite import SqliteStore
from agentd.supervisor import Supervisor
from agentd.telemetry import Collector, LoopLag, Metrics, resident_bytes
from agentd.wiring import caps_of, edge_limits, identity_files, notices_of, tls_of

DRAIN_ATTEMPTS_S = 8.0
DRAIN_SOCKETS_S = 1.5
STOP_TASKS_S = 1.0
KEYS_EVERY_S = 3600.0
DAY_MS = 86_400_000
DATABASE = "agentd.db"
DEFAULT_AGENT = "default"
TERM = 1  # one node, one owner; leases carry it where there are many
Keeper = Callable[[], Coroutine[Any, Any, None]]

log = structlog.get_logger(__name__)


class StartError(Exception):
    """The server can't start, for a reason that a person can mend. `hint` says how."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


async def serve(settings: Settings, env: Mapping[str, str], *, announce: Callable[[str], None]) -> int:
    """Run a server until it is told to stop; the exit code: 0 drained, 1 a part of it failed for good.

    Raises:
        StartError: it can't start.
    """
    try:
        async with AsyncExitStack() as stack:
            app = await App.build(settings, env, stack)
            await app.start()
            announce(app.told())
            return await app.run()
    except (StoreError, ConfigError, ProviderChoiceError, ListenError, TokenError) as error:
        raise StartError(error.message, error.hint) from error
    except StorageUnavailable as error:
        raise StartError(error.message, error.hint or "Look at the disk of the state directory.") from error


class App:
    """One server."""

    def __init__(
        self,
        shared: Shared,
        directory: Directory,
        server: ServerActor,
        reception: Reception,
        edge: EdgeServer,
        streams: Streams,
        keepers: Mapping[str, Keeper],
        collector: Collector,
        state_dir: Path,
        stopping: asyncio.Event,
        fatal: list[str],
    ) -> None:
        self.shared = shared
        self.directory = directory
        self.server = server
        self.reception = reception
        self.edge = edge
        self._streams = streams
        self._keepers = keepers
        self._collector = collector
        self._state_dir = state_dir
        self._stopping = stopping
        self._fatal = fatal

    @classmethod
    async def build(cls, settings: Settings, env: Mapping[str, str], stack: AsyncExitStack) -> "App":
        """Open what has to be opened; `stack` closes it, in reverse order."""
        clock = SystemClock()
        stopping = asyncio.Event()
        fatal: list[str] = []

        def on_fatal(reason: str) -> None:
            log.error("server.fatal", reason=reason)
            fatal.append(reason)
            stopping.set()

        supervisor = Supervisor(clock, on_fatal)
        state_dir = _state_dir(Path(settings.server.state_dir))
        chosen = ProviderSettings(
            name=settings.provider.name or None, model=settings.provider.model or None,
            base_url=settings.provider.base_url or None, pace_ms=settings.provider.pace_ms,
        )  # fmt: skip
        metrics = Metrics()
        metrics.show_limits(msgspec.structs.asdict(settings.limits))
        metrics.build.labels(__version__).set(1)
        provider = Measured(choose_provider(chosen, env, clock), metrics, clock)
        stack.push_async_callback(provider.close)
        tokens = Tokens(state_dir, clock)
        auth = _auth(tokens, clock, settings)
        store = await SqliteStore.open(state_dir / DATABASE, clock=clock, supervisor=supervisor, on_fatal=on_fatal)
        stack.push_async_callback(store.close)
        stack.push_async_callback(supervisor.stop, STOP_TASKS_S)
        lag = LoopLag(clock, metrics)
        shared = Shared(
            settings=settings,
            caps=caps_of(settings),
            clock=clock,
            supervisor=supervisor,
            store=store,
            term=TERM,
            dispatcher=Dispatcher(settings.limits.workers, settings.limits.model_calls, settings.limits.queued_global),
            load=Load(clock, settings.limits.runs_global),
            provider=provider,
            identity=identity_files(settings),
            known_secrets=frozenset(key for key in (api_key(env),) if key),
            notices=notices_of(store, chosen_by_default(chosen)),
            loop_lag_s=lambda: lag.last_s,
            calibration=Calibration(),
            look=lambda state: memory.look(state),
            metrics=metrics,
        )
        directory = Directory(shared, resident_bytes)
        memory = MemoryManager(shared, directory)
        server = ServerActor(shared)
        reception = Reception(shared, directory, server, auth, store.opening.log_id)
        http = HttpApp(ready=lambda: _reasons(reception), render=lambda: scrape.render(), auth=auth, clock=clock)
        http.add(backup_route(http, Backups(state_dir / DATABASE, clock)))
        http.add(import_route(http, directory))
        streams = serve_api(http, reception)
        edge = EdgeServer(
            settings.server.host, settings.server.port, Gateway(reception), http, clock, supervisor,
            edge_limits(settings), tls_of(settings),
        )  # fmt: skip
        scrape = Scrape(shared, directory, edge, streams)
        collector = Collector(clock, metrics)
        keepers: dict[str, Keeper] = {
            "directory.sweep": directory.sweep, "requests.deadlines": reception.time_out, "streams.sweep": streams.run,
            "loop lag": lag.watch, "memory": memory.run, "memory.index": memory.index,
            "tokens": TokenWatch(tokens, server, directory, clock).run,
        }  # fmt: skip
        return cls(shared, directory, server, reception, edge, streams, keepers, collector, state_dir, stopping, fatal)

    async def start(self) -> None:
        """Listen, recover, be ready. From here on a signal stops in order, also one that comes before `run`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        shared = self.shared
        await self.server.load()
        shared.load.drained_before = self.server.state.drained
        await self.edge.start()
        opening = shared.store.opening
        if opening.quarantined is not None:
            await self.server.record(
                f.ServerQuarantined, folder=Path(opening.quarantined).name, sessions=opening.recovered_sessions,
                facts=opening.recovered_facts, notes=opening.notes[:100],
            )  # fmt: skip
        await self.server.record(f.ServerStarted, version=__version__, log=opening.log_id, term=TERM)
        recovered = await self.directory.recover()
        shared.metrics.sessions_recovered.inc(recovered)
        log.info("server.recovered", sessions=recovered)
        supervisor = shared.supervisor
        for name, keeper in self._keepers.items():
            supervisor.keep(name, keeper)
        supervisor.keep("keys.prune", self._prune_keys)
        if shared.settings.heartbeat.enabled:
            supervisor.keep("heartbeat", Heartbeat(shared, self.directory).run)
        await shared.identity.read(DEFAULT_AGENT)
        supervisor.start("provider.check", self._check_provider())
        if await asyncio.to_thread((self._state_dir / INDEX).is_file):
            supervisor.start("import", self._import())
        self._collector.start()
        self.reception.ready = True
        await asyncio.to_thread(self._write_address)

    def told(self) -> str:
        """What a person reads when it has started."""
        settings, provider = self.shared.settings, self.shared.provider
        identity = self.shared.identity.current(DEFAULT_AGENT)
        layers = ", ".join(f"{layer.name} ({layer.bytes} bytes)" for layer in identity.layers) if identity else "none"
        thinks = "offline (no model, no key needed)" if provider.offline else f"{provider.name}, {provider.model}"
        lines = [
            f"agentd {__version__} listens on {self.url}",
            f"  provider  {thinks}",
            f"  identity  {layers}",
            f"  state     {settings.server.state_dir}",
            *(f"  note      {notice.message}" for notice in self.shared.notices),
            "",
            'Try:  agentd chat "What is 12 * 7?"',
            '      agentd goal "list three colours; name a fruit for each; then write a line about them"',
        ]
        return "\n".join(lines)

    @property
    def url(self) -> str:
        host = self.shared.settings.server.host
        scheme = "https" if self.shared.settings.server.tls_cert else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.edge.port}"

    async def run(self) -> int:
        """Until a signal, or a part that failed for good."""
        try:
            await self._stopping.wait()
        finally:
            await self.drain()  # a second signal is not a harder one: the log still has to be closed
        return 1 if self._fatal else 0

    async def drain(self) -> None:
        """Close admission, let attempts end for 8 s, tell the sockets, say that it was in order."""
        shared = self.shared
        self.reception.draining_ms = round(DRAIN_ATTEMPTS_S * 1000)
        self.edge.drain()
        shared.dispatcher.hold(True)
        actors = [seat.actor for seat in self.directory if seat.actor is not None]
        for actor in actors:
            actor.drain()
        for seat in self.directory:
            frame = ServerDraining(session=seat.key, ts=shared.clock.now_ms(), deadline_ms=self.reception.draining_ms)
            seat.feed.signal(encode(frame))
        try:
            async with asyncio.timeout(DRAIN_ATTEMPTS_S):
                for actor in actors:
                    await actor.attempts_ended()
        except TimeoutError:
            log.warning("drain.cut_off", attempts=sum(len(actor.attempts) for actor in actors))
        if not self._fatal:
            try:
                await self.server.record(f.ServerStopped, drained=True)
            except (StorageUnavailable, TimeoutError) as error:
                log.error("drain.not_recorded", reason=str(error))
        self._streams.end()
        await self.edge.stop(DRAIN_SOCKETS_S)
        self._collector.stop()
        await asyncio.to_thread((self._state_dir / "server.json").unlink, missing_ok=True)

    async def _check_provider(self) -> None:
        complaint = await self.shared.provider.check()
        if complaint is not None:
            log.warning("provider.unreachable", reason=complaint)
            self.shared.notices.append(Notice(code="provider_unreachable", message=complaint))

    async def _import(self) -> None:
        """The state directory holds the older format: its snapshots are taken in, each of them once."""
        by, told = f.By(principal="agentd", via="memory"), Progress()
        async for progress in import_folder(self.directory, self._state_dir, by):
            told = progress
        skipped = [f"{one.place}: {one.reason}" for one in told.reasons[:20]]
        log.info("import.done", snapshots=told.snapshots, already=told.already, skipped=told.skipped, reasons=skipped)

    async def _prune_keys(self) -> None:
        while True:
            before = self.shared.clock.now_ms() - self.shared.settings.retention.keys_days * DAY_MS
            try:
                await self.shared.store.prune_keys(before)
            except StorageUnavailable as error:  # there is time; a full disk is no reason to stop the server
                log.warning("keys.not_pruned", reason=error.message)
            await self.shared.clock.sleep(KEYS_EVERY_S)

    def _write_address(self) -> None:
        """Where the command line finds this server; removed when it stops in order."""
        body = msgspec.json.encode({"url": self.url, "pid": os.getpid(), "version": __version__})
        fresh = self._state_dir / "server.json.new"
        fresh.write_bytes(body)
        fresh.replace(self._state_dir / "server.json")


def _state_dir(path: Path) -> Path:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(
            f"the state directory {path} can't be made: {error.strerror}", "Choose another with --state-dir."
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise StartError(f"the state directory {path} can't be written to", "Change its permissions, or --state-dir.")
    return path


def _auth(tokens: Tokens, clock: Clock, settings: Settings) -> Auth:
    try:
        return Auth(tokens, clock, origins=settings.server.origins)
    except ValueError as error:
        raise StartError(f"server.origins: {error}", "Write origins as https://host[:port].") from error


def _reasons(reception: Reception) -> list[str]:
    if reception.draining_ms is not None:
        return ["the server is shutting down"]
    return [] if reception.ready else ["the server is starting"]
