"""One WebSocket: an `asyncio.Protocol` around the library's Sans-I/O `ServerProtocol`, without a task of its own.

uvicorn constructs it for an upgrade (`Config(ws=...)`), calls `connection_made`, replays the request through
`data_received`, and only then puts it behind the transport: nothing is written before the next loop turn. The door
decides in a task; what the client sends meanwhile is kept. From then on every message goes to the peer from
`data_received`, every frame to the outbox, and the outbox to the transport once a loop turn (stream.py).

What always holds: the library sees all that the client sends and makes every pong and close frame; text frames and
pings are framed here (framing.py). An `error` frame that explains a failure stands right before the library's close
frame. While reading is stopped no message reaches the peer, so replies cannot outgrow the outbox by more than those
to one message. At the end every reference cycle is cut.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

import msgspec
import structlog
from uvicorn.server import ServerState
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol

from agentd.edge.admission import admit, draining
from agentd.edge.assembly import Assembly
from agentd.edge.door import Peer, Socket
from agentd.edge.failures import Failure, found_by_library, invalid_text
from agentd.edge.framing import PING
from agentd.edge.hub import Hub
from agentd.edge.refusal import refusal
from agentd.edge.stream import CLOSING, OPEN, TURN, End, Stage, Stop, Stream
from agentd.protocol.errors import AgentdError, Internal, Overloaded

REASON_BYTES_MAX = 123
TEXT, BINARY, CONT = Opcode.TEXT, Opcode.BINARY, Opcode.CONT

log = structlog.get_logger(__name__)
library_log = logging.getLogger("agentd.edge.websockets")
library_log.setLevel(logging.WARNING)  # the library tells every opening and closing at INFO


class WebSocket(Stream):
    """A `Socket` for the peer, a `Watched` for the keepalive."""

    __slots__ = ("_admission", "_assembly", "_early", "_error", "_held", "_members", "_peer", "_protocol")

    def __init__(self, hub: Hub, *, config: object, server_state: ServerState, app_state: object) -> None:
        super().__init__(hub)
        self._members = server_state.connections
        self._protocol = ServerProtocol(max_size=hub.limits.frame_bytes, logger=library_log)
        self._peer: Peer | None = None
        self._early: bytes | None = None
        self._held: list[Frame] | None = None  # parsed while reading was stopped
        self._assembly: Assembly | None = None
        self._error: AgentdError | None = None  # to be said right before the library's close frame
        self._admission: asyncio.Task[None] | None = None

    # What the peer uses (door.Socket).

    @property
    def frame_bytes_max(self) -> int:
        """Raised or lowered, it counts from the first frame that has not begun to arrive."""
        return self._protocol.max_message_size or 0

    @frame_bytes_max.setter
    def frame_bytes_max(self, limit: int) -> None:
        self._protocol.max_message_size = limit

    @property
    def closed(self) -> bool:
        return self._stage is not OPEN

    def send(self, frame: bytes, *, soon: bool = False) -> None:
        if self._stage is not OPEN:
            return
        self._put(self._hub.frames.of(frame))
        if soon:
            self._flush_at_window_end()
        else:
            self._flush_at_turn_end()

    def close(self, code: int, reason: str, *, last: bytes | None = None) -> None:
        if self._stage is not OPEN:
            return
        if last is not None:
            self._put(self._hub.frames.of(last))
        if self._protocol.state is State.OPEN:  # else the client's close frame came in the segment being read
            self._protocol.send_close(code, reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore"))
        self._library_wrote(self._protocol.data_to_send())

    # What the keepalive uses (keepalive.Watched), beside what the stream has.

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

    # What the server uses.

    def shutdown(self) -> None:
        """The server stops."""
        error = draining()
        if self._stage is OPEN:
            self.close(CloseCode.GOING_AWAY, "draining", last=self._error_frame(error))
        elif self._stage is Stage.ADMITTING and self._admission is not None:
            self._admission.cancel()
            self._refuse(error)

    # The transport's callbacks, beside those of the stream.

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

    def connection_lost(self, exc: Exception | None) -> None:
        self._members.discard(cast(Any, self))
        self._hub.sockets.discard(self)
        self._end_stream()
        if self._admission is not None:
            self._admission.cancel()
        self._admission = self._held = self._assembly = self._early = None
        self._cut_cycles()
        peer, self._peer = self._peer, None
        if peer is not None:
            self._guard(peer.closed)

    def _cut_cycles(self) -> None:
        """The library's parser is a generator that holds what holds it; so do the tracebacks of its exceptions."""
        protocol = self._protocol
        protocol.parser.close()
        del protocol.parser
        protocol.parser_exc = protocol.handshake_exc = None

    # Admission.

    async def _admit(self, request_bytes: bytes) -> None:
        try:
            admitted = await admit(self._hub, self._protocol, self.transport, request_bytes)
            self._protocol.send_response(admitted.response)
            self._forget_request()
            self._open(admitted.make)
        except AgentdError as error:
            self._refuse(error)
        except Exception as error:
            self._refuse(self._internal("admission", error))

    def _forget_request(self) -> None:
        """The library's parser is a generator that keeps the request it began with, some 2.5 KiB, for as long as the
        socket lives; another one begins behind the handshake, with all that has come."""
        protocol = self._protocol
        protocol.parser.close()
        protocol.parser = protocol.parse()
        next(protocol.parser)

    def _open(self, make: Callable[[Socket], Peer]) -> None:
        """Say 101, let the peer in, then give it what came early. Raises what `make` raises."""
        self._configure()
        for data in self._protocol.data_to_send():
            self._outbox.put(data)
        self._stage, self._admission = OPEN, None
        self._inside = True  # the 101 and what the peer says to it leave together, in this turn
        try:
            self._peer = make(self)
        finally:
            self._inside = False
        self._hub.figures.accepted += 1
        self.heard_s = self.moved_s = self._hub.clock.monotonic_s()
        self.flush()
        early, self._early = self._early, None
        if early:
            self.data_received(early)
        self._read_again(Stop.EARLY)

    def _keep_early(self, data: bytes) -> None:
        self._early = (self._early or b"") + data
        if len(self._early) >= self._hub.limits.early_bytes:
            self._stop_reading(Stop.EARLY)

    def _refuse(self, error: AgentdError) -> None:
        """Answer the upgrade with an HTTP error, then end."""
        if self._stage is Stage.GONE:
            return
        figures = self._hub.figures
        figures.refused += 1
        figures.refusals[error.code] = figures.refusals.get(error.code, 0) + 1
        self._stage, self._end, self._admission, self._early = CLOSING, End.LINGER, None, None
        self._outbox.drop_waiting()
        self._outbox.put(refusal(error))
        self._limit_closing()
        self._read_again(self._stops)
        self.flush()

    # From the client.

    def _read(self, data: bytes) -> None:
        protocol = self._protocol
        protocol.receive_data(data)
        events = cast(list[Frame], protocol.events_received())  # a request comes first, and has been taken
        self._inside = True
        if self._held:
            self._held.extend(events)
        else:
            self._deliver(events, to_the_end=protocol.eof_sent)
        writes = protocol.data_to_send()
        if writes:
            self._library_wrote(writes)
        self._inside = False
        if self._due is TURN:
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
                return self._fail(invalid_text())
        if self._peer is not None:
            self._peer.received(text)

    def _fragment(self, frame: Frame) -> None:
        """A binary message, or one part of a message of several."""
        assembly = self._assembly
        if assembly is None:
            assembly = self._assembly = Assembly(frame, self._hub.limits.fragments)
        else:
            failure = assembly.add(frame)
            if failure is not None:
                return self._fail(failure)
        if not frame.fin:
            return
        self._assembly = None
        if not assembly.binary:
            self._message(assembly.text())
        elif self._peer is not None:
            self._peer.received_binary()

    def _take_held(self) -> list[Frame]:
        held, self._held = self._held, None
        return held or []

    def _release(self) -> None:
        if self._held and self._stage is OPEN:
            self._deliver(self._take_held(), to_the_end=False)

    # The end.

    def _fail(self, failure: Failure) -> None:
        """Fail the connection; when the library did already, later in the same segment, its reason stands."""
        protocol = self._protocol
        if protocol.parser_exc is None:
            self._error = failure.error
            protocol.fail(failure.code, failure.reason)
        self._library_wrote(protocol.data_to_send())

    def _library_wrote(self, writes: list[bytes]) -> None:
        """Pass on pongs and close frames; a failure's error frame goes right before its close frame."""
        protocol = self._protocol
        ended = bool(writes) and writes[-1] == SEND_EOF
        if ended:
            writes.pop()
            if self._held:
                self._deliver(self._take_held(), to_the_end=True)
        error = self._error or found_by_library(protocol.parser_exc, protocol.max_message_size)
        if error is not None and writes and self._stage is OPEN:
            writes.insert(-1, self._hub.frames.of(self._error_frame(error)))
            self._hub.figures.failed += 1
        for data in writes:
            self._put(data)
        self._error = None
        if ended:
            self._end = End.CLOSE if error is None else End.LINGER
        if self._stage is OPEN and (ended or protocol.close_sent is not None):
            self._begin_closing()
        if writes or ended:
            self._flush_at_turn_end()

    def _begin_closing(self) -> None:
        """From here on only the client's close frame is of interest, so reading has to go on."""
        self._stage = CLOSING
        self._held = self._assembly = None
        self._limit_closing()
        self._read_again(self._stops)

    # Our own faults.

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
