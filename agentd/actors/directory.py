"""Which sessions are here: find one, bring it in from the log, let it rest, let it go when nobody would miss it.

A session that nothing runs in rests after a while: its state leaves memory, its seat stays as long as somebody follows
it or something of it is unfinished. It comes back with the next frame that names it, or at its timer, unseen by
clients. A key that has no first fact exists only as long as somebody holds it (rulings 35, 47).
"""

import asyncio
from collections.abc import Callable, Iterator

import msgspec
import structlog

from agentd.actors.context import Words
from agentd.actors.feed import Feed
from agentd.actors.seat import LOAD_S, Seat
from agentd.actors.session import SessionActor
from agentd.actors.shared import Shared
from agentd.core.evolve import evolve
from agentd.core.intents import Recovered
from agentd.core.lifecycle import IllegalMove
from agentd.core.state import SNAPSHOT_VERSION, Session
from agentd.protocol import facts as f
from agentd.protocol.codec import decode_fact
from agentd.protocol.errors import AgentdError, Conflict, Forbidden, Overloaded, StorageUnavailable
from agentd.store.store import Loaded

SWEEP_S = 5.0
UNUSED_S = 30.0  # a session without followers and without work leaves after so long
RECOVER_AT_ONCE = 64
RECOVER_AGAIN_S = 1.0

log = structlog.get_logger(__name__)
_state = msgspec.json.Decoder(Session)


class Directory:
    """All sessions that are awake, and the resting ones that somebody needs."""

    def __init__(self, shared: Shared, resident_bytes: Callable[[], int] = lambda: 0) -> None:
        self.shared = shared
        self.rests = 0
        self._resident_bytes = resident_bytes
        self._seats: dict[str, Seat] = {}
        self._loading: dict[str, asyncio.Future[Seat | None]] = {}
        self._unrecovered: set[str] = set()  # with unfinished runs, and not here since the start

    @property
    def awake(self) -> int:
        return sum(seat.actor is not None for seat in self._seats.values())

    def __len__(self) -> int:
        return len(self._seats)

    def __iter__(self) -> Iterator[Seat]:
        return iter(list(self._seats.values()))

    def get(self, key: str) -> Seat | None:
        """The session if it is here."""
        return self._seats.get(key)

    async def find(self, key: str) -> Seat | None:
        """The session, brought in from the log when it is not here; None when it does not exist."""
        seat = self._seats.get(key)
        if seat is not None:
            return seat
        loading = self._loading.get(key)
        if loading is None:
            loading = self._loading[key] = asyncio.get_running_loop().create_future()
            self.shared.supervisor.start(f"load {key}", self._load(key, loading))
        async with asyncio.timeout(LOAD_S):
            return await asyncio.shield(loading)

    async def open(self, key: str, agent: str, owner: str, *, operator: bool) -> Seat:
        """The session `key` for a client of that agent and principal; an unknown key is adopted.

        Raises:
            Conflict: it belongs to another agent. Forbidden: to another principal, and this is no operator.
            Overloaded: as many sessions are awake as may be.
        """
        seat = await self.find(key)
        if seat is None:
            self._check_room()
            seat = self._seats.get(key)  # somebody else may have adopted it while this one looked
            if seat is None:
                state = Session(key=key, agent=agent, owner=owner)
                seat = self._seats[key] = Seat(self.shared, SessionActor(self.shared, state, Words()), self._again)
        if seat.state.agent != agent:
            raise Conflict(
                f"session {key} belongs to another agent", details={"reason": "agent"},
                hint=f"Connect to agent {seat.state.agent}, or use another session key.",
            )  # fmt: skip
        if seat.state.owner != owner and not operator:
            raise Forbidden(
                f"session {key} belongs to another principal", details={"required": "operator"},
                hint="Use another session key.",
            )  # fmt: skip
        return seat

    def keep(self, seat: Seat) -> Seat:
        """The seat of that key, which is this one unless it left meanwhile and another came."""
        return self._seats.setdefault(seat.key, seat)

    async def recover(self) -> int:
        """Before the first client: every session with unfinished runs gets one `Recovered`; how many those were."""
        keys = await self.shared.store.unfinished()
        self._unrecovered.update(keys)
        for begin in range(0, len(keys), RECOVER_AT_ONCE):
            some = keys[begin : begin + RECOVER_AT_ONCE]
            tasks = [self.shared.supervisor.start(f"recover {key}", self._recover(key)) for key in some]
            await asyncio.wait(tasks)
        return len(keys)

    async def _recover(self, key: str) -> None:
        """One that can't be read now is tried again: else nobody would go on with its runs."""
        try:
            seat = await self.find(key)
            if seat is not None and seat.broken is None:
                await (await seat.awake()).quiet()
        except (AgentdError, TimeoutError) as error:
            log.warning("session.not_recovered", session=key, reason=str(error) or type(error).__name__)
            self.shared.clock.call_later(RECOVER_AGAIN_S, lambda: self._recover_again(key))

    def _tell_recovered(self, actor: SessionActor) -> None:
        """The first that a session hears in this process, whoever brings it in: what ran in the last one is cut off."""
        key = actor.state.key
        if key in self._unrecovered and actor.broken is None:
            by = f.By(principal="agentd", via="recovery")
            actor.tell(Recovered(by=by, drained=self.shared.load.drained_before), "result")
        self._unrecovered.discard(key)

    def _recover_again(self, key: str) -> None:
        self.shared.supervisor.start(f"recover {key}", self._recover(key))

    async def sweep(self) -> None:
        """For ever: put to rest and let go of what nobody needs awake; sooner when memory is short."""
        while True:
            await self.shared.clock.sleep(SWEEP_S)
            self._look_at_memory()
            now, rest_s = self.shared.clock.monotonic_s(), self.shared.settings.memory.rest_s
            self.let_go(now - min(UNUSED_S, rest_s), now - (0.0 if self.shared.load.memory_full else rest_s))

    def let_go(self, unused_before_s: float, idle_before_s: float) -> int:
        """Sessions that nobody needs leave, others that do nothing rest; how many are awake no more."""
        gone = 0
        for seat in self:
            actor = seat.actor
            if not seat.needed and (actor is None or actor.idle):
                if actor is None or actor.state.seq == 0 or actor.touched_s <= unused_before_s:
                    gone += actor is not None
                    seat.leave()
                    del self._seats[seat.key]
            elif actor is not None and actor.touched_s <= idle_before_s and actor.restful and actor.state.seq:
                seat.rest()
                self.rests += 1
                gone += 1
        return gone

    def _look_at_memory(self) -> None:
        """Over `limits.rss_bytes` idle sessions rest at once; if that was not enough new goals are refused (35)."""
        limit, load = self.shared.settings.limits.rss_bytes, self.shared.load
        full = bool(limit) and self._resident_bytes() > limit
        if full != load.memory_full:
            log.warning("memory.full" if full else "memory.fine", limit=limit)
        load.memory_full = full

    def _check_room(self) -> None:
        limit = self.shared.settings.limits.sessions_awake
        if len(self) >= limit and self.awake >= limit and not self.let_go(float("inf"), float("inf")):
            self.shared.load.refuse("memory")
            raise Overloaded(
                "too many sessions are awake", retry_after_ms=self.shared.load.retry_after_ms(),
                details={"cap": "memory", "used": self.awake, "limit": limit},
            )  # fmt: skip

    async def _again(self, seat: Seat) -> SessionActor:
        """A session that rested, as the log has it."""
        loaded = await self.shared.store.load(seat.key)
        if loaded is None:
            raise StorageUnavailable(f"session {seat.key} is not in the log any more", retryable=False)
        return await self._rebuilt(seat.key, loaded, seat.feed)

    async def _load(self, key: str, loading: "asyncio.Future[Seat | None]") -> None:
        try:
            loaded = await self.shared.store.load(key)
            actor = await self._rebuilt(key, loaded) if loaded is not None else None
            seat = self._seats.get(key)  # somebody may have adopted it, and written to it, while it was read
            if seat is None and actor is not None:
                seat = self._seats[key] = Seat(self.shared, actor, self._again)
                self._tell_recovered(actor)
            loading.set_result(seat)
        except Exception as error:
            loading.set_exception(error)
            loading.exception()  # whoever waits gets it; nobody has to
        finally:
            del self._loading[key]

    async def _rebuilt(self, key: str, loaded: Loaded, feed: Feed | None = None) -> SessionActor:
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
        actor = SessionActor(self.shared, state, words, feed)
        actor.first = loaded.first
        actor.broken = broken
        await actor.know_paths()
        return actor
