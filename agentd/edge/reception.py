"""What all clients of one server share: finding a session, handing a command to it, acts on all, deadlines."""

from collections import deque
from typing import Literal

from agentd.actors.directory import Directory
from agentd.actors.seat import Seat
from agentd.actors.server import ServerActor
from agentd.actors.shared import Shared
from agentd.core import intents as i
from agentd.core.admission import limits, session_figures
from agentd.core.server import KEY as SERVER
from agentd.core.state import Session
from agentd.edge.ask import Ask, Sum
from agentd.edge.auth import Auth, ConnectRequest
from agentd.edge.greeting import place
from agentd.edge.requests import Asked
from agentd.protocol import facts as f
from agentd.protocol.errors import AgentdError, Draining, Forbidden, InvalidPayload, NotFound, Overloaded, Timeout
from agentd.protocol.replies import ControlDone, Reply, Reset
from agentd.protocol.signals import AgentState, Signal

REQUEST_S = 30.0
LATE_EVERY_S = 1.0
CALM_MAX_S = 0.1
REFUSALS_PER_S = 1_000  # at some 30 µs each 3 % of a core


class Reception:
    """One for a server. `ready` is False until recovery is done."""

    def __init__(self, shared: Shared, directory: Directory, server: ServerActor, auth: Auth, log_id: str) -> None:
        self.shared = shared
        self.settings = shared.settings
        self.clock = shared.clock
        self.supervisor = shared.supervisor
        self.directory = directory
        self.server = server
        self.auth = auth
        self.log_id = log_id
        self.ready = False
        self.draining_ms: int | None = None
        self._watched: deque[Ask] = deque()
        self._connected: dict[str, int] = {}
        self._calm_until_s = 0.0

    # ---- refusing for load ------------------------------------------------------------------------------------------

    def calm_s(self) -> float:
        """How long a socket that was refused for load is not read now: until its turn among all that were (rulings 28).
        With one pause for all, what few sockets had sent in an overload was refused long after it was over."""
        now = self.clock.monotonic_s()
        self._calm_until_s = min(max(self._calm_until_s, now) + 1 / REFUSALS_PER_S, now + CALM_MAX_S)
        return self._calm_until_s - now

    # ---- coming in --------------------------------------------------------------------------------------------------

    def check_open(self) -> None:
        if self.draining_ms is not None or not self.ready:
            raise Draining(
                "the server is shutting down" if self.ready else "the server is starting", retry_after_ms=1000,
                hint="Connect again in a moment.",
            )  # fmt: skip

    def came(self, session: str) -> None:
        self._connected[session] = self._connected.get(session, 0) + 1

    def left(self, session: str) -> None:
        left = self._connected.get(session, 0) - 1
        if left > 0:
            self._connected[session] = left
        else:
            self._connected.pop(session, None)

    def check_room(self, session: str) -> None:
        """Raises Overloaded when as many sockets and streams follow the session as may."""
        per_session = self.settings.limits.sockets_per_session
        if self._connected.get(session, 0) >= per_session:
            raise self.overloaded("sockets", per_session, per_session, "too many sockets on this session")

    def placed(self, after: int | None, log: str | None, seq: int, first: int) -> tuple[int, Reset | None]:
        """Where a follower begins (greeting.py), counted."""
        cursor, reset = place(after, log, seq, first, self.log_id)
        metrics = self.shared.metrics
        if after is not None:
            metrics.reconnects.inc()
        if reset is not None:
            metrics.replays_reset.labels(reset).inc()
        if cursor < seq:
            metrics.replays.inc()
        return cursor, reset

    async def find(self, session: str, request: ConnectRequest) -> Seat | ServerActor:
        """The session for a client with a good credential.

        Raises:
            Forbidden, Conflict: it is not theirs. Overloaded: too many sockets on it, or sessions awake.
        """
        principal = request.principal
        assert principal is not None
        if session.startswith("_"):
            if "operator" not in principal.scopes:
                raise Forbidden("keys that begin with _ are the server's own", details={"required": "operator"})
            if session != SERVER:
                raise NotFound(f"no session {session}", kind="session")
            return self.server
        if "chat" not in principal.scopes and "operator" not in principal.scopes:
            raise Forbidden("this token may not chat", details={"required": "chat"})
        self.check_room(session)
        operator = "operator" in principal.scopes
        actor = await self.directory.open(session, request.agent, principal.name, operator=operator)
        await self.shared.identity.read(request.agent)
        return actor

    def present(self, actor: Seat | ServerActor) -> Seat | ServerActor:
        """The actor as it is now: a key without a first fact may have left while its socket was made."""
        return self.directory.keep(actor) if isinstance(actor, Seat) else actor

    async def existing(self, session: str) -> Seat:
        """A session that has a first fact. Raises NotFound."""
        seat = await self.directory.find(session)
        if seat is None or seat.state.seq == 0:
            raise NotFound(f"no session {session}", kind="session", hint="session.list lists them.")
        return seat

    # ---- commands ------------------------------------------------------------------------------------------

    def tell(self, seat: Seat, asked: Asked, ask: Ask) -> None:
        """Into the mailbox, or refused before anything is written (rulings 28)."""
        starts = isinstance(asked.intent, i.StartRun)
        load = self.shared.load
        try:
            if starts:
                self.check_load(seat)
                load.reserve()
        except AgentdError as error:
            raise self._refused(ask, error) from None
        try:
            seat.tell(asked.intent, asked.lane, ask)
        except AgentdError as error:
            load.reserved -= starts
            raise self._refused(ask, error) from None

    def check_load(self, seat: Seat) -> None:
        """Whether a run more may start; asked before anything else is done for its frame, so that refusing is cheap.

        Raises:
            Draining, Overloaded: with the cap, its figures, and when to come again.
        """
        if self.draining_ms is not None:
            raise Draining("the server is shutting down", retry_after_ms=1000)
        load, waiting, per_session = self.shared.load, len(seat.state.queue), self.settings.limits.runs_per_session
        if waiting >= per_session:  # the rule would refuse it too; here it costs no step
            raise self.overloaded("runs_per_session", waiting, per_session, "too many runs wait in this session")
        if load.memory_full:
            limit = self.settings.limits.rss_bytes
            raise self.overloaded("memory", limit, limit, "the server is short of memory")
        if load.used >= load.runs_max:
            raise self.overloaded("runs_global", load.used, load.runs_max, "the server has as many runs as it may")

    def _refused(self, ask: Ask, error: AgentdError) -> AgentdError:
        ask.open = False
        ask.client.answered(ask)
        return error

    async def for_all(self, action: str | None, by: f.By, reason: str | None, ask: Ask) -> None:
        """`session: "*"`: the server's mode, or a cancel of every session with unfinished runs."""
        try:
            match action:
                case "pause" | "resume":
                    await self._mode("paused" if action == "pause" else "running", by, reason)
                    ask.done("*", 0, self.server_state())
                case "cancel":
                    self._cancel_all(by, ask)
                case _:
                    raise InvalidPayload(
                        f"{action or 'goal'} does not go to all sessions", path="$.session",
                        hint="`*` takes pause, resume, cancel and state.",
                    )  # fmt: skip
        except AgentdError as error:
            ask.refused("*", 0, error)
        except TimeoutError:
            ask.refused("*", 0, Timeout("the server's log did not answer", hint="Look at the server's disk."))

    async def _mode(self, mode: f.Mode, by: f.By, reason: str | None) -> None:
        """Permits are held back first, then the fact, then the reply (rulings 49)."""
        load, dispatcher = self.shared.load, self.shared.dispatcher
        if self.server.state.mode == mode:
            return
        before = load.server_paused
        if mode == "paused":
            load.server_paused = True
            dispatcher.hold(True)
        try:
            await self.server.record(f.ServerMode, by, mode=mode, reason=reason)
        except BaseException:
            self._mode_is(before)  # what looked for work meanwhile was held back, and has to look again
            raise
        self._mode_is(mode == "paused")

    def _mode_is(self, paused: bool) -> None:
        self.shared.load.server_paused = paused
        self.shared.dispatcher.hold(paused or self.draining_ms is not None)  # nothing begins while it shuts down
        for seat in self.directory:
            seat.mode_changed()

    def _cancel_all(self, by: f.By, ask: Ask) -> None:
        seats = [seat for seat in self.directory if seat.unfinished and seat.broken is None]

        def summed(replies: list[Reply | Signal]) -> None:
            done = [reply for reply in replies if isinstance(reply, ControlDone)]
            reply = ControlDone(
                session=SERVER,
                ts=self.clock.now_ms(),
                action="cancel",
                queued_cancelled=sum(one.queued_cancelled or 0 for one in done),
                active_cancelled=sum(one.active_cancelled or 0 for one in done),
                still_running=sum(one.still_running or 0 for one in done),
                sessions=len(done),
            )
            ask.done("*", 0, reply)

        total = Sum(len(seats), summed)
        for seat in seats:
            try:
                seat.tell(i.Cancel(by=by), "control", total)
            except AgentdError as error:
                total.refused(seat.key, 0, error)

    def server_state(self) -> AgentState:
        """The whole server's load: `state` of `*`."""
        load = self.shared.load
        empty = session_figures(Session(key=SERVER, agent="", owner=""), self.shared.caps, load.retry_after_ms())
        total = {"total": 0, "pending": 0, "accepted": 0, "queued": 0, "active": 0, "settled": 0, "dropped": 0}
        for seat in self.directory:
            one = seat.beat()[1]
            for name in total:
                total[name] += getattr(one, name)
        figures = f.Backpressure(
            scope="server", **total, dropped_ids=(), limit=limits(self.shared.caps), saturated_since=None,
            retry_after_ms=empty.retry_after_ms,
        )  # fmt: skip
        paused: tuple[Literal["session", "server"], ...] | None = ("server",) if load.server_paused else None
        return AgentState(
            session=SERVER, ts=self.clock.now_ms(), mode="paused" if load.server_paused else "running",
            paused_by=paused, runs=(), last_goal=None, backpressure=figures,
            loop_lag_ms=round(self.shared.loop_lag_s() * 1000, 1), runs_unfinished=load.unfinished,
        )  # fmt: skip

    def overloaded(self, cap: str, used: int, limit: int, message: str) -> Overloaded:
        """A refusal for load, counted, with the figures of the whole server."""
        self.shared.load.refuse(cap)
        wait = self.shared.load.retry_after_ms()
        return Overloaded(
            message,
            retry_after_ms=wait,
            details={"cap": cap, "used": used, "limit": limit, "backpressure": self.server_figures(wait)},
            hint="Come again after retry_after_ms.",
        )

    def server_figures(self, retry_after_ms: int) -> f.Backpressure:
        """Cheap figures for refusals: what is queued and active in the whole server."""
        dispatcher = self.shared.dispatcher
        queued, active = dispatcher.queued, dispatcher.workers.in_use
        return f.Backpressure(
            scope="server", total=queued + active, pending=0, accepted=queued + active, queued=queued, active=active,
            settled=0, dropped=0, dropped_ids=(), limit=limits(self.shared.caps), saturated_since=None,
            retry_after_ms=retry_after_ms,
        )  # fmt: skip

    # ---- deadlines ------------------------------------------------------------------------------------------

    def watch(self, ask: Ask) -> None:
        """Every request has a deadline; one queue for all, because all have the same."""
        ask.deadline_s = self.clock.monotonic_s() + REQUEST_S
        self._watched.append(ask)

    async def time_out(self) -> None:
        """For ever: answer what passed its deadline with `timeout`."""
        while True:
            await self.clock.sleep(LATE_EVERY_S)
            now = self.clock.monotonic_s()
            while self._watched and (self._watched[0].deadline_s <= now or not self._watched[0].open):
                ask = self._watched.popleft()
                if ask.open:
                    ask.refused(
                        "", 0, Timeout(f"no answer within {REQUEST_S:.0f} s", hint="It may still have counted.")
                    )
