"""One WebSocket: an `asyncio.Protocol` around the library's Sans-I/O `ServerProtocol`, without a task of its own.

uvicorn constructs it for an upgrade (`Config(ws=...)`), calls `connection_made`, replays the request through
`data_received`, and only then puts it behind the transport: nothing is written before the next loop turn. The door
decides in a task; what the client sends meanwhile is kept. From then on every message goes to the peer from
`data_received`, every frame to the outbox, and the outbox to the transport once a loop turn.

What always holds: the library sees all that the client sends and makes every pong and close frame; text frames and
pings are framed here (framing.py). An `error` frame that explains a failure stands right before the library's close
frame. While reading is stopped no message reaches the peer, so replies cannot outgrow the outbox by more than those
to one message. `resume_writing` only makes an appointment: nothing is closed inside it. At the end every reference
cycle is cut.
"""

import asyncio
import enum
import logging
import socket as sockets
from collections.abc import Callable
from typing import Any, cast

import msgspec
import structlog
from uvicorn.server import ServerState
from websockets.exceptions import PayloadTooBig
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol

from agentd.clock import Timer
from agentd.edge.door import Peer, Socket
from agentd.edge.framing import PING
from agentd.edge.handshake import read_request, read_upgrade_request
from agentd.edge.hub import Hub
from agentd.edge.outbox import Outbox
from agentd.edge.refusal import SocketsFull, refusal
from agentd.protocol.errors import AgentdError, Draining, Internal, InvalidFrame, Overloaded, Timeout, TooLarge

NOTSENT_LOWAT_BYTES = 64 * 1024  # a peer that reads nothing swallows less before our outbox sees it
REASON_BYTES_MAX = 123
TLS_LINGER_S = 1.0  # TLS cannot close one direction; give a failed client so long to read why
DRAINING_RETRY_MS = 2_000

TEXT, BINARY, CONT = Opcode.TEXT, Opcode.BINARY, Opcode.CONT

log = structlog.get_logger(__name__)
library_log = logging.getLogger("agentd.edge.websockets")
library_log.setLevel(logging.WARNING)  # the library tells every opening and closing at INFO


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


OPEN, CLOSING, GONE = Stage.OPEN, Stage.CLOSING, Stage.GONE
STOP_FULL, STOP_DELAY, STOP_EARLY = 1, 2, 4


class WebSocket(asyncio.Protocol):
    """A `Socket` for the peer, a `Watched` for the keepalive, a `Flushable` for the flusher."""

    __slots__ = (
        "__weakref__", "_admission", "_blocked", "_deadline", "_due", "_early", "_end", "_error", "_held", "_hub",
        "_inside", "_members", "_outbox", "_parts", "_pause", "_peer", "_protocol", "_stage", "_stops",
        "heard", "heard_s", "left", "moved_s", "on_drained", "pinged", "transport",
    )  # fmt: skip

    def __init__(self, hub: Hub, *, config: object, server_state: ServerState, app_state: object) -> None:
        limits = hub.limits
        self._hub = hub
        self._members = server_state.connections
        self._protocol = ServerProtocol(max_size=limits.frame_bytes, logger=library_log)
        self._outbox = Outbox(limits.outbox_bytes, limits.outbox_frames)
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._peer: Peer | None = None
        self._stage = Stage.ASKED
        self._end = End.NOT_YET
        self._early: bytes | None = None
        self._held: list[Frame] | None = None  # parsed while reading was stopped
        self._parts: list[bytes] | None = None  # fragments of the message in progress; of a binary one left empty
        self._error: AgentdError | None = None  # to be said right before the library's close frame
        self._admission: asyncio.Task[None] | None = None
        self._deadline: Timer | None = None
        self._pause: Timer | None = None
        self._stops = 0
        self._blocked = False
        self._inside = False  # the peer is being called from data_received, which flushes at its end
        self._due = 0  # 0: no flush agreed, 1: at the window's end, 2: at the turn's end
        self.on_drained: Callable[[], None] | None = None
        self.heard, self.pinged, self.left = True, False, 0
        self.heard_s = self.moved_s = hub.clock.monotonic_s()

    # --- what the peer uses (door.Socket)

    @property
    def frame_bytes_max(self) -> int:
        """Raised or lowered, it counts from the first frame that has not begun to arrive."""
        return self._protocol.max_message_size or 0

    @frame_bytes_max.setter
    def frame_bytes_max(self, limit: int) -> None:
        self._protocol.max_message_size = limit

    @property
    def full(self) -> bool:
        return self._outbox.full

    @property
    def closed(self) -> bool:
        return self._stage is CLOSING or self._stage is GONE

    def send(self, frame: bytes, *, soon: bool = False) -> None:
        if self._stage is not OPEN:
            return
        self._put(self._hub.frames.of(frame))
        if not soon:
            self._flush_at_turn_end()
        elif not self._due:
            self._due = 1
            self._hub.flusher.at_window_end(self)

    def close(self, code: int, reason: str, *, last: bytes | None = None) -> None:
        if self._stage is not OPEN:
            return
        if last is not None:
            self._put(self._hub.frames.of(last))
        if self._protocol.state is State.OPEN:  # else the client's close frame came in the segment being read
            self._protocol.send_close(code, reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore"))
        self._library_wrote(self._protocol.data_to_send())

    def pause_reading(self, delay_s: float) -> None:
        if self._stage is OPEN and not self._stops & STOP_DELAY:
            self._hub.figures.reading_pauses += 1
            self._stop_reading(STOP_DELAY)
            self._pause = self._hub.clock.call_later(delay_s, self._pause_over)

    # --- what the keepalive uses (keepalive.Watched)

    @property
    def unread(self) -> bool:
        return self._stops != 0

    def backlog(self) -> int:
        return self.transport.get_write_buffer_size() if self._blocked else 0

    def ping(self) -> None:
        if self._stage is OPEN:
            self._put(PING)
            self._flush_at_turn_end()

    def silent(self) -> None:
        """Nothing heard for `silent_s`: whoever is there does not listen, so nothing is said either."""
        if self._stage is OPEN:
            self._hub.figures.silent += 1
            self.abort()

    def stalled(self) -> None:
        if self._stage is not OPEN:
            return
        self._hub.figures.stalled += 1
        self._outbox.drop_waiting()
        error = Overloaded(
            "the client reads too slowly or not at all",
            hint="Connect again and resume after the last seq.",
            details={"cap": "outbox", "limit": self._hub.limits.outbox_bytes},
        )
        self.close(CloseCode.TRY_AGAIN_LATER, "nothing read", last=self._error_frame(error))

    # --- what the server uses

    def shutdown(self) -> None:
        """The server stops (uvicorn calls this on each of its connections)."""
        error = Draining("the server is shutting down", retry_after_ms=DRAINING_RETRY_MS)
        if self._stage is OPEN:
            self.close(CloseCode.GOING_AWAY, "draining", last=self._error_frame(error))
        elif self._stage is Stage.ADMITTING and self._admission is not None:
            self._admission.cancel()
            self._refuse(error)

    def abort(self) -> None:
        """End the connection now; what waits is lost."""
        if self._stage is not GONE:
            self._stage = CLOSING
            self.transport.abort()

    def flush(self) -> None:
        """Write what waits, in batches, for as long as the kernel takes all of a batch."""
        self._due = 0
        if self._stage is GONE:
            return
        outbox, transport = self._outbox, self.transport
        if transport.is_closing():
            outbox.drop_waiting()
        while outbox.waiting and not self._blocked:
            transport.write(outbox.take())  # may call pause_writing, which blocks
            if not self.backlog():
                outbox.landed()
        if self._blocked:
            return
        if outbox.over:
            self._drained()
        if self._end is not End.NOT_YET and not outbox.waiting:
            self._finish()

    # --- the transport's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._members.add(cast(Any, self))
        self._hub.sockets.add(self)

    def data_received(self, data: bytes) -> None:
        self.heard = True
        if self._stage is OPEN:
            self._read(data)
        elif self._stage is Stage.ASKED:
            self._stage = Stage.ADMITTING
            self._admission = self._hub.supervisor.start("edge.admit", self._admit(data))
        elif self._stage is Stage.ADMITTING:
            self._keep_early(data)
        elif self._stage is CLOSING and self._end is End.NOT_YET:
            self._protocol.receive_data(data)
            self._protocol.events_received()
            self._library_wrote(self._protocol.data_to_send())

    def eof_received(self) -> None:
        """The client ended its direction: without a close frame that ends the connection (returning None closes it).

        What it sent before still counts, and what waits for it is written as far as the kernel takes it.
        """
        if self._stage is OPEN:
            self._protocol.receive_eof()
            self._deliver(self._take_held(), to_the_end=True)
            self._library_wrote(self._protocol.data_to_send())
        self.flush()

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self.heard = True  # the client's kernel made room: somebody reads
        self._outbox.landed()
        self._flush_at_turn_end()

    def connection_lost(self, exc: Exception | None) -> None:
        peer, self._peer = self._peer, None
        self._stage = GONE
        self._members.discard(cast(Any, self))
        self._hub.sockets.discard(self)
        self._hub.left.set()
        for timer in (self._deadline, self._pause):
            if timer is not None:
                timer.cancel()
        if self._admission is not None:
            self._admission.cancel()
        self._deadline = self._pause = self._admission = self.on_drained = None
        self._held = self._parts = self._early = None
        self._outbox.drop_waiting()
        self._protocol.parser.close()
        del self._protocol.parser  # the generator holds the protocol, which holds the generator
        if peer is not None:
            self._guard(peer.closed)

    # --- admission

    async def _admit(self, request_bytes: bytes) -> None:
        hub = self._hub
        try:
            self._check_room()
            request, response = read_request(self._protocol, request_bytes)
            peername = self.transport.get_extra_info("peername") or ("",)
            secure = self.transport.get_extra_info("sslcontext") is not None
            upgrade = read_upgrade_request(request, address=str(peername[0]), secure=secure)
            async with asyncio.timeout(hub.limits.admit_s):
                make = await hub.door.admit(upgrade)
            self._protocol.send_response(response)
            self._open(make)
        except AgentdError as error:
            self._refuse(error)
        except TimeoutError:
            self._refuse(Timeout("the upgrade was not decided in time"))
        except Exception as error:
            self._refuse(self._internal("admission", error))

    def _check_room(self) -> None:
        hub = self._hub
        if hub.draining:
            raise Draining("the server is shutting down", retry_after_ms=DRAINING_RETRY_MS)
        if len(hub.sockets) > hub.limits.sockets:
            raise SocketsFull(used=len(hub.sockets) - 1, limit=hub.limits.sockets)

    def _open(self, make: Callable[[Socket], Peer]) -> None:
        """Say 101, let the peer in, then give it what came early. Raises what `make` raises."""
        self._configure_transport()
        for data in self._protocol.data_to_send():
            self._outbox.put(data)
        self._stage, self._admission = OPEN, None
        self._peer = make(self)
        self._hub.figures.accepted += 1
        self.heard_s = self.moved_s = self._hub.clock.monotonic_s()
        self._flush_at_turn_end()
        early, self._early = self._early, None
        if early:
            self.data_received(early)
        self._read_again(STOP_EARLY)

    def _configure_transport(self) -> None:
        self.transport.set_write_buffer_limits(high=1, low=0)  # high=0 would never resume under TLS
        raw = self.transport.get_extra_info("socket")
        if raw is not None and hasattr(sockets, "TCP_NOTSENT_LOWAT") and raw.family != sockets.AF_UNIX:
            raw.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT_BYTES)

    def _keep_early(self, data: bytes) -> None:
        self._early = (self._early or b"") + data
        if len(self._early) >= self._hub.limits.early_bytes:
            self._stop_reading(STOP_EARLY)

    def _refuse(self, error: AgentdError) -> None:
        """Answer the upgrade with an HTTP error, then end."""
        if self._stage is GONE:
            return
        self._hub.figures.refused += 1
        self._stage, self._end, self._admission, self._early = CLOSING, End.LINGER, None, None
        self._outbox.drop_waiting()
        self._outbox.put(refusal(error))
        self._limit_closing()
        self._read_again(self._stops)
        self.flush()

    # --- from the client

    def _read(self, data: bytes) -> None:
        protocol = self._protocol
        protocol.receive_data(data)
        events = cast(list[Frame], protocol.events_received())  # a request comes first, and has been taken
        self._inside = True
        try:
            if self._held:
                self._held.extend(events)
            else:
                self._deliver(events, to_the_end=protocol.eof_sent)
        finally:
            self._inside = False
        writes = protocol.data_to_send()
        if writes:
            self._library_wrote(writes)
        if self._due == 2:
            self.flush()

    def _deliver(self, frames: list[Frame], *, to_the_end: bool) -> None:
        """Hand complete messages to the peer; the rest is held when reading stops, unless nothing follows any more."""
        try:
            for position, frame in enumerate(frames):
                if self._stage is not OPEN:
                    return
                if self._stops and not to_the_end:
                    self._held = frames[position:]
                    return
                opcode = frame.opcode
                if opcode is TEXT and frame.fin:
                    self._message(bytes(frame.data))
                elif opcode is TEXT or opcode is BINARY or opcode is CONT:
                    self._fragment(frame)
        except Exception as error:
            self._fault(error)

    def _message(self, text: bytes) -> None:
        if not text.isascii():
            try:
                text.decode()
            except UnicodeDecodeError:
                error = InvalidFrame("a text message is not valid UTF-8", hint="Send UTF-8 text.")
                return self._fail(CloseCode.INVALID_DATA, "invalid UTF-8", error)
        if self._peer is not None:
            self._peer.received(text)

    def _fragment(self, frame: Frame) -> None:
        """A binary message, or one part of a message of several."""
        if frame.opcode is not CONT:
            self._parts = []
        parts = self._parts
        binary = frame.opcode is BINARY or parts is None
        if binary:
            self._parts = None
            if frame.fin and self._peer is not None:
                self._peer.received_binary()
            return
        assert parts is not None
        parts.append(bytes(frame.data))
        if len(parts) > self._hub.limits.fragments:
            limit = self._hub.limits.fragments
            error = TooLarge("a message has too many fragments", limit=limit, hint="Send it in fewer frames.")
            self._fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments", error)
        elif frame.fin:
            self._parts = None
            self._message(b"".join(parts))

    def _take_held(self) -> list[Frame]:
        held, self._held = self._held, None
        return held or []

    # --- reading stops and goes on

    def _stop_reading(self, why: int) -> None:
        if not self._stops and not self.transport.is_closing():
            self.transport.pause_reading()
        self._stops |= why

    def _read_again(self, why: int) -> None:
        """Take one reason away; without any left, first the held messages, then the wire."""
        if not self._stops & why:
            return
        self._stops &= ~why
        if not self._stops and self._held and self._stage is OPEN:
            self._deliver(self._take_held(), to_the_end=False)
        if not self._stops and not self.transport.is_closing():
            self.transport.resume_reading()

    def _pause_over(self) -> None:
        self._pause = None
        if self._stage is not GONE:
            self._read_again(STOP_DELAY)

    # --- to the client

    def _put(self, data: bytes) -> None:
        self._outbox.put(data)
        if self._outbox.over and not self._stops & STOP_FULL and self._stage is OPEN:
            self._stop_reading(STOP_FULL)

    def _flush_at_turn_end(self) -> None:
        if self._due != 2:
            self._due = 2
            if not self._inside:
                self._hub.flusher.at_turn_end(self)

    def _drained(self) -> None:
        if self._outbox.fell():
            self._read_again(STOP_FULL)
            if self.on_drained is not None:
                self._guard(self.on_drained)

    # --- the end

    def _fail(self, code: int, reason: str, error: AgentdError) -> None:
        self._error = error
        self._protocol.fail(code, reason)
        self._library_wrote(self._protocol.data_to_send())

    def _library_wrote(self, writes: list[bytes]) -> None:
        """Pass on pongs and close frames; a failure's error frame goes right before its close frame."""
        protocol = self._protocol
        ended = bool(writes) and writes[-1] == SEND_EOF
        if ended:
            writes.pop()
        error = self._error or _explained(protocol.parser_exc, protocol.max_message_size)
        if error is not None and writes and self._stage is OPEN:
            writes.insert(-1, self._hub.frames.of(self._error_frame(error)))
            self._hub.figures.failed += 1
        for data in writes:
            self._put(data)
        self._error = None
        if ended:
            self._end = End.LINGER if error is not None else End.CLOSE
        if self._stage is OPEN and (ended or protocol.close_sent is not None):
            self._begin_closing()
        if writes or ended:
            self._flush_at_turn_end()

    def _begin_closing(self) -> None:
        """From here on only the client's close frame is of interest, so reading has to go on."""
        self._stage = CLOSING
        self._held = self._parts = None
        self._limit_closing()
        self._read_again(self._stops)

    def _limit_closing(self) -> None:
        if self._deadline is None:
            self._deadline = self._hub.clock.call_later(self._hub.limits.close_s, self.abort)

    def _finish(self) -> None:
        """All is written: close, or end our direction and let the client read it."""
        transport = self.transport
        if self._end is End.CLOSE:
            transport.close()
        elif transport.can_write_eof():
            transport.write_eof()
        else:
            if self._pause is not None:
                self._pause.cancel()
            self._pause = self._hub.clock.call_later(TLS_LINGER_S, transport.close)
        self._end = End.LINGER  # what still comes is not looked at

    # --- our own faults

    def _guard(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self._fault(error)

    def _fault(self, error: Exception) -> None:
        self._hub.figures.faults += 1
        self.close(CloseCode.INTERNAL_ERROR, "internal error", last=self._error_frame(self._internal("peer", error)))

    def _error_frame(self, error: AgentdError) -> bytes:
        return msgspec.json.encode(error.frame(ts=self._hub.clock.now_ms()))

    def _internal(self, place: str, error: Exception) -> Internal:
        fault = self._hub.clock.new_id("err")
        log.error("socket.fault", place=place, error_id=fault, exc_info=error)
        return Internal(f"internal error {fault}", hint="The id stands in the server's log.")


def _explained(parser_exc: Exception | None, limit: int | None) -> AgentdError | None:
    """What the library found wrong, as our error; nothing when it only found the end of the stream."""
    if parser_exc is None or isinstance(parser_exc, EOFError):
        return None
    if isinstance(parser_exc, PayloadTooBig):
        return TooLarge("a message is larger than this socket accepts", limit=limit or 0, hint="Send less at a time.")
    if isinstance(parser_exc, UnicodeDecodeError):
        return InvalidFrame("the reason of a close frame is not valid UTF-8")
    return InvalidFrame(f"broken framing: {parser_exc}", hint="Use a WebSocket library.")
