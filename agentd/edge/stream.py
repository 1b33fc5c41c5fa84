"""The transport side of a socket: what waits goes out once a turn, reading stops and goes on, the connection ends.

It knows bytes and a transport, no frames. What always holds: the outbox counts what the kernel has not taken;
`resume_writing` only makes an appointment, so nothing is closed inside it; reading is stopped for as long as there is
a reason and goes on when the last one is gone; an ending connection has a deadline, whoever is slow.
"""

import asyncio
import enum
import socket as sockets
from collections.abc import Callable
from typing import cast

from agentd.clock import Timer
from agentd.edge.hub import Hub
from agentd.edge.outbox import Outbox

NOTSENT_LOWAT_BYTES = 64 * 1024  # a peer that reads nothing swallows less before our outbox sees it
TLS_LINGER_S = 1.0  # TLS cannot close one direction; give a failed client so long to read why


class Stage(enum.Enum):
    ASKED = enum.auto()  # made, the request not yet replayed
    ADMITTING = enum.auto()
    OPEN = enum.auto()
    CLOSING = enum.auto()  # a close frame or a refusal is on its way; nothing more goes to or comes from the peer
    GONE = enum.auto()


class End(enum.Enum):
    """How the connection ends once the outbox is empty."""

    NOT_YET = enum.auto()
    CLOSE = enum.auto()  # both close frames are exchanged: the server closes first
    LINGER = enum.auto()  # we failed it: say so, end our direction, and let the client read it


class Due(enum.IntEnum):
    """Which flush is agreed."""

    NEVER = 0
    WINDOW = 1
    TURN = 2


class Stop(enum.IntEnum):
    """Why a socket is not read; the bits of `_stops`. No IntFlag: its operators cost a microsecond each."""

    FULL = 1  # its outbox
    DELAY = 2  # the peer asked for it
    EARLY = 4  # it sent enough before its upgrade was decided


OPEN, CLOSING, GONE = Stage.OPEN, Stage.CLOSING, Stage.GONE
NEVER, TURN = Due.NEVER, Due.TURN


class Stream(asyncio.Protocol):
    """A `Flushable`, and the half of a `Watched` that is about bytes."""

    __slots__ = (
        "__weakref__", "_blocked", "_deadline", "_due", "_end", "_hub", "_inside", "_outbox", "_pause", "_paused",
        "_stage", "_stops", "heard", "heard_s", "left", "moved_s", "on_drained", "pinged", "transport",
    )  # fmt: skip

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._outbox = Outbox(hub.limits.outbox_bytes, hub.limits.outbox_frames)
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._stage = Stage.ASKED
        self._end = End.NOT_YET
        self._deadline: Timer | None = None
        self._pause: Timer | None = None
        self._stops = 0
        self._paused = False  # the transport's reading; also for a moment without a reason, while held messages go
        self._blocked = False
        self._inside = False  # called from data_received, which flushes at its end
        self._due = NEVER
        self.on_drained: Callable[[], None] | None = None
        self.heard, self.pinged, self.left = True, False, 0
        self.heard_s = self.moved_s = hub.clock.monotonic_s()

    @property
    def full(self) -> bool:
        return self._outbox.full

    @property
    def outbox_bytes(self) -> int:
        return self._outbox.size

    @property
    def unread(self) -> bool:
        return self._stops != 0

    def backlog(self) -> int:
        return self.transport.get_write_buffer_size() if self._blocked else 0

    def pause_reading(self, delay_s: float) -> None:
        if self._stage is OPEN and not self._stops & Stop.DELAY:
            self._hub.figures.reading_pauses += 1
            self._stop_reading(Stop.DELAY)
            self._pause = self._hub.clock.call_later(delay_s, self._pause_over)

    def abort(self) -> None:
        """End the connection now; what waits is lost."""
        if self._stage is not GONE:
            self._stage = CLOSING
            self.transport.abort()

    def flush(self) -> None:
        """Write what waits, in batches, for as long as the kernel takes all of a batch."""
        self._due = NEVER
        if self._stage is GONE:
            return
        outbox = self._outbox
        if self.transport.is_closing():
            outbox.drop_waiting()
        while outbox.waiting and not self._blocked:
            self.transport.write(outbox.take())  # may call pause_writing, which blocks
            if not self._blocked:
                outbox.landed()
        if self._blocked:
            return
        if outbox.over:
            self._fell()
        if self._end is not End.NOT_YET and not outbox.waiting:
            self._finish()

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self.heard, self.left = True, 0  # the client's kernel made room: somebody reads
        self._outbox.landed()
        self._flush_at_turn_end()

    def _configure(self) -> None:
        """Learn at once when the kernel takes no more, and let it take little."""
        self.transport.set_write_buffer_limits(high=1, low=0)  # high=0 would never resume under TLS
        raw = self.transport.get_extra_info("socket")
        if raw is None:
            return
        # asyncio sets it only on sockets made with proto=IPPROTO_TCP; without it a lone turn waits 40 ms for an ACK.
        raw.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
        if hasattr(sockets, "TCP_NOTSENT_LOWAT"):
            raw.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT_BYTES)

    def _put(self, data: bytes) -> None:
        self._outbox.put(data)
        if self._outbox.over and not self._stops & Stop.FULL and self._stage is OPEN:
            self._stop_reading(Stop.FULL)

    def _flush_at_turn_end(self) -> None:
        if self._due is not TURN:
            self._due = TURN
            if not self._inside:
                self._hub.flusher.at_turn_end(self)

    def _flush_at_window_end(self) -> None:
        if self._due is NEVER:
            self._due = Due.WINDOW
            self._hub.flusher.at_window_end(self)

    def _fell(self) -> None:
        if self._outbox.fell():
            self._read_again(Stop.FULL)
            if self.on_drained is not None:
                self._guard(self.on_drained)

    def _stop_reading(self, why: Stop) -> None:
        self._stops |= why
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def _read_again(self, why: int) -> None:
        """Take reasons away; without any left, first what was held, then the wire."""
        if not self._stops & why:
            return
        self._stops &= ~why
        if not self._stops:
            self._release()
        if not self._stops and self._paused and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    def _pause_over(self) -> None:
        self._pause = None
        if self._stage is not GONE:
            self._read_again(Stop.DELAY)

    def _limit_closing(self) -> None:
        if self._deadline is None:
            self._deadline = self._hub.clock.call_later(self._hub.limits.close_s, self.abort)

    def _finish(self) -> None:
        """All is written: close, or end our direction and let the client read it."""
        if self._end is End.CLOSE:
            self.transport.close()
        elif self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            if self._pause is not None:
                self._pause.cancel()
            self._pause = self._hub.clock.call_later(TLS_LINGER_S, self.transport.close)
        self._end = End.LINGER  # what still comes is not looked at

    def _end_stream(self) -> None:
        """The connection is lost: nothing of it may keep anything alive."""
        self._stage = GONE
        for timer in (self._deadline, self._pause):
            if timer is not None:
                timer.cancel()
        self._deadline = self._pause = self.on_drained = None
        self._outbox.drop_waiting()
        self._hub.left.set()

    def _release(self) -> None:
        """Reading is about to go on; may stop it again."""
        raise NotImplementedError

    def _guard(self, call: Callable[[], None]) -> None:
        """Call what is not ours; never raises."""
        raise NotImplementedError
