"""A session's place in the directory: always there to be told, asked and followed, whether the session is awake or not.

An awake session has its actor. One that rests has none: its state is out of memory, and what is told of it meanwhile
(its mode, its heartbeat, when it wakes) is kept in a `Brief` of less than a KiB. Its followers stay, because the feed
is the seat's. The next command, or its timer, brings it in again; commands that come while it is read wait here.
"""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import structlog
from msgspec.structs import replace

from agentd.actors.attempts import SELF
from agentd.actors.caller import Caller
from agentd.actors.feed import Feed
from agentd.actors.mailbox import Envelope, Lane
from agentd.actors.session import SessionActor
from agentd.actors.shared import Shared
from agentd.clock import Timer
from agentd.core import intents as i
from agentd.core.admission import session_figures
from agentd.core.heartbeat import Beat, beat
from agentd.core.state import SNAPSHOT_VERSION, Session
from agentd.protocol.codec import encode
from agentd.protocol.errors import AgentdError, Internal, Overloaded, StorageUnavailable
from agentd.protocol.facts import Backpressure
from agentd.store.store import SnapshotRow

LOAD_S = 30.0
AGAIN_S = 5.0
SNAPSHOT_FACTS = 50  # since the last snapshot; fewer are read as fast

log = structlog.get_logger(__name__)


class Brief(msgspec.Struct, frozen=True, gc=False):
    """What is kept of a session that rests. `state` without its window and its runs; `unfinished` counts those."""

    state: Session
    beat: Beat
    figures: Backpressure
    unfinished: int
    counted: int


class Seat:
    """One session as everybody else holds it."""

    __slots__ = ("_arriving", "_brief", "_coming", "_load", "_timer", "actor", "feed", "first", "shared")

    def __init__(self, shared: Shared, actor: SessionActor, load: "Callable[[Seat], Awaitable[SessionActor]]") -> None:
        self.shared = shared
        self.actor: SessionActor | None = actor
        self.feed: Feed = actor.feed
        self.first = actor.first
        self._load = load
        self._brief: Brief | None = None
        self._arriving: list[Envelope] | None = None
        self._coming: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        actor.enter()

    @property
    def key(self) -> str:
        return self.feed.session

    @property
    def state(self) -> Session:
        """The published state; of a resting session without its window and its runs."""
        if self.actor is not None:
            return self.actor.state
        assert self._brief is not None
        return self._brief.state

    @property
    def unfinished(self) -> int:
        if self.actor is not None:
            return len(self.actor.state.runs)
        return self._brief.unfinished if self._brief is not None else 0

    @property
    def waiting(self) -> int:
        """Commands that wait for its next step."""
        if self.actor is not None:
            return self.actor.waiting
        return len(self._arriving or ())

    @property
    def broken(self) -> str | None:
        return self.actor.broken if self.actor is not None else None

    @property
    def needed(self) -> bool:
        """Somebody follows it, or it has something unfinished."""
        return bool(self.feed.followers) or self.unfinished > 0 or self._arriving is not None

    def beat(self) -> tuple[Beat, Backpressure]:
        """What its heartbeat says now; nothing is woken for it (S17)."""
        if self._brief is not None:
            return self._brief.beat, self._brief.figures
        state, load = self.state, self.shared.load
        wait_ms = load.retry_after_ms(state.mode == "paused")
        return beat(state, load.server_paused), session_figures(state, self.shared.caps, wait_ms)

    # ---- told ------------------------------------------------------------------------------------------------------

    def tell(self, intent: i.AnyIntent, lane: Lane, caller: Caller | None = None) -> None:
        """A command for the session; one that rests is brought in for it.

        Raises:
            Overloaded: its lane is full; nothing was written. Internal: it stopped because its log makes no sense.
        """
        if self.actor is not None:
            self.actor.tell(intent, lane, caller)
            return
        limits = self.shared.settings.limits
        waiting = self._arriving if self._arriving is not None else []
        if lane != "result" and sum(one.lane != "result" for one in waiting) >= limits.mailbox:
            self.shared.load.refuse("mailbox")
            raise Overloaded(
                "this session's mailbox is full", retry_after_ms=self.shared.load.retry_after_ms(),
                details={"cap": "mailbox", "used": limits.mailbox, "limit": limits.mailbox,
                         "backpressure": self.beat()[1]},
            )  # fmt: skip
        waiting.append(Envelope(intent, lane, caller))
        self._come(waiting)

    async def awake(self) -> SessionActor:
        """Its actor, brought in when it rests.

        Raises:
            StorageUnavailable: it can't be read now. TimeoutError: not within 30 s.
        """
        if self.actor is None:
            self._come(self._arriving or [])
            assert self._coming is not None
            async with asyncio.timeout(LOAD_S):
                await asyncio.wait([self._coming])
        if self.actor is None:
            raise StorageUnavailable("the session can't be read now")
        return self.actor

    def mode_changed(self) -> None:
        """The server's mode changed: what has work is brought in for it."""
        if self.actor is not None:
            self.actor.mode_changed()
        elif self.unfinished:
            self.tell(i.Wake(by=SELF), "result")

    # ---- rest ------------------------------------------------------------------------------------------------------

    def rest(self) -> None:
        """Let go of the state; only while `actor.restful`."""
        actor = self.actor
        assert actor is not None
        assert actor.restful
        state = actor.state
        said, figures = self.beat()
        if state.seq - actor.snapshot_seq >= SNAPSHOT_FACTS and self.key not in self.shared.forgetting:
            self.shared.supervisor.start(f"snapshot {self.key}", self._keep(state))
        rings_s, counted = actor.alarm.rings_s, actor.leave()
        self.shared.load.unfinished += counted
        bare = replace(state, window=(), window_bytes=0, summaries=(), tombstones=(), gaps=(), runs={}, queue=(),
                       current=None)  # fmt: skip
        self._brief = Brief(state=bare, beat=said, figures=figures, unfinished=len(state.runs), counted=counted)
        self.actor = None
        if rings_s is not None:  # in monotonic time, as it was set: the wall clock may be anywhere
            self._timer = self.shared.clock.call_later(max(rings_s - self.shared.clock.monotonic_s(), 0), self._due)

    async def _keep(self, state: Session) -> None:
        """The state as a snapshot, so that coming back reads few facts; without it they are all read."""
        row = SnapshotRow(
            session=self.key, seq=state.seq, version=SNAPSHOT_VERSION, ts=state.ts, body=encode(state)
        )  # fmt: skip
        try:
            await self.shared.store.keep_snapshot(row)
        except AgentdError as error:
            log.warning("rest.no_snapshot", session=self.key, reason=error.message)

    def leave(self) -> None:
        """Out of the directory: nothing stays behind."""
        if self._timer is not None:
            self._timer.cancel()
        if self.actor is not None:
            self.actor.leave()
        elif self._brief is not None:
            self.shared.load.unfinished -= self._brief.counted

    def _due(self) -> None:
        self._timer = None
        if self.actor is None:
            self.tell(i.Wake(by=SELF), "result")

    def _come(self, waiting: list[Envelope]) -> None:
        if self._arriving is None:
            self._arriving = waiting
            self._coming = self.shared.supervisor.start(f"wake {self.key}", self._wake())

    async def _wake(self) -> None:
        try:
            actor = await self._load(self)
        except Exception as error:
            self._not_come(error)
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._brief is not None:
            self.shared.load.unfinished -= self._brief.counted
        self._brief, self.actor = None, actor
        actor.enter()
        waiting, self._arriving = self._arriving or [], None
        for one in waiting:
            try:
                actor.tell(one.intent, one.lane, one.caller)
            except AgentdError as error:
                self._refuse(one, error)
        if actor.state.runs:  # what it was to be woken for meanwhile, be it that it could not be read then
            actor.wake()

    def _not_come(self, error: Exception) -> None:
        """It can't be read: clients are told, what agentd wanted itself is tried again."""
        known = error if isinstance(error, AgentdError) else Internal(self.shared.clock.new_id("fault"))
        log.warning("session.not_read", session=self.key, reason=str(error) or type(error).__name__)
        waiting, self._arriving = self._arriving or [], None
        for one in waiting:
            self._refuse(one, known)
        if any(one.caller is None for one in waiting) and self._timer is None:
            self._timer = self.shared.clock.call_later(AGAIN_S, self._due)

    def _refuse(self, one: Envelope, error: AgentdError) -> None:
        if isinstance(one.intent, i.StartRun):
            self.shared.load.reserved -= 1
        if one.caller is not None:
            one.caller.refused(self.key, self.feed.seq, error)
