"""A simulated WebSocket: a bounded outbox in front of a reader with a pace of its own; it may stall, and be cut off.

Every frame is checked as it is handed over, before anybody reads it: facts are on the disk, come in order, once, and
as they are stored. What the reader has not read when the connection ends is lost, as in a kernel's buffer.
"""

import random
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from agentd.edge.door import Peer
from agentd.protocol import facts as f
from agentd.protocol.codec import with_request
from tests.simulation.invariants import Ledger
from tests.simulation.loop import SimLoop

FACTS = {str(kind.__struct_config__.tag) for kind in f.AnyFact.__args__}
NO_FACTS = {"session.ack", "stream.lagged", "session.resumed"}


class Frame(msgspec.Struct, omit_defaults=True):
    """What a client reads of any frame."""

    type: str
    session: str | None = None
    seq: int | None = None
    request: str | None = None
    run: str | None = None
    code: str | None = None
    message: Any = None
    offset: int | None = None
    text: str | None = None
    from_: int | None = msgspec.field(default=None, name="from")
    to: int | None = None
    log: str | None = None
    kind: str | None = None
    key: str | None = None
    task: str | None = None
    status: str | None = None
    gate: str | None = None
    gates: Any = None
    questions: Any = None
    tasks: Any = None
    entry: str | None = None
    leaf: str | None = None
    state: str | None = None
    repeated: bool = False


decode = msgspec.json.Decoder(Frame).decode


class Reader(Protocol):
    name: str
    pace_s: float
    stalled_until: float

    def hear(self, frame: Frame, raw: bytes) -> None: ...

    def lost(self, socket: "SimSocket") -> None: ...


class SimSocket:
    """One connection; the product sees a `Socket`."""

    def __init__(
        self, loop: SimLoop, chance: random.Random, reader: Reader, session: str, after: int | None, ledger: Ledger,
        breach: Callable[[str, str], None], frames_max: int,
    ) -> None:  # fmt: skip
        self.on_drained: Callable[[], None] | None = None
        self.frame_bytes_max = 1 << 20
        self.peer: Peer | None = None
        self.reader = reader
        self.session = session
        self.after = after
        self.cut = False
        self.cursor: int | None = None
        self.reads_at = 0.0
        self._closing = False
        self._loop = loop
        self._chance = chance
        self._ledger = ledger
        self._breach = breach
        self._frames_max = frames_max
        self._outbox: deque[bytes] = deque()
        self._over = False
        self._draining = False
        self._offsets: dict[str, int] = {}

    # ---- the product's side -----------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        return len(self._outbox) >= self._frames_max

    @property
    def closed(self) -> bool:
        return self.cut or self._closing

    def send(self, frame: bytes, *, soon: bool = False) -> None:
        if self.closed:
            return
        self._check(decode(frame), frame)
        self._put(frame)

    def close(self, code: int, reason: str, *, last: bytes | None = None) -> None:
        if self.closed:
            return
        if last is not None:
            self._put(last)
        self._closing = True
        self._loop.call_soon(self.disconnect)

    def pause_reading(self, delay_s: float) -> None:
        self.reads_at = self._loop.time() + delay_s

    # ---- the network's side -----------------------------------------------------------------------------------------

    def receive(self, text: bytes) -> None:
        """A frame of the client arrives, once the server reads again."""
        if self.closed or self.peer is None:
            return
        wait_s = self.reads_at - self._loop.time()
        if wait_s > 0:
            self._loop.call_later(wait_s, self.receive, text)
        else:
            self.peer.received(text)

    def disconnect(self) -> None:
        """The connection is gone, for both sides."""
        if self.cut:
            return
        self.cut = True
        self._outbox.clear()
        if self.peer is not None:
            self.peer.closed()
        self.reader.lost(self)

    def die(self) -> None:
        """The server's process is gone: nobody there is told."""
        self.peer = None
        self.disconnect()

    def _put(self, frame: bytes) -> None:
        self._outbox.append(frame)
        self._over = self._over or self.full
        if not self._draining:
            self._draining = True
            self._next()

    def _next(self) -> None:
        wait_s = self.reader.pace_s * self._chance.random()
        self._loop.call_later(max(wait_s, self.reader.stalled_until - self._loop.time()), self._drain)

    def _drain(self) -> None:
        if self.cut:
            return
        for _ in range(self._chance.choice((1, 4, 16))):
            if self._outbox:
                frame = self._outbox.popleft()
                self.reader.hear(decode(frame), frame)
        self._draining = bool(self._outbox)
        if self._outbox:
            self._next()
        if self._over and len(self._outbox) * 2 < self._frames_max:
            self._over = False
            if self.on_drained is not None:
                self.on_drained()

    # ---- what always holds ------------------------------------------------------------------------------------------

    def _check(self, frame: Frame, raw: bytes) -> None:
        if frame.type == "session.ack":
            self.cursor = frame.seq if self.after is None or (self.after > (frame.seq or 0)) else self.after
            if self.after is not None and self.after > (frame.seq or 0):
                self._breach("acknowledged-lost", f"{self.reader.name} has {self.after}, the server {frame.seq}")
        elif frame.type == "session.resumed":
            self.cursor = frame.from_
        elif frame.type == "session.delta":
            self._delta(frame)
        elif frame.seq is not None and frame.type in FACTS and frame.type not in NO_FACTS and not frame.repeated:
            self._fact(frame, raw)

    def _fact(self, frame: Frame, raw: bytes) -> None:
        seq, book = frame.seq or 0, self._ledger.book(frame.session or "")
        where = f"{self.reader.name}: {frame.session} seq {seq}"
        if seq > len(book.bodies):
            self._breach("fan-out-before-commit", f"{where}, on the disk are {len(book.bodies)}")
            return
        if raw != with_request(book.bodies[seq - 1], frame.request) and not book.forgot:
            self._breach("fact-differs", f"{where} is not what is stored")
        if frame.session != self.session:
            return
        if self.cursor is None or seq <= self.cursor:
            self._breach("fact-doubled", f"{where} after {self.cursor}")
        elif seq > self.cursor + 1:
            self._breach("fact-missing", f"{where} after {self.cursor}")
        self.cursor = seq

    def _delta(self, frame: Frame) -> None:
        message, offset, text = str(frame.message), frame.offset or 0, frame.text or ""
        if offset and self._offsets.get(message) != offset:
            self._breach("delta-gap", f"{self.reader.name}: {message} at {offset}, not {self._offsets.get(message)}")
        self._offsets[message] = offset + len(text)
