"""However the bytes of a session are cut into reads, what comes of it is the same. No network: many cuts are tried."""

import asyncio
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from agentd.edge.hub import Hub
from agentd.edge.limits import Limits
from agentd.edge.websocket import WebSocket
from agentd.supervisor import Supervisor
from tests.edge.rig import (
    BINARY,
    CONT,
    PING,
    PONG,
    TEXT,
    EchoDoor,
    ManualClock,
    RawClient,
    close_frame,
    frame,
    settle,
    upgrade_request,
)

LIMITS = Limits(frame_bytes=500, fragments=4, outbox_frames=3)


class Wire(asyncio.Transport):
    """Takes everything at once."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = True
        self.ended = False
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended
        self.written += bytes(data)

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.closing = True

    abort = close

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert (high, low) == (1, 0)

    def get_write_buffer_size(self) -> int:
        return 0


class Outcome:
    """What a client and a peer saw of a session."""

    def __init__(self, texts: list[bytes], binaries: int, data: list[bytes], controls: list[tuple[int, bytes]]) -> None:
        self.peer = (texts, binaries)
        self.data = data
        self.controls = controls

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Outcome) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return repr(vars(self))


async def outcome(chunks: list[bytes]) -> Outcome:
    clock, door, wire = ManualClock(), EchoDoor(), Wire()
    hub = Hub(door, clock, Supervisor(clock, lambda name: None), LIMITS)
    socket = WebSocket(hub, config=None, server_state=ServerState(), app_state={})
    socket.connection_made(wire)
    socket.data_received(upgrade_request())
    await settle()
    for chunk in chunks:
        for _ in range(100):
            if wire.reading or wire.closing:
                break
            await settle(1)
        if not wire.closing:
            socket.data_received(chunk)
    await settle(20)
    socket.connection_lost(None)
    await settle()
    (peer,) = door.peers
    assert (peer.closings, hub.figures.faults, hub.sockets) == (1, 0, set())
    reader = asyncio.StreamReader()
    reader.feed_data(wire.written.partition(b"\r\n\r\n")[2])
    reader.feed_eof()
    client = RawClient(reader, None)  # type: ignore[arg-type]
    seen = []
    while not reader.at_eof():
        seen.append(await client.read_frame())
    data = [payload for opcode, payload in seen if opcode == TEXT]
    return Outcome(peer.texts, peer.binaries, data, [each for each in seen if each[0] != TEXT])


GOOD = st.sampled_from(
    [
        *(frame(TEXT, text) for text in (b"", b"a", b"b" * 200, "zwölf €".encode())),
        frame(PING, b"p"),
        frame(PONG),
        frame(BINARY, b"\xff"),
        frame(TEXT, "€".encode()[:1], fin=False) + frame(CONT, "€".encode()[1:]),
        frame(BINARY, b"1", fin=False) + frame(PING, b"between") + frame(CONT, b"2"),
    ]
)
LAST = st.sampled_from(
    [
        b"",
        frame(TEXT, b"\xff"),
        frame(TEXT, b"x" * 501),
        frame(TEXT, fin=False) + frame(CONT, fin=False) * 3 + frame(CONT),
        frame(CONT, b"x"),
        frame(TEXT, b"x", rsv=1),
        frame(TEXT, b"x", mask=False),
        close_frame(1000, b"bye"),
        close_frame(1005),
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(GOOD, max_size=8), LAST, st.integers(0, 2), st.lists(st.integers(0, 2_000), max_size=12))
def test_the_cuts_between_reads_change_nothing(before: list[bytes], last: bytes, after: int, cuts: list[int]) -> None:
    session = b"".join([*before, last, frame(TEXT, b"late") * after])
    places = sorted({0, *(cut % (len(session) + 1) for cut in cuts), len(session)})
    pieces = [session[begin:end] for begin, end in itertools.pairwise(places)]
    with asyncio.Runner() as runner:
        assert runner.run(outcome(pieces)) == runner.run(outcome([session]))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_no_bytes_are_a_fault_of_ours(chunks: list[bytes]) -> None:
    with asyncio.Runner() as runner:
        runner.run(outcome(chunks))
