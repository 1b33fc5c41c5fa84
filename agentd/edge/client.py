"""What stands behind an open socket: who it is, which session it follows, and what becomes of each of its frames.

Frames are taken in the socket's own callback. Commands go into the session's mailbox in the order they came; questions
are answered at once from the published state, or by a read that waits for no command. A command for another session
that has to be brought in first holds back the commands behind it, so that order stays.
"""

from collections.abc import Callable

import structlog

from agentd.actors.feed import Follower
from agentd.actors.seat import Seat
from agentd.actors.server import ServerActor
from agentd.actors.sink import Sink
from agentd.clock import Timer
from agentd.core.server import KEY as SERVER
from agentd.edge import acts, questions, requests
from agentd.edge.ask import Ask
from agentd.edge.auth import ConnectRequest, check_session
from agentd.edge.door import Socket
from agentd.edge.greeting import greet
from agentd.edge.reception import Reception
from agentd.edge.refusal import CREDENTIALS_CAP
from agentd.edge.tokens import Principal
from agentd.protocol import commands as c
from agentd.protocol.codec import BadFrame, decode_command, encode
from agentd.protocol.errors import (
    AgentdError,
    Conflict,
    Draining,
    Forbidden,
    Internal,
    InvalidFrame,
    NotFound,
    Overloaded,
    Timeout,
    Unauthorized,
)
from agentd.protocol.facts import By
from agentd.protocol.replies import Pong, SessionResumed

FIRST_FRAME_S = 10.0
FIRST_FRAME_BYTES = 64 * 1024

log = structlog.get_logger(__name__)


class Client:
    """A `Peer`: one socket of one principal on one session."""

    def __init__(self, reception: Reception, socket: Socket, request: ConnectRequest, session: str) -> None:
        self.reception = reception
        self.socket = socket
        self.session = session
        self.follower: Follower | None = None
        self.principal: Principal | None = request.principal
        self.seat: Seat | None = None
        self._request = request
        self._asks: set[Ask] = set()
        self._later: list[Callable[[], None]] = []
        self._busy = False
        self._gone = False
        self._counted = False
        self._first_timer: Timer | None = None
        if self.principal is None:
            socket.frame_bytes_max = min(FIRST_FRAME_BYTES, reception.settings.limits.frame_bytes)
            self._first_timer = reception.clock.call_later(FIRST_FRAME_S, self._no_first_frame)

    # ---- the socket's side ------------------------------------------------------------------------------------------

    def received(self, text: bytes) -> None:
        if self._busy:
            if len(self._later) >= self.reception.settings.limits.requests_per_socket:
                self._refuse_for_load(_id_of(text))
                return
            self._later.append(lambda: self._take(text))
        else:
            self._take(text)

    def received_binary(self) -> None:
        self._send_error(InvalidFrame("binary frames are not understood", hint="Send JSON in text frames."), None)

    def closed(self) -> None:
        self._gone = True
        if self._first_timer is not None:
            self._first_timer.cancel()
        if self.follower is not None:
            self.follower.feed.remove(self.follower)
        for ask in self._asks:
            ask.open = False
        self._asks.clear()
        self._later.clear()
        if self._counted:
            self.reception.left(self.session)

    # ---- an answer's side -------------------------------------------------------------------------------------------

    def answered(self, ask: Ask) -> None:
        self._asks.discard(ask)

    def counted(self, error: AgentdError) -> None:
        """An error frame is on its way to this client."""
        self.reception.shared.metrics.errors.labels(error.code).inc()

    @property
    def sink(self) -> Sink:
        return self.socket

    def now_ms(self) -> int:
        return self.reception.clock.now_ms()

    def answer_repeated(self, ask: Ask, session: str, run: str) -> None:
        self.reception.supervisor.start("repeated", questions.repeated(self.reception, ask, session, run))

    def fault(self, frame: c.AnyCommand) -> Internal:
        """Our fault: an id that stands in the log, nothing else."""
        fault = self.reception.clock.new_id("fault")
        log.exception("frame.failed", fault=fault, type=type(frame).__name__, session=self.session)
        return Internal(fault)

    # ---- greeting ------------------------------------------------------------------------------------------

    def enter(self, actor: Seat | ServerActor, request: str | None, ask: ConnectRequest) -> None:
        """The credential is good and the session is there: greet, then follow."""
        if self._first_timer is not None:
            self._first_timer.cancel()
            self._first_timer = None
        self.socket.frame_bytes_max = self.reception.settings.limits.frame_bytes
        if isinstance(actor, Seat):
            self.seat = actor
        assert self.principal is not None
        first = actor.first if isinstance(actor, Seat) else 1
        after, reset = self.reception.placed(ask.after, ask.log, actor.feed.seq, first)
        self.follower = actor.feed.add(self.socket, after)
        self.reception.came(self.session)
        self._counted = True
        self.follower.operator = "operator" in self.principal.scopes
        self.follower.principal = self.principal.name
        for frame in greet(actor, self.principal, ask.agent, request, first, reset):
            self.socket.send(frame)
        self.follower.follow()

    # ---- frames -----------------------------------------------------------------------------------------------------

    def _take(self, text: bytes) -> None:
        try:
            frame = decode_command(text)
        except BadFrame as bad:
            self._send_error(bad.error, bad.request)
            return
        try:
            self._route(frame)
        except AgentdError as error:
            self._send_error(error, frame.id)
            if isinstance(error, Overloaded):
                self.socket.pause_reading(self.reception.calm_s())
        except Exception:
            self._send_error(self.fault(frame), frame.id)

    def _route(self, frame: c.AnyCommand) -> None:
        if isinstance(frame, c.Connect):
            self._connect(frame)
            return
        if self.principal is None or self.follower is None:
            error = Unauthorized("the first frame has to be `connect`", hint='Send {"type": "connect", "token": ...}.')
            self._part(error, frame.id)
            return
        if isinstance(frame, c.Ping):
            self.socket.send(encode(Pong(session=self.session, ts=self.now_ms(), request=frame.id)))
            return
        target = self._target(frame)
        if len(self._asks) >= self.reception.settings.limits.requests_per_socket:
            self._refuse_for_load(frame.id)
            return
        match frame:
            case c.SessionResume():
                self._resume(frame, target)
            case c.SessionBranch() | c.MemoryForget():
                self._act(frame, target)
            case c.ChatSend() | c.AgentControl() | c.SessionNew() | c.SessionSetLeaf():
                self._command(frame, target)
            case c.MemoryLoad() | c.MemoryUpdate() | c.MemoryEvict() | c.MemorySummarize():
                self._command(frame, target)
            case _:
                self._question(frame, target)

    def _connect(self, frame: c.Connect) -> None:
        if self.principal is not None:
            raise Conflict("this socket is connected", details={"reason": "connected"})
        request = self._request
        try:
            self.principal = self.reception.auth.authenticate(frame.token, request.address, request.origin)
        except AgentdError as error:
            self._part(error, frame.id)
            return
        if frame.session is not None:
            self.session = check_session(frame.session)
        ask = ConnectRequest(
            agent=request.agent, session=self.session, after=frame.after if frame.after is not None else request.after,
            log=frame.log or request.log, principal=self.principal, address=request.address, origin=request.origin,
        )  # fmt: skip
        self._hold(lambda: self._enter_later(frame.id, ask))

    async def _enter_later(self, request: str | None, ask: ConnectRequest) -> None:
        try:
            actor = await self.reception.find(self.session, ask)
        except AgentdError as error:
            self._part(error, request)
            return
        except TimeoutError:
            self._part(Timeout("the session could not be read in time"), request)
            return
        if not self._gone:
            self.enter(self.reception.present(actor), request, ask)

    def _target(self, frame: c.Request) -> str:
        """Which session the frame is for; another one than the socket's needs `operator` (protocol.md, 2)."""
        target = frame.session or self.session
        if target == self.session and target != SERVER:
            return target
        self._need("operator", target)
        return target

    def _need(self, scope: str, target: str) -> None:
        assert self.principal is not None
        if scope not in self.principal.scopes:
            raise Forbidden(
                f"{target} needs the scope {scope}", details={"required": scope},
                hint="Ask an operator, or connect with a token that has the scope.",
            )  # fmt: skip

    def _resume(self, frame: c.SessionResume, target: str) -> None:
        """The cursor moves; the facts after it follow the answer."""
        follower = self.follower
        assert follower is not None
        if target != self.session:
            raise NotFound(
                "a socket follows one session", kind="session", hint="Open another socket to follow that session."
            )
        first = self.seat.first if self.seat is not None else 1
        after, reset = self.reception.placed(frame.after, frame.log, follower.feed.seq, first)
        reply = SessionResumed(
            session=target, ts=self.now_ms(), request=frame.id, from_=after, to=follower.feed.seq, reset=reset
        )
        self.socket.send(encode(reply))
        follower.move(after)

    def _question(self, frame: c.AnyCommand, target: str) -> None:
        ask = self._ask(frame.id)
        self.reception.supervisor.start("question", questions.answer(self.reception, self, ask, frame, target))

    def _act(self, frame: c.SessionBranch | c.MemoryForget, target: str) -> None:
        """What concerns more than one session; later frames of this socket wait for it."""
        if target == "*" or target.startswith("_"):
            raise Forbidden(f"nobody may write to {target}", details={"required": "none"})
        assert self.principal is not None
        by = By(principal=self.principal.name, via="ws")
        asked = self._ask(frame.id)
        self._hold(lambda: acts.act(self.reception, self, asked, frame, target, by))

    def _command(self, frame: requests.Acting, target: str) -> None:
        if isinstance(frame, c.AgentControl) and frame.action in ("state", "status", "heartbeat"):
            if target == self.session and self.seat is not None and questions.known_now(self.seat, frame):
                self._ask(frame.id).done(target, 0, questions.now(self.seat, frame, self.operator()))
            else:
                self._question(frame, target)
            return
        if target == "*":
            self._for_all(frame)
            return
        if target.startswith("_"):
            raise Forbidden(f"nobody may write to {target}", details={"required": "none"})
        assert self.principal is not None
        if self.seat is not None and target == self.session and requests.starts(frame):
            self.reception.check_load(self.seat)
        by = By(principal=self.principal.name, via="ws")
        asked = self._asked(frame, by)
        self._need(asked.scope, f"agent.control {getattr(frame, 'action', '')}".strip())
        if self.seat is not None and target == self.session:
            self.reception.tell(self.seat, asked, self._ask(frame.id, waits=asked.waits))
        else:
            ask = self._ask(frame.id, waits=asked.waits)
            self._hold(lambda: self._tell_later(ask, asked, target))

    def _asked(self, frame: requests.Acting, by: By) -> requests.Asked:
        shared, settings = self.reception.shared, self.reception.settings
        run = self.reception.clock.new_id("run")
        border = requests.Border(by, run, settings.limits.chat_bytes, settings.admission.overflow, shared.known_secrets)
        return requests.asked(frame, border)

    async def _tell_later(self, ask: Ask, asked: requests.Asked, target: str) -> None:
        try:
            actor = await self.reception.existing(target)
            self.reception.tell(actor, asked, ask)
        except AgentdError as error:
            ask.open = False  # `tell` has closed it, a session that is not there has not: here is the answer to both
            self.answered(ask)
            self._send_error(error, ask.request)
        except TimeoutError:
            ask.refused(self.session, 0, Timeout("the session could not be read in time"))

    def _for_all(self, frame: requests.Acting) -> None:
        assert self.principal is not None
        action = frame.action if isinstance(frame, c.AgentControl) else None
        by = By(principal=self.principal.name, via="ws")
        ask, reason = self._ask(frame.id), getattr(frame, "reason", None)
        self._hold(lambda: self.reception.for_all(action, by, reason, ask))

    # ---- small print ----------------------------------------------------------------------------------------------

    def operator(self) -> bool:
        return self.principal is not None and "operator" in self.principal.scopes

    def _ask(self, request: str | None, *, waits: bool = False) -> Ask:
        ask = Ask(self, request, waits=waits)
        if not waits:
            self._asks.add(ask)
            self.reception.watch(ask)
        return ask

    def _hold(self, work: "Callable[[], questions.Work]") -> None:
        """Run `work()` before any later frame of this socket is looked at."""
        self._busy = True
        self.reception.supervisor.start("held", self._held(work))

    async def _held(self, work: "Callable[[], questions.Work]") -> None:
        try:
            await work()
        finally:
            self._busy = False
            while self._later and not self._busy:
                self._later.pop(0)()

    def _refuse_for_load(self, request: str | None) -> None:
        limit = self.reception.settings.limits.requests_per_socket
        error = self.reception.overloaded("mailbox", limit, limit, "too many requests of this socket are unanswered")
        self._send_error(error, request)
        self.socket.pause_reading(self.reception.calm_s())

    def _send_error(self, error: AgentdError, request: str | None) -> None:
        self.counted(error)
        self.socket.send(encode(error.frame(session=self.session, ts=self.now_ms(), request=request)))

    def _part(self, error: AgentdError, request: str | None) -> None:
        """An error after which this socket has nothing to say."""
        self.counted(error)
        frame = encode(error.frame(session=self.session, ts=self.now_ms(), request=request))
        self.socket.close(close_code(error), error.code, last=frame)

    def _no_first_frame(self) -> None:
        error = Unauthorized(f"no `connect` within {FIRST_FRAME_S:.0f} s", hint="Send the token first.")
        self._part(error, None)


def close_code(error: AgentdError) -> int:
    """How a socket ends that could not enter (protocol.md, 1): the server goes, has no room, or is at fault; else who
    connects has to change something."""
    if isinstance(error, Draining):
        return 1001
    if isinstance(error, Overloaded):
        return 1008 if (error.details or {}).get("cap") == CREDENTIALS_CAP else 1013
    return 1011 if error.http_status >= 500 else 1008


def _id_of(text: bytes) -> str | None:
    """The request's own id, so that its refusal is known as its answer."""
    try:
        return decode_command(text).id
    except BadFrame as bad:
        return bad.request
