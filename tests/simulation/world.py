"""One simulated world: a disk, one server after the other over it, and what goes wrong with them.

A `Server` is the real parts put together as `app.py` does it, on a clock, a store, a model and tasks that are
simulated. The edge is real down to the `Client` behind each socket. `World` owns what outlives a server: the disk, the
ledger, the clients, the history of all that happened.
"""

import asyncio
import hashlib
import random
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

from msgspec.structs import replace

from agentd.actors.calibration import Calibration
from agentd.actors.directory import Directory
from agentd.actors.dispatcher import Dispatcher
from agentd.actors.heartbeat import Heartbeat
from agentd.actors.identity_files import IdentityFiles
from agentd.actors.load import Load
from agentd.actors.memory_manager import MemoryManager
from agentd.actors.server import ServerActor
from agentd.actors.shared import Shared
from agentd.edge.auth import Auth
from agentd.edge.gateway import Gateway
from agentd.edge.reception import Reception
from agentd.edge.tokens import Principal, Tokens
from agentd.protocol import facts as f
from agentd.protocol.errors import StorageUnavailable
from agentd.settings import Settings
from agentd.store.store import Append
from agentd.wiring import caps_of
from tests.simulation.invariants import Ledger, audit
from tests.simulation.loop import SimLoop
from tests.simulation.process import Faults, Mortal, SimClock, SimStore
from tests.simulation.provider import SimProvider
from tests.store.memory_store import Disk

AUDIT_TURNS = 4
DRAIN_S = 8.0
SCOPES = {
    "local": frozenset({"chat", "operator", "admin"}),
    "guest": frozenset({"chat"}),
}
LOG = "log_simulated"


class SimTokens:
    """A token is the name of its principal."""

    def check(self, token: str) -> Principal | None:
        return Principal(token, SCOPES[token]) if token in SCOPES else None


class Server:
    """One process of the server."""

    def __init__(self, world: "World", disk: Disk | None, number: int) -> None:
        seed = f"{world.seed}/{number}"
        self.number = number
        self.clock = SimClock(world.loop, random.Random(f"{seed}/clock"))
        self.clock.jump_ms = world.jump_ms
        self.dead = False
        self.fatal: list[str] = []
        self.supervisor = Mortal(self.clock, self.fatal.append)
        self.store = SimStore(
            self.clock, self.supervisor, random.Random(f"{seed}/disk"), world.faults, world.committed,
            world.submitted, disk, LOG,
        )  # fmt: skip
        self.provider = SimProvider(random.Random(f"{seed}/model"), world.faults, offline=world.offline)
        limits = world.settings.limits
        self.shared = Shared(
            settings=world.settings, caps=caps_of(world.settings), clock=self.clock, supervisor=self.supervisor,
            store=world.watched(self.store), term=1,
            dispatcher=Dispatcher(limits.workers, limits.model_calls, limits.queued_global),
            load=Load(self.clock, limits.runs_global), provider=self.provider,
            identity=IdentityFiles(Path("no-identity"), 4_096), known_secrets=frozenset(), notices=[],
            loop_lag_s=lambda: 0.0, calibration=Calibration(), look=lambda state: self.memory.look(state),
        )  # fmt: skip
        self.directory = Directory(self.shared)
        self.memory = MemoryManager(self.shared, self.directory)
        self.actor = ServerActor(self.shared)
        auth = Auth(cast(Tokens, SimTokens()), self.clock)
        self.reception = Reception(self.shared, self.directory, self.actor, auth, LOG)
        self.gateway = Gateway(self.reception)

    async def start(self) -> None:
        """As `App.start`."""
        await self.actor.load()
        self.shared.load.drained_before = self.actor.state.drained
        await self.actor.record(f.ServerStarted, version="0", log=LOG, term=1)
        await self.directory.recover()
        self.supervisor.keep("directory.sweep", self.directory.sweep)
        self.supervisor.keep("requests.deadlines", self.reception.time_out)
        self.supervisor.keep("memory", self.memory.run)
        self.supervisor.keep("memory.index", self.memory.index)
        self.supervisor.keep("heartbeat", Heartbeat(self.shared, self.directory).run)
        await self.shared.identity.read("default")
        self.reception.ready = self.store.ready = True

    async def drain(self) -> None:
        """As `App.drain`, up to the sockets."""
        self.reception.draining_ms = round(DRAIN_S * 1000)
        self.shared.dispatcher.hold(True)
        actors = [seat.actor for seat in self.directory if seat.actor is not None]
        for actor in actors:
            actor.drain()
        try:
            async with asyncio.timeout(DRAIN_S):
                for actor in actors:
                    await actor.attempts_ended()
        except TimeoutError:
            pass
        try:
            await self.actor.record(f.ServerStopped, drained=True)
        except (StorageUnavailable, TimeoutError):
            pass

    def kill(self) -> None:
        self.dead = self.clock.dead = self.store.dead = True
        self.supervisor.kill()


class World:
    """`breaches` are names and what was seen; the first one ends the story. `listening` is the one that plays."""

    listening: "ClassVar[World | None]" = None

    def __init__(self, seed: int) -> None:
        World.listening = self
        self.seed = seed
        chance = random.Random(f"{seed}/world")
        self.breaches: list[tuple[str, str]] = []
        self.loop = SimLoop(random.Random(f"{seed}/order"), self._failed)
        self.loop.after_turn = self._after_turn
        self.settings = _settings(chance)
        self.offline = chance.random() < 0.15
        self.faults = Faults()
        self.jump_ms = 0
        self.ledger = Ledger(caps_of(self.settings), self.breach)
        self.server: Server | None = None
        self.servers: list[Server] = []
        self.sockets: list[Any] = []
        self.stop: Callable[[], None] = self.loop.stop
        self._told = hashlib.sha256()
        self.commits = 0

    # ---- servers ----------------------------------------------------------------------------------------------------

    async def boot(self) -> None:
        """A new process over what the last one left."""
        disk = None
        if self.servers:
            disk = self.servers[-1].store.kept()
            self.ledger.restarted(disk)
        server = Server(self, disk, len(self.servers))
        self.servers.append(server)
        self.server = server
        await asyncio.wait([server.supervisor.start("start", server.start())])

    def kill(self) -> None:
        """Power off."""
        server, self.server = self.server, None
        if server is None:
            return
        for socket in list(self.sockets):
            socket.die()
        server.kill()
        self.note("killed", str(server.number))

    async def stop_in_order(self) -> None:
        server = self.server
        if server is None or not server.reception.ready:
            return
        await asyncio.wait([server.supervisor.start("drain", server.drain())])
        if not server.dead:
            self.kill()

    def jump(self, ms: int) -> None:
        self.jump_ms += ms
        if self.server is not None:
            self.server.clock.jump_ms = self.jump_ms

    def bury(self) -> None:
        """End what still runs, so that nothing is left behind."""
        self.kill()
        self.loop.after_turn = None
        self.stop = lambda: None
        self.loop.go_on()
        for _ in range(100):
            tasks = asyncio.all_tasks(self.loop)
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=60))
        self.loop.close()

    def watched(self, store: SimStore) -> Any:
        return _Watched(store, self.ledger)

    # ---- what is seen -----------------------------------------------------------------------------------------------

    def submitted(self, append: Append) -> None:
        if self.server is not None and not self.server.dead:
            self.ledger.submitted(append)

    def committed(self, append: Append) -> None:
        self.commits += 1
        for record in append.records:
            self.note("fact", record.body)
        self.ledger.committed(append)

    def note(self, kind: str, what: str | bytes) -> None:
        """One line of the history, in which two runs of a seed have to agree byte for byte."""
        self._told.update(f"{self.loop.time():.9f} {kind} ".encode())
        self._told.update(what.encode() if isinstance(what, str) else what)

    @property
    def digest(self) -> str:
        return self._told.hexdigest()

    def breach(self, name: str, what: str) -> None:
        self.breaches.append((name, f"{what} (at {self.loop.time():.3f} s)"))
        self.stop()

    def heard_log(self, method: str, event: Mapping[str, Any]) -> None:
        """An error that is logged is a breach."""
        error = sys.exc_info()[1]
        fault = not isinstance(error, StorageUnavailable)  # a tool that could not read says so itself
        if fault and method in ("error", "exception", "critical") and self.server is not None:
            self.breach("internal", f"{event!r} {error!r}")

    def _failed(self, context: dict[str, Any]) -> None:
        self.breach("internal", f"{context.get('message')}: {context.get('exception')!r}")

    def _after_turn(self) -> None:
        server = self.server
        if server is not None and self.loop.turns % AUDIT_TURNS == 0 and not self.breaches:
            for name, what in audit(server, self.ledger):
                self.breach(name, what)


class _Watched:
    """The store as the actors have it: what they are told is stored is written down."""

    def __init__(self, store: SimStore, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(self, append: Append) -> None:
        await self._store.append(append)
        if not self._store.dead:
            self._ledger.acknowledged(append)


def _settings(chance: random.Random) -> Settings:
    """Small limits, so that they are met."""
    settings = Settings()
    return replace(
        settings,
        limits=replace(
            settings.limits, workers=chance.randint(1, 4), model_calls=chance.randint(1, 5),
            dispatch=chance.randint(1, 6), queued_per_session=chance.randint(1, 6),
            queued_global=chance.randint(2, 8), runs_per_session=chance.randint(1, 4),
            runs_global=chance.randint(3, 12), mailbox=chance.randint(2, 16), control=chance.randint(2, 8),
            ram_entries=chance.randint(3, 12), ram_bytes=chance.choice((1024, 2048, 8192)), ram_tokens=0,
            requests_per_socket=chance.randint(4, 16), sessions_awake=chance.choice((4, 6, 100)),
        ),
        memory=replace(settings.memory, rest_s=chance.choice((1.0, 6.0, 600.0))),
        heartbeat=replace(settings.heartbeat, interval_s=chance.choice((5.0, 30.0)), warning_s=5.0),
        runs=replace(settings.runs, steer=chance.choice(("all", "one")), follow_up=chance.choice(("all", "one"))),
    )  # fmt: skip
