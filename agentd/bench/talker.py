"""Who asks and who listens during a load: one talker for each session, followers beside it, one book for all of them.

A talker never waits for an answer before it asks again; what it asked is found again by request, then by run. The book
says when each request should have been sent, and that is where every latency begins.
"""

from collections import deque
from typing import Any

import msgspec

from agentd.bench.checker import Request, StreamChecker
from agentd.bench.client import Listener, Socket
from agentd.bench.frames import ENDS, Frame
from agentd.bench.load import BIN_S, Ask, Bin, Recorders, Tally
from agentd.bench.schedule import Segment


class Asked(msgspec.Struct, gc=False):
    """A request on its way: when it should have gone, and in which segment it counts."""

    intended_s: float
    segment: int
    content: str
    first: bool = False
    """Its first delta has come."""


class Book:
    """The figures of one process: by segment, and over time since `start_s`."""

    def __init__(self, segments: list[Segment]) -> None:
        self.start_s = 0.0
        self.tallies = [Tally() for _ in segments]
        self.recorders = [Recorders() for _ in segments]
        self.bins: list[Bin] = []
        self.intended: dict[str, float] = {}
        """By content: for followers, who see no request."""
        self.accepted = 0
        self.ended = 0
        self.open = 0
        self._numbers = 0

    def next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def asked(self, asked: Asked, now_s: float) -> None:
        self.tallies[asked.segment].offered += 1
        self.recorders[asked.segment].late.add(now_s - asked.intended_s)
        self.open += 1

    def took(self, asked: Asked, now_s: float, *, counted: bool) -> None:
        self.accepted += 1
        self.tallies[asked.segment].accepted += 1
        if counted:
            self.recorders[asked.segment].accept.add(now_s - asked.intended_s)

    def spoke(self, asked: Asked, now_s: float) -> None:
        asked.first = True
        self.recorders[asked.segment].first.add(now_s - asked.intended_s)

    def shed(self, asked: Asked, now_s: float, cap: str) -> None:
        tally = self.tallies[asked.segment]
        tally.shed += 1
        tally.refused[cap] = tally.refused.get(cap, 0) + 1
        self.open -= 1
        self._bin(now_s).shed += 1

    def ends(self, asked: Asked, now_s: float, how: str, *, counted: bool) -> None:
        tally = self.tallies[asked.segment]
        setattr(tally, how, getattr(tally, how) + 1)
        self.ended += 1
        self.open -= 1
        self._bin(now_s).ended += 1
        if how == "completed" and counted:
            self._timed(asked.segment, asked.intended_s, now_s)

    def followed(self, segment: int, intended_s: float, now_s: float) -> None:
        """A follower saw the end of a turn: another delivery of the same unit."""
        self._timed(segment, intended_s, now_s)

    def _timed(self, segment: int, intended_s: float, now_s: float) -> None:
        took_s = now_s - intended_s
        self.recorders[segment].latency.add(took_s)
        into = self._bin(intended_s)
        into.asked += 1
        into.latency_sum_s += took_s
        into.latency_max_s = max(into.latency_max_s, took_s)

    def _bin(self, at_s: float) -> Bin:
        place = max(int((at_s - self.start_s) / BIN_S), 0)
        while len(self.bins) <= place:
            self.bins.append(Bin())
        return self.bins[place]


class Watcher(Listener):
    """A socket whose stream is checked."""

    def __init__(self, checker: StreamChecker) -> None:
        self.checker = checker
        self.socket: Socket

    def heard(self, frame: Frame, now_s: float, data: bytes) -> None:
        self.checker.feed(frame)

    def unreadable(self, what: str) -> None:
        self.checker.unreadable(what)

    def lost(self, why: str) -> None:
        self.checker.lost(why)


class Talker(Watcher):
    """Asks in one session. `again` is called after each end, for closed loops; a `slow` one is in no latency."""

    def __init__(self, book: Book, ask: Ask, checker: StreamChecker, *, slow: bool = False) -> None:
        super().__init__(checker)
        self.slow = slow
        self.again: Any = None
        self._book = book
        self._ask = ask
        self._waiting: dict[str, Asked] = {}
        self._runs: dict[str, Asked] = {}

    def ask(self, intended_s: float, now_s: float, segment: int) -> None:
        number = self._book.next_number()
        asked = Asked(intended_s, segment, self._ask.content.format(n=number))
        request = str(number)
        self._waiting[request] = asked
        self._book.intended[asked.content] = intended_s
        self.checker.sent(request, Request(asked.content, self._ask.words))
        self._book.asked(asked, now_s)
        self.socket.send({"type": "chat.send", "id": request, "content": asked.content})

    def heard(self, frame: Frame, now_s: float, data: bytes) -> None:
        self.checker.feed(frame)
        if frame.request is not None:
            self._answered(frame, now_s, frame.request)
        elif frame.run is None:
            return
        elif frame.type == "session.delta":
            asked = self._runs.get(frame.run)
            if asked is not None and not asked.first and not self.slow:
                self._book.spoke(asked, now_s)
        elif frame.type in ENDS:
            self._ended(frame, now_s, frame.run)

    def _answered(self, frame: Frame, now_s: float, request: str) -> None:
        asked = self._waiting.pop(request, None)
        if asked is None:
            return
        if frame.type == "run.accepted" and frame.run is not None:
            self._runs[frame.run] = asked
            self._book.took(asked, now_s, counted=not self.slow)
            return
        self._book.intended.pop(asked.content, None)
        cap = frame.details.cap if frame.details is not None and frame.details.cap else frame.code
        self._book.shed(asked, now_s, cap or "?")
        self._go_on(now_s)

    def _ended(self, frame: Frame, now_s: float, run: str) -> None:
        asked = self._runs.pop(run, None)
        if asked is None:
            return
        self._book.intended.pop(asked.content, None)
        self._book.ends(asked, now_s, frame.type.removeprefix("run."), counted=not self.slow)
        self._go_on(now_s)

    def _go_on(self, now_s: float) -> None:
        if self.again is not None:
            self.again(self, now_s)


class Follower(Watcher):
    """Sees a session in which another socket asks. `at` is told of the end of each turn."""

    def __init__(self, book: Book, checker: StreamChecker) -> None:
        super().__init__(checker)
        self._book = book
        self._runs: dict[str, float] = {}
        self.segment = 0

    def heard(self, frame: Frame, now_s: float, data: bytes) -> None:
        self.checker.feed(frame)
        if frame.run is None or not frame.is_fact:
            return
        if frame.type == "run.accepted":
            intended_s = self._book.intended.get(frame.content or "")
            if intended_s is not None:
                self._runs[frame.run] = intended_s
        elif frame.type in ENDS and frame.run in self._runs:
            self._book.followed(self.segment, self._runs.pop(frame.run), now_s)


class FloorTalker(Listener):
    """Asks the floor server, whose answers come in the order of the requests."""

    def __init__(self, book: Book, ask: Ask) -> None:
        self.again: Any = None
        self.socket: Socket
        self.slow = False
        self._book = book
        self._ask = ask
        self._waiting: deque[Asked] = deque()
        self._running: deque[Asked] = deque()

    def ask(self, intended_s: float, now_s: float, segment: int) -> None:
        asked = Asked(intended_s, segment, self._ask.content.format(n=self._book.next_number()))
        self._waiting.append(asked)
        self._book.asked(asked, now_s)
        self.socket.send({"type": "chat.send", "id": "1", "content": asked.content})

    def heard(self, frame: Frame, now_s: float, data: bytes) -> None:
        if frame.type == "run.accepted":
            asked = self._waiting.popleft()
            self._running.append(asked)
            self._book.took(asked, now_s, counted=True)
        elif frame.type == "session.delta":
            if not self._running[0].first:
                self._book.spoke(self._running[0], now_s)
        elif frame.type == "run.completed":
            self._book.ends(self._running.popleft(), now_s, "completed", counted=True)
            if self.again is not None:
                self.again(self, now_s)
