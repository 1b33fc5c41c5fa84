"""One request of one socket on its way: it is answered exactly once, in its place among the facts (protocol.md, 2)."""

from collections.abc import Callable
from typing import Protocol

from msgspec.structs import replace

from agentd.actors.feed import Follower
from agentd.actors.seat import Seat
from agentd.actors.sink import Sink
from agentd.edge.tokens import Principal
from agentd.protocol.codec import encode, with_request
from agentd.protocol.commands import AnyCommand
from agentd.protocol.errors import AgentdError, Internal
from agentd.protocol.replies import Reply
from agentd.protocol.signals import Signal


class Asker(Protocol):
    """The client behind a request, as its answer needs it."""

    session: str
    follower: Follower | None

    @property
    def sink(self) -> Sink: ...

    def answered(self, ask: "Ask") -> None: ...

    def counted(self, error: AgentdError) -> None: ...

    def now_ms(self) -> int: ...

    def answer_repeated(self, ask: "Ask", session: str, run: str) -> None: ...


class Reader(Protocol):
    """Who reads: on which session it stands, and whether it may see all others."""

    @property
    def session(self) -> str: ...

    @property
    def seat(self) -> Seat | None: ...

    def operator(self) -> bool: ...


class Viewer(Asker, Protocol):
    """The client behind a question: what it may see."""

    principal: Principal | None
    seat: Seat | None

    def operator(self) -> bool: ...

    def fault(self, frame: AnyCommand) -> Internal: ...


class Ask:
    """A `Caller` for one frame of one socket."""

    def __init__(self, client: Asker, request: str | None, *, waits: bool = False) -> None:
        self.client = client
        self.request = request
        self.waits = waits
        self.open = True
        self.deadline_s = 0.0

    def is_fact(self, session: str, seq: int, body: bytes) -> None:
        """The fact itself is the reply; a socket that does not follow that session gets it sent apart."""
        if not self._close():
            return
        follower = self.client.follower
        if follower is None or session != self.client.session:
            self.client.sink.send(with_request(body, self.request))
        else:
            follower.answer_with(seq, self.request)

    def done(self, session: str, seq: int, reply: Reply | Signal) -> None:
        if self._close():
            self._send(session, seq, encode(replace(reply, request=self.request)))

    def refused(self, session: str, seq: int, error: AgentdError) -> None:
        if self._close():
            self.client.counted(error)
            frame = error.frame(session=session, ts=self.client.now_ms(), request=self.request)
            self._send(session, seq, encode(frame))

    def repeated(self, session: str, run: str) -> None:
        self.client.answer_repeated(self, session, run)

    def part(self, reply: Reply) -> None:
        """One of several frames of a reply; `done` sends the last."""
        if self.open:
            self.client.sink.send(encode(replace(reply, request=self.request)))

    def _send(self, session: str, seq: int, frame: bytes) -> None:
        follower = self.client.follower
        if follower is None or session != self.client.session:
            self.client.sink.send(frame)
        else:
            follower.reply(seq, frame)

    def _close(self) -> bool:
        if not self.open:
            return False
        self.open = False
        self.client.answered(self)
        return True


class Sum:
    """A caller that stands for many: collects the replies of each session and answers once."""

    def __init__(self, expected: int, answer: Callable[[list[Reply | Signal]], None]) -> None:
        self.waits = False
        self._left = expected
        self._replies: list[Reply | Signal] = []
        self._answer = answer
        if not expected:
            answer([])

    def is_fact(self, session: str, seq: int, body: bytes) -> None:
        self._one()

    def done(self, session: str, seq: int, reply: Reply | Signal) -> None:
        self._replies.append(reply)
        self._one()

    def refused(self, session: str, seq: int, error: AgentdError) -> None:
        self._one()

    def repeated(self, session: str, run: str) -> None:
        self._one()

    def _one(self) -> None:
        self._left -= 1
        if not self._left:
            self._answer(self._replies)
