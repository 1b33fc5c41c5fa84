"""Which sessions are awake: find one, bring it in from the log, let it go when nobody would miss it.

A session that nobody follows and that has nothing to do leaves memory with the next sweep; it comes back with the next
frame that names it. A key that has no first fact exists only as long as somebody holds it (rulings 47).
"""

import asyncio
from collections.abc import Iterator

import msgspec
import structlog

from agentd.actors.context import Words
from agentd.actors.session import SessionActor
from agentd.actors.shared import Shared
from agentd.core.evolve import evolve
from agentd.core.intents import Recovered
from agentd.core.lifecycle import IllegalMove
from agentd.core.state import SNAPSHOT_VERSION, Session
from agentd.protocol import facts as f
from agentd.protocol.codec import decode_fact
from agentd.protocol.errors import Conflict, Forbidden, Overloaded
from agentd.store.store import Loaded

SWEEP_S = 5.0
REST_S = 30.0
RECOVER_AT_ONCE = 64
LOAD_S = 30.0

log = structlog.get_logger(__name__)
_state = msgspec.json.Decoder(Session)


class Directory:
    """All sessions that are awake."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self._awake: dict[str, SessionActor] = {}
        self._loading: dict[str, asyncio.Future[SessionActor | None]] = {}

    def __len__(self) -> int:
        return len(self._awake)

    def __iter__(self) -> Iterator[SessionActor]:
        return iter(list(self._awake.values()))

    def get(self, key: str) -> SessionActor | None:
        """The session if it is awake."""
        return self._awake.get(key)

    async def find(self, key: str) -> SessionActor | None:
        """The session, brought in from the log when it is not awake; None when it does not exist."""
        actor = self._awake.get(key)
        if actor is not None:
            return actor
        loading = self._loading.get(key)
        if loading is None:
            loading = self._loading[key] = asyncio.get_running_loop().create_future()
            self.shared.supervisor.start(f"load {key}", self._load(key, loading))
        async with asyncio.timeout(LOAD_S):
            return await asyncio.shield(loading)

    async def open(self, key: str, agent: str, owner: str, *, operator: bool) -> SessionActor:
        """The session `key` for a client of that agent and principal; an unknown key is adopted.

        Raises:
            Conflict: it belongs to another agent. Forbidden: to another principal, and this is no operator.
            Overloaded: as many sessions are awake as may be.
        """
        actor = await self.find(key)
        if actor is None:
            self._check_room()
            actor = self._awake.get(key)  # somebody else may have adopted it while this one looked
            if actor is None:
                state = Session(key=key, agent=agent, owner=owner)
                actor = self._awake[key] = SessionActor(self.shared, state, Words())
        if actor.state.agent != agent:
            raise Conflict(
                f"session {key} belongs to another agent", details={"reason": "agent"},
                hint=f"Connect to agent {actor.state.agent}, or use another session key.",
            )  # fmt: skip
        if actor.state.owner != owner and not operator:
            raise Forbidden(
                f"session {key} belongs to another principal", details={"required": "operator"},
                hint="Use another session key.",
            )  # fmt: skip
        return actor

    def keep(self, actor: SessionActor) -> SessionActor:
        """The awake actor of that key, which is this one unless it left meanwhile and another came."""
        return self._awake.setdefault(actor.state.key, actor)

    async def recover(self) -> int:
        """Before the first client: every session with unfinished runs gets one `Recovered`; how many those were."""
        keys = await self.shared.store.unfinished()
        for begin in range(0, len(keys), RECOVER_AT_ONCE):
            some = keys[begin : begin + RECOVER_AT_ONCE]
            tasks = [self.shared.supervisor.start(f"recover {key}", self._recover(key)) for key in some]
            await asyncio.wait(tasks)
        return len(keys)

    async def _recover(self, key: str) -> None:
        actor = await self.find(key)
        if actor is not None and actor.broken is None:
            by = f.By(principal="agentd", via="recovery")
            actor.tell(Recovered(by=by, drained=self.shared.load.drained_before), "result")
            await actor.quiet()

    async def sweep(self) -> None:
        """For ever: let go of what nobody needs."""
        while True:
            await self.shared.clock.sleep(SWEEP_S)
            self.let_go(self.shared.clock.monotonic_s() - REST_S)

    def let_go(self, touched_before_s: float) -> int:
        gone = [
            actor for actor in self._awake.values()
            if actor.idle and (actor.state.seq == 0 or actor.touched_s <= touched_before_s)
        ]  # fmt: skip
        for actor in gone:
            actor.leave()
            del self._awake[actor.state.key]
        return len(gone)

    def _check_room(self) -> None:
        limit = self.shared.settings.limits.sessions_awake
        if len(self._awake) >= limit and not self.let_go(float("inf")):
            self.shared.load.refuse("memory")
            raise Overloaded(
                "too many sessions are awake", retry_after_ms=self.shared.load.retry_after_ms(),
                details={"cap": "memory", "used": len(self._awake), "limit": limit},
            )  # fmt: skip

    async def _load(self, key: str, loading: "asyncio.Future[SessionActor | None]") -> None:
        try:
            loaded = await self.shared.store.load(key)
            actor = await self._rebuilt(key, loaded) if loaded is not None else None
            if actor is not None:
                self._awake[key] = actor
            loading.set_result(actor)
        except Exception as error:
            loading.set_exception(error)
            loading.exception()  # whoever waits gets it; nobody has to
        finally:
            del self._loading[key]

    async def _rebuilt(self, key: str, loaded: Loaded) -> SessionActor:
        """`evolve` over the log since the last snapshot; nothing else restores anything (design 1.2)."""
        state = Session(key=key, agent=loaded.row.agent, owner=loaded.row.owner)
        if loaded.snapshot is not None and loaded.snapshot.version <= SNAPSHOT_VERSION:
            state = _state.decode(loaded.snapshot.body)
        broken = None
        try:
            for body in loaded.bodies:
                state = evolve(state, decode_fact(body))
        except (IllegalMove, msgspec.MsgspecError, KeyError) as error:
            broken = self.shared.clock.new_id("fault")
            log.error("session.broken", session=key, seq=state.seq + 1, fault=broken, reason=str(error))
        words = Words()
        await words.load(self.shared.store, state)
        actor = SessionActor(self.shared, state, words)
        actor.first = loaded.first
        actor.broken = broken
        for run in state.runs.values():
            if run.leaf_id is not None:
                await actor.know_path(run.leaf_id)
        return actor
