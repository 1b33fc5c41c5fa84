"""The WebSocket protocol to the letter, frame by frame over raw sockets (S1, S3, S4, L5)."""

import gc
import json
import socket as sockets
import struct
import weakref

import pytest

from agentd.edge.limits import Limits
from agentd.edge.websocket import WebSocket
from agentd.protocol.errors import (
    AgentdError,
    Conflict,
    Forbidden,
    NotFound,
    Overloaded,
    StorageUnavailable,
    Unauthorized,
)
from tests.edge.rig import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    EchoPeer,
    ManualClock,
    RawClient,
    Rig,
    close_frame,
    frame,
    running,
    settle,
    until,
    upgrade_request,
)

SMALL = Limits(frame_bytes=1000, fragments=8, early_bytes=64)
NARROW = Limits(outbox_bytes=64 * 1024, outbox_frames=100_000)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 200_000])
async def test_a_text_of_any_length_comes_back_as_it_was(size: int) -> None:
    async with running() as rig:
        client = await rig.raw()
        client.write(frame(TEXT, b"x" * size))
        assert await client.read_text() == b"x" * size


# The beginning (S1).


async def test_the_greeting_comes_first_and_a_message_in_the_segment_of_the_upgrade_is_not_lost() -> None:
    async with running() as rig:
        rig.door.greeting = b"ack"
        client = await rig.connect()
        client.write(upgrade_request(), frame(TEXT, b"early"), frame(TEXT, b"in two parts")[:5])
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
        assert [await client.read_text() for _ in range(2)] == [b"ack", b"early"]
        client.write(frame(TEXT, b"in two parts")[5:])
        assert await client.read_text() == b"in two parts"


async def test_what_comes_while_the_door_decides_is_kept_and_its_socket_read_no_further() -> None:
    async with running(SMALL) as rig:
        rig.door.gate.clear()
        client = await rig.connect()
        client.write(upgrade_request())
        await rig.door.asked.wait()
        texts = [b"%03d" % number + b"." * 50 for number in range(40)]
        for text in texts:
            client.write(frame(TEXT, text))
            await settle(2)
        (socket,) = rig.server._hub.sockets
        assert socket.unread
        rig.door.gate.set()
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
        assert [await client.read_text() for _ in texts] == texts
        await until(lambda: not socket.unread)


async def test_the_door_sees_path_query_headers_and_address() -> None:
    async with running() as rig:
        client = await rig.connect()
        client.write(upgrade_request("/v1/agents/a%20b/stream?session=x%26y&after=&x", Origin="http://a", Cookie="c=1"))
        await client.read_head()
        (upgrade,) = rig.door.upgrades
        assert (upgrade.path, upgrade.address, upgrade.secure) == ("/v1/agents/a b/stream", "127.0.0.1", False)
        assert upgrade.query == (("session", "x&y"), ("after", ""), ("x", ""))
        assert (upgrade.header("origin"), upgrade.header("cookie")) == ("http://a", "c=1")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unauthorized("no"), 401),
        (Forbidden("no", details={"required": "chat"}), 403),
        (NotFound("no", kind="path"), 404),
        (Conflict("no"), 409),
        (Overloaded("no", details={"cap": "credentials"}, retry_after_ms=2_500), 429),
        (Overloaded("no", details={"cap": "sockets"}), 503),
        (StorageUnavailable("no"), 503),
    ],
)
async def test_a_refused_upgrade_gets_the_status_and_the_error_object(error: AgentdError, status: int) -> None:
    async with running() as rig:
        rig.door.refuse = error
        client = await rig.connect()
        client.write(upgrade_request(), frame(TEXT, b"never looked at"))
        got, headers, body = await client.read_response()
        assert got == status
        assert headers["content-type"] == "application/json"
        assert headers["connection"] == "close"
        assert json.loads(body) == json.loads(json.dumps(_object(error)))
        assert headers.get("retry-after") == {429: "3", 503: "1"}.get(status)
        assert await client.read_end() == b""
        assert rig.door.peers == []
        assert rig.server.figures.refused == 1


def _object(error: AgentdError) -> dict[str, object]:
    found: dict[str, object] = {"type": "error", "code": error.code, "message": "no", "retryable": error.may_retry}
    if error.details is not None:
        found["details"] = error.details
    if error.retry_after_ms is not None:
        found["retry_after_ms"] = error.retry_after_ms
    return found


async def test_a_fault_of_the_door_is_a_500_that_tells_nothing_but_an_id() -> None:
    async with running() as rig:
        rig.door.refuse = ValueError("a secret of the server")
        client = await rig.connect()
        client.write(upgrade_request())
        status, _, body = await client.read_response()
        assert status == 500
        assert b"secret" not in body
        assert json.loads(body)["message"].startswith("internal error err_")


async def test_a_peer_that_cannot_be_made_refuses_the_upgrade() -> None:
    async with running() as rig:

        def fail(peer: EchoPeer) -> None:
            raise Conflict("the session belongs to another agent")

        rig.door.prepare = fail
        client = await rig.connect()
        client.write(upgrade_request())
        assert (await client.read_response())[0] == 409


async def test_a_door_that_does_not_decide_in_time_refuses() -> None:
    async with running(Limits(admit_s=0.01)) as rig:
        rig.door.gate.clear()
        client = await rig.connect()
        client.write(upgrade_request())
        status, _, body = await client.read_response()
        assert (status, json.loads(body)["code"]) == (504, "timeout")


@pytest.mark.parametrize(
    "request_bytes",
    [
        upgrade_request(Sec_WebSocket_Version="12"),
        upgrade_request(Sec_WebSocket_Key="short"),
        upgrade_request(extra="Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"),
        upgrade_request(extra="Origin: http://a\r\nOrigin: http://b\r\n"),
        upgrade_request(extra="Content-Length: 3\r\n") + b"abc",
        upgrade_request(extra="Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n",
        upgrade_request().replace(b"GET", b"POST"),
        upgrade_request().replace(b"HTTP/1.1", b"HTTP/1.0"),
        upgrade_request("/" + "a" * 9_000),
        upgrade_request("/?" + "a=1&" * 40),
    ],
)
async def test_a_handshake_that_is_none_is_a_400_with_the_error_object(request_bytes: bytes) -> None:
    async with running() as rig:
        client = await rig.connect()
        client.write(request_bytes)
        status, _, body = await client.read_response()
        assert (status, json.loads(body)["code"]) == (400, "invalid_payload")
        assert rig.door.upgrades == []


async def test_more_sockets_than_may_be_are_refused_with_503_and_room_is_given_back() -> None:
    async with running(Limits(sockets=2)) as rig:
        first = await rig.raw()
        await rig.raw()
        third = await rig.connect()
        third.write(upgrade_request())
        status, headers, body = await third.read_response()
        assert (status, headers["retry-after"]) == (503, "1")
        error = json.loads(body)
        assert (error["code"], error["details"]) == ("overloaded", {"cap": "sockets", "used": 2, "limit": 2})
        third.close()
        first.close()
        await until(lambda: rig.server.open_sockets == 1)
        (await rig.raw()).close()


async def test_compression_is_never_negotiated() -> None:
    async with running() as rig:
        client = await rig.connect()
        client.write(upgrade_request(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits"))
        assert b"extensions" not in (await client.read_head()).lower()


# Messages and fragments (S4).


async def test_pipelined_messages_come_back_in_order() -> None:
    async with running() as rig:
        client = await rig.raw()
        texts = [b"%d" % number for number in range(500)]
        client.write(*(frame(TEXT, text) for text in texts))
        assert [await client.read_text() for _ in texts] == texts


async def test_a_message_that_comes_byte_by_byte_is_read() -> None:
    async with running() as rig:
        client = await rig.raw()
        for byte in frame(TEXT, "zwölf".encode()):
            client.write(bytes((byte,)))
            await settle(1)
        assert await client.read_text() == "zwölf".encode()


async def test_fragments_are_put_together_with_control_frames_between_them() -> None:
    async with running() as rig:
        client = await rig.raw()
        euro = "€".encode()
        client.write(frame(TEXT, b"a" + euro[:1], fin=False), frame(PING, b"p"), frame(CONT, euro[1:2], fin=False))
        client.write(frame(PONG, b"nobody asked"), frame(CONT, b"", fin=False), frame(CONT, euro[2:]))
        frames = [await client.read_frame() for _ in range(2)]
        assert sorted(frames) == [(TEXT, b"a" + euro), (PONG, b"p")]
        assert rig.peer.texts == [b"a" + euro]


async def test_a_binary_message_is_told_to_the_peer_and_closes_nothing() -> None:
    async with running() as rig:
        client = await rig.raw()
        client.write(frame(BINARY, b"\xff\x00"), frame(BINARY, b"1", fin=False), frame(CONT, b"2"), frame(TEXT, b"on"))
        assert [(await client.read_error())["code"] for _ in range(2)] == ["invalid_frame"] * 2
        assert await client.read_text() == b"on"
        assert (rig.peer.binaries, rig.peer.texts) == (2, [b"on"])


@pytest.mark.parametrize("payload", [b"", b"ping", bytes(range(125))])
async def test_a_ping_is_answered_with_its_own_payload(payload: bytes) -> None:
    async with running() as rig:
        client = await rig.raw()
        client.write(frame(PING, payload))
        assert await client.read_frame() == (PONG, payload)


# What is broken ends with an error, then the close frame, then the stream (S3, rulings 51).

BROKEN = {
    "reserved bit 1": frame(TEXT, b"x", rsv=4),
    "reserved bit 2": frame(TEXT, b"x", rsv=2),
    "reserved bit 3": frame(TEXT, b"x", rsv=1),
    "reserved data opcode": frame(3, b"x"),
    "reserved control opcode": frame(11, b"x"),
    "unmasked": frame(TEXT, b"x", mask=False),
    "unmasked control frame": frame(PING, b"x", mask=False),
    "control frame too long": frame(PING, b"x" * 126),
    "fragmented control frame": frame(PING, b"x", fin=False),
    "continuation of nothing": frame(CONT, b"x"),
    "continuation of nothing, not final": frame(CONT, b"x", fin=False),
    "text inside a message": frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"),
    "binary inside a message": frame(TEXT, b"x", fin=False) + frame(BINARY, b"y"),
    "close inside a message": frame(TEXT, b"x", fin=False) + close_frame(1000),
    "close frame of one byte": frame(CLOSE, b"\x03"),
    "close frame too long": close_frame(1000, b"x" * 124),
    **{f"close code {code}": close_frame(code) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000)},
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_broken_framing_is_told_and_closed_with_1002(broken: bytes) -> None:
    async with running() as rig:
        client = await rig.raw()
        client.write(frame(TEXT, b"before"), broken, frame(TEXT, b"after"))
        assert await client.read_text() == b"before"
        error = await client.read_error()
        assert (error["code"], error["retryable"]) == ("invalid_frame", False)
        assert isinstance(error["ts"], int)
        assert await client.read_close() == 1002
        assert await client.read_end() == b""
        assert rig.peer.texts == [b"before"]
        client.close()
        await rig.peer.gone.wait()
        assert rig.server.figures.failed == 1


NOT_UTF8 = {
    "a lone continuation byte": [b"\x80"],
    "overlong": [b"\xc0\xaf"],
    "a surrogate": [b"\xed\xa0\x80"],
    "beyond Unicode": [b"\xf4\x90\x80\x80"],
    "cut off": ["€".encode()[:2]],
    "cut off over fragments": ["€".encode()[:1], "€".encode()[1:2]],
}


@pytest.mark.parametrize("parts", NOT_UTF8.values(), ids=NOT_UTF8)
async def test_text_that_is_not_utf8_is_told_and_closed_with_1007(parts: list[bytes]) -> None:
    async with running() as rig:
        client = await rig.raw()
        for number, part in enumerate(parts):
            client.write(frame(CONT if number else TEXT, part, fin=number == len(parts) - 1))
        assert (await client.read_error())["code"] == "invalid_frame"
        assert await client.read_close() == 1007
        assert await client.read_end() == b""
        assert rig.peer.texts == []


async def test_a_close_reason_that_is_not_utf8_is_closed_with_1007() -> None:
    async with running() as rig:
        client = await rig.raw()
        client.write(close_frame(1000, b"\xff"))
        assert (await client.read_error())["code"] == "invalid_frame"
        assert await client.read_close() == 1007


TOO_LARGE = {
    "one frame": frame(TEXT, b"x" * 1001),
    "a length nobody could send": b"\x81\xff" + struct.pack("!Q", 1 << 62),
    "fragments together": frame(TEXT, b"x" * 999, fin=False) + frame(CONT, b"xx"),
    "a binary one": frame(BINARY, b"x" * 1001),
}


@pytest.mark.parametrize("large", TOO_LARGE.values(), ids=TOO_LARGE)
async def test_a_message_over_the_limit_is_told_and_closed_with_1009(large: bytes) -> None:
    async with running(SMALL) as rig:
        client = await rig.raw()
        client.write(frame(TEXT, b"x" * 1000), large)
        assert len(await client.read_text()) == 1000
        error = await client.read_error()
        assert (error["code"], error["details"]) == ("too_large", {"limit": 1000})
        assert await client.read_close() == 1009
        assert await client.read_end() == b""


async def test_more_fragments_than_may_be_are_closed_with_1009_however_small() -> None:
    async with running(SMALL) as rig:
        client = await rig.raw()
        client.write(frame(TEXT, fin=False), *[frame(CONT, b"x", fin=False)] * 6, frame(CONT, b"x"))
        assert await client.read_text() == b"xxxxxxx"
        client.write(frame(BINARY, fin=False), *[frame(CONT, fin=False)] * 8)
        error = await client.read_error()
        assert (error["code"], error["details"]) == ("too_large", {"limit": 8})
        assert await client.read_close() == 1009


async def test_who_is_still_sending_a_message_too_large_can_read_why() -> None:
    async with running() as rig:
        client = await rig.raw()
        client.write(frame(TEXT, b"x" * 3_000_000))
        assert (await client.read_error())["code"] == "too_large"
        assert await client.read_close() == 1009
        assert await client.read_end() == b""


async def test_the_limit_can_be_set_by_the_peer_and_holds_from_the_next_frame() -> None:
    async with running() as rig:

        def raise_later(peer: EchoPeer) -> None:
            peer.socket.frame_bytes_max = 10

            def grow(text: bytes) -> None:
                peer.socket.frame_bytes_max = 100
                peer.socket.send(text)

            peer.on_text = grow

        rig.door.prepare = raise_later
        client = await rig.raw()
        client.write(frame(TEXT, b"x" * 10))
        assert await client.read_text() == b"x" * 10
        client.write(frame(TEXT, b"x" * 100))
        assert await client.read_text() == b"x" * 100
        client.write(frame(TEXT, b"x" * 101))
        assert (await client.read_error())["details"] == {"limit": 100}


# The close handshake (S4).


@pytest.mark.parametrize(
    "payload",
    [b"", struct.pack("!H", 1000), struct.pack("!H", 1001) + b"bye", struct.pack("!H", 3000), struct.pack("!H", 4999)],
)
async def test_a_close_frame_is_echoed_and_the_server_closes_first(payload: bytes) -> None:
    async with running() as rig:
        client = await rig.raw()
        client.write(frame(TEXT, b"last words"), frame(CLOSE, payload), frame(TEXT, b"too late"))
        assert await client.read_text() == b"last words"
        assert await client.read_frame() == (CLOSE, payload)
        assert await client.read_end() == b""
        await rig.peer.gone.wait()
        assert (rig.peer.texts, rig.peer.closings) == ([b"last words"], 1)


async def test_a_close_of_ours_says_its_last_word_first_and_waits_for_the_answer() -> None:
    async with running() as rig:
        client = await rig.raw()
        socket = rig.peer.socket
        socket.send(b"one")
        socket.close(1008, "credential" + "é" * 100, last=b"why")
        socket.send(b"never")
        socket.close(1011, "never")
        assert socket.closed
        assert [await client.read_text() for _ in range(2)] == [b"one", b"why"]
        opcode, payload = await client.read_frame()
        assert (opcode, payload[:2], len(payload)) == (CLOSE, struct.pack("!H", 1008), 124)
        client.write(frame(TEXT, b"not heard any more"), frame(PING, b"still answered"), close_frame(1008))
        assert await client.read_frame() == (PONG, b"still answered")
        assert await client.read_end() == b""
        await rig.peer.gone.wait()
        assert rig.peer.texts == []


async def test_a_close_that_is_not_answered_ends_at_its_deadline() -> None:
    clock = ManualClock()
    async with running(clock=clock) as rig:
        client = await rig.raw()
        rig.peer.socket.close(1001, "draining")
        assert await client.read_close() == 1001
        await clock.advance(4.9)
        assert not rig.peer.gone.is_set()
        await clock.advance(0.2)
        await rig.peer.gone.wait()


async def test_a_peer_that_closes_on_a_message_gets_no_further_one() -> None:
    async with running() as rig:
        rig.door.prepare = lambda peer: setattr(peer, "on_text", lambda text: peer.socket.close(1008, "", last=text))
        client = await rig.raw()
        client.write(frame(TEXT, b"one"), frame(TEXT, b"two"), close_frame(1000))
        assert await client.read_text() == b"one"
        assert await client.read_close() in (1000, 1008)
        await rig.peer.gone.wait()
        assert rig.peer.texts == [b"one"]


async def test_a_client_that_ends_its_direction_still_gets_what_was_due() -> None:
    async with running() as rig:
        client = await rig.raw()
        client.write(frame(TEXT, b"ask"))
        client.writer.write_eof()
        assert await client.read_text() == b"ask"
        assert await client.read_end() == b""
        await rig.peer.gone.wait()
        assert rig.peer.closings == 1


async def test_a_client_that_resets_the_connection_is_gone_once() -> None:
    async with running() as rig:
        client = await rig.raw()
        raw = client.writer.get_extra_info("socket")
        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
        client.writer.transport.abort()
        await rig.peer.gone.wait()
        rig.peer.socket.send(b"into nothing")
        rig.peer.socket.close(1000, "nobody there")
        rig.peer.socket.pause_reading(1.0)
        await settle()
        assert (rig.peer.closings, rig.server.open_sockets) == (1, 0)


async def test_a_client_that_leaves_while_the_door_decides_never_becomes_a_peer() -> None:
    async with running() as rig:
        rig.door.gate.clear()
        client = await rig.connect()
        client.write(upgrade_request())
        await rig.door.asked.wait()
        client.close()
        await until(lambda: rig.server.open_sockets == 0)
        rig.door.gate.set()
        await until(lambda: len(rig.supervisor) == 2)  # the keepalive and the tick
        assert rig.door.peers == []


async def test_a_peer_that_raises_closes_its_socket_with_1011_and_an_id() -> None:
    async with running() as rig:

        def fail(text: bytes) -> None:
            raise ValueError("a secret of the server")

        rig.door.prepare = lambda peer: setattr(peer, "on_text", fail)
        client = await rig.raw()
        client.write(frame(TEXT, b"x"), frame(TEXT, b"y"))
        error = await client.read_error()
        assert error["code"] == "internal"
        assert "secret" not in json.dumps(error)
        assert await client.read_close() == 1011
        assert rig.peer.texts == [b"x"]


# Writing: one write a turn, deltas wait for the window (L5).


class Writes:
    """Counts the writes of a socket's transport, by what they hold."""

    def __init__(self, rig: Rig) -> None:
        self.seen: list[bytes] = []
        socket = rig.peer.socket
        assert isinstance(socket, WebSocket)
        self._transport = socket.transport
        socket.transport = self  # type: ignore[assignment]

    def write(self, data: bytes) -> None:
        self.seen.append(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)


async def test_all_frames_of_a_turn_leave_in_one_write() -> None:
    async with running() as rig:
        client = await rig.raw()
        writes = Writes(rig)
        for number in range(10):
            rig.peer.socket.send(b"%d" % number)
        assert [await client.read_text() for _ in range(10)] == [b"%d" % number for number in range(10)]
        assert len(writes.seen) == 1


async def test_deltas_wait_for_the_window_unless_another_frame_takes_them_along_in_order() -> None:
    clock = ManualClock()
    async with running(clock=clock) as rig:
        client = await rig.raw()
        writes = Writes(rig)
        socket = rig.peer.socket
        socket.send(b"d1", soon=True)
        await settle()
        socket.send(b"d2", soon=True)
        await settle()
        assert writes.seen == []
        await clock.advance(0.01)
        assert [await client.read_text() for _ in range(2)] == [b"d1", b"d2"]
        socket.send(b"d3", soon=True)
        socket.send(b"fact")
        socket.send(b"d4", soon=True)
        assert [await client.read_text() for _ in range(3)] == [b"d3", b"fact", b"d4"]
        assert len(writes.seen) == 2


# Reading stops for a full outbox and when the peer asks for it, and for nothing else.


async def fill(rig: Rig, client: RawClient, size: int = 8 * 1024) -> int:
    """Send to a client that does not read until the outbox is full; how many frames that took."""
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    sent = 0
    while not rig.peer.socket.full:
        rig.peer.socket.send(b"%06d" % sent + b"." * (size - 6))
        sent += 1
        await settle(1)
    return sent


def shrink_buffers(rig: Rig) -> None:
    def prepare(peer: EchoPeer) -> None:
        socket = peer.socket
        assert isinstance(socket, WebSocket)
        raw = socket.transport.get_extra_info("socket")
        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, 4096)

    rig.door.prepare = prepare


async def test_a_full_outbox_stops_reading_and_a_drained_one_tells_and_goes_on() -> None:
    async with running(NARROW) as rig:
        shrink_buffers(rig)
        client = await rig.raw()
        drained: list[bool] = []
        socket = rig.peer.socket
        socket.on_drained = lambda: drained.append(socket.full)
        sent = await fill(rig, client)
        client.write(frame(TEXT, b"asked while full"))
        socket.send(b"a reply always goes in")
        await settle(20)
        assert rig.peer.texts == []
        assert drained == []
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        got = [await client.read_text() for _ in range(sent + 1)]
        assert [text[:6] for text in got[:-1]] == [b"%06d" % number for number in range(sent)]
        assert got[-1] == b"a reply always goes in"
        assert await client.read_text() == b"asked while full"
        assert drained == [False]


async def test_requests_that_fill_the_outbox_are_held_back_in_the_segment_they_came_in() -> None:
    async with running(Limits(outbox_frames=10)) as rig:
        client = await rig.raw()
        seen: list[int] = []
        peer, socket = rig.peer, rig.peer.socket
        assert isinstance(socket, WebSocket)

        def answer(text: bytes) -> None:
            seen.append(socket._outbox.frames)
            socket.send(text)

        peer.on_text = answer
        client.write(*(frame(TEXT, b"%d" % number) for number in range(100)))
        assert [await client.read_text() for _ in range(100)] == [b"%d" % number for number in range(100)]
        assert max(seen) <= 9


async def test_a_pause_stops_reading_for_so_long_and_only_on_that_socket() -> None:
    clock = ManualClock()
    async with running(clock=clock) as rig:
        paused = await rig.raw()
        peer = rig.peer
        other = await rig.raw()

        def echo_and_pause(text: bytes) -> None:
            peer.socket.send(text)
            peer.socket.pause_reading(0.1)

        peer.on_text = echo_and_pause
        paused.write(frame(TEXT, b"1"), frame(TEXT, b"2"))
        assert await paused.read_text() == b"1"
        paused.write(frame(TEXT, b"3"))
        other.write(frame(TEXT, b"free"))
        assert await other.read_text() == b"free"
        assert peer.texts == [b"1"]
        for expected in (b"2", b"3"):
            await clock.advance(0.1)
            assert await paused.read_text() == expected
        assert rig.server.figures.reading_pauses == 3


async def test_closing_reads_on_although_reading_was_stopped() -> None:
    async with running(clock=ManualClock()) as rig:
        client = await rig.raw()
        rig.peer.socket.pause_reading(60.0)
        rig.peer.socket.close(1000, "")
        assert await client.read_close() == 1000
        client.write(close_frame(1000))
        await rig.peer.gone.wait()


async def test_the_bound_on_what_is_unread_holds_whatever_the_kernel_swallows() -> None:
    async with running(NARROW) as rig:
        shrink_buffers(rig)
        client = await rig.raw()
        await fill(rig, client)
        socket = rig.peer.socket
        assert isinstance(socket, WebSocket)
        assert socket._outbox.size < 64 * 1024 + 2 * 8 * 1024
        assert socket.backlog() <= 64 * 1024 + 8 * 1024


# A gone socket leaks nothing.


async def test_a_gone_socket_and_its_protocol_are_freed_without_a_collection() -> None:
    async with running() as rig:
        kept: list[weakref.ref[object]] = []
        gc.collect()
        gc.disable()
        try:
            for ending in (close_frame(1000), frame(TEXT, b"\xff"), frame(3), b""):
                client = await rig.raw()
                socket = rig.peer.socket
                assert isinstance(socket, WebSocket)
                kept += [weakref.ref(socket), weakref.ref(socket._protocol), weakref.ref(rig.peer)]
                client.write(ending)
                if not ending:
                    client.close()
                gone = rig.peer.gone
                await client.read_end()
                client.close()
                await gone.wait()
                rig.door.peers.clear()
                del socket
            await settle()
            assert [ref() for ref in kept] == [None] * len(kept)
        finally:
            gc.enable()


async def test_coming_and_going_costs_a_bounded_amount_of_memory() -> None:
    async with running() as rig:

        async def cycles(count: int) -> int:
            for _ in range(count):
                client = await rig.raw()
                client.write(frame(TEXT, b"x"), close_frame(1000))
                await client.read_end()
                client.close()
                await rig.peer.gone.wait()
                rig.door.peers.clear()
                rig.door.upgrades.clear()
                rig.clients.clear()
            gc.collect()
            return len(gc.get_objects())

        await cycles(20)
        before = await cycles(20)
        assert await cycles(200) - before < 200
        assert rig.server.open_sockets == 0
