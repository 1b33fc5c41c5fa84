"""Byte by byte beside the websockets library's own server: what a client sees of us is what it sees there.

Each case is sent to both, on asyncio and on uvloop, some over TLS as well; what both answer (echoes, pongs, the close
code, the end of the stream) has to be equal. Where we mean to differ the table says how and why.
"""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import uvloop
from websockets.asyncio import server as library
from websockets.exceptions import ConnectionClosed
from websockets.utils import accept_key

from agentd.edge.limits import Limits
from agentd.edge.server import Tls
from tests.edge.rig import (
    BINARY,
    CLOSE,
    CONT,
    KEY,
    PING,
    PONG,
    TEXT,
    EchoPeer,
    RawClient,
    close_frame,
    frame,
    make_certificate,
    running,
    upgrade_request,
)

LIMIT = 200_000
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


class Case(NamedTuple):
    """`data` in `cuts` writes; then `answers` frames are awaited; then `last`, or the end of our direction."""

    data: bytes
    answers: int = 0
    last: bytes = close_frame(1000, b"bye")
    eof: bool = False
    cut: int = 0


def text(payload: bytes = b"x", **more: bool) -> bytes:
    return frame(TEXT, payload, **more)


def sized(opcode: int, size: int, form: int) -> bytes:
    """A frame whose length is written in the form of 7, 16 or 64 bits, needed or not."""
    payload = b"s" * size
    head = {
        7: bytes((0x80 | opcode, 0x80 | size)) if size < 126 else b"",
        16: bytes((0x80 | opcode, 0xFE)) + struct.pack("!H", size & 0xFFFF),
        64: bytes((0x80 | opcode, 0xFF)) + struct.pack("!Q", size),
    }[form]
    mask = b"\x01\x02\x03\x04"
    return head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


SMILE = "é😀".encode()
BROKEN_LENGTH = b"\x81\xff" + b"\xff" * 8 + b"\0" * 4  # a length of 64 bits whose highest is set
GOOD: dict[str, Case] = {
    **{f"a text of {size}": Case(text(b"t" * size), 1) for size in (0, 1, 125, 126, 127, 65_535, 65_536, LIMIT)},
    "a text that is cut everywhere": Case(text(SMILE * 20), 1, cut=1),
    "a code point cut between fragments": Case(text(SMILE[:3], fin=False) + frame(CONT, SMILE[3:]), 1),
    "NUL and control characters": Case(text(b"\x00\x01\x7f\r\n"), 1),
    "a noncharacter": Case(text("\uffff\U0010ffff".encode()), 1),
    "two fragments": Case(text(b"a", fin=False) + frame(CONT, b"b"), 1),
    "three fragments, the middle one empty": Case(
        text(b"a", fin=False) + frame(CONT, b"", fin=False) + frame(CONT, b"b"), 1
    ),
    "empty fragments": Case(text(b"", fin=False) + frame(CONT, b"", fin=False) + frame(CONT, b""), 1),
    "a ping between fragments": Case(text(b"a", fin=False) + frame(PING, b"p") + frame(CONT, b"b"), 2),
    "a pong between fragments": Case(text(b"a", fin=False) + frame(PONG, b"p") + frame(CONT, b"b"), 1),
    "a ping of 0 bytes": Case(frame(PING), 1),
    "a ping of 125 bytes": Case(frame(PING, b"p" * 125), 1),
    "a ping of any bytes": Case(frame(PING, bytes(range(125))), 1),
    "three pings": Case(frame(PING, b"1") + frame(PING, b"2") + frame(PING, b"3"), 3),
    "a pong that nobody asked for": Case(frame(PONG, b"x") + text(), 1),
    "a ping cut everywhere": Case(frame(PING, b"ping"), 1, cut=1),
    "a mask of zeros": Case(b"\x81\x82\0\0\0\0hi", 1),
    "a length of 16 bits that was not needed": Case(sized(TEXT, 5, 16), 1),
    "a length of 64 bits that was not needed": Case(sized(TEXT, 5, 64), 1),
    "several texts at once": Case(b"".join(text(str(n).encode()) for n in range(20)), 20),
}
CLOSES: dict[str, Case] = {
    **{
        f"close code {code}": Case(close_frame(code), last=b"")
        for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)
    },
    **{
        f"illegal close code {code}": Case(close_frame(code), last=b"")
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
    },
    "a close without a code": Case(frame(CLOSE), last=b""),
    "a close of one byte": Case(frame(CLOSE, b"\x03"), last=b""),
    "a close with a reason": Case(close_frame(1000, SMILE), last=b""),
    "a close with the longest reason": Case(close_frame(1000, b"r" * 123), last=b""),
    "a close with a reason that is no UTF-8": Case(close_frame(1000, b"\xff\xfe"), last=b""),
    "a close with a reason cut in a code point": Case(close_frame(1000, SMILE[:1]), last=b""),
    "a close of 126 bytes": Case(close_frame(1000, b"r" * 124), last=b""),
    "a close in fragments": Case(frame(CLOSE, struct.pack("!H", 1000), fin=False), last=b""),
    "a text behind a close": Case(close_frame(1000) + text(), last=b""),
    "a ping behind a close": Case(close_frame(1000) + frame(PING, b"p"), last=b""),
    "two closes": Case(close_frame(1000) + close_frame(1001), last=b""),
    "a close between fragments": Case(text(b"a", fin=False) + close_frame(1000), last=b""),
}
BROKEN: dict[str, Case] = {
    **{f"reserved bit {bit}": Case(frame(TEXT, b"x", rsv=bit), last=b"") for bit in (1, 2, 4, 7)},
    **{f"opcode {opcode}": Case(frame(opcode, b"x"), last=b"") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "reserved bit on a ping": Case(frame(PING, b"x", rsv=1), last=b""),
    "reserved bit on a continuation": Case(text(b"a", fin=False) + frame(CONT, b"b", rsv=4), last=b""),
    "a text without a mask": Case(text(b"x", mask=False), last=b""),
    "a ping without a mask": Case(frame(PING, b"x", mask=False), last=b""),
    "an empty text without a mask": Case(text(b"", mask=False), last=b""),
    "a close without a mask": Case(frame(CLOSE, b"\x03\xe8", mask=False), last=b""),
    "a ping of 126 bytes": Case(frame(PING, b"p" * 126), last=b""),
    "a ping in fragments": Case(frame(PING, b"p", fin=False), last=b""),
    "a pong of 126 bytes": Case(frame(PONG, b"p" * 126), last=b""),
    "a continuation of nothing": Case(frame(CONT, b"x"), last=b""),
    "a continuation of nothing, not the last": Case(frame(CONT, b"x", fin=False), last=b""),
    "a continuation behind a whole text": Case(text() + frame(CONT, b"x"), last=b""),
    "a text inside a text": Case(text(b"a", fin=False) + text(b"b"), last=b""),
    "a binary inside a text": Case(text(b"a", fin=False) + frame(BINARY, b"b"), last=b""),
    "no UTF-8": Case(text(b"\xff"), last=b""),
    "an overlong code point": Case(text(b"\xc0\xaf"), last=b""),
    "a surrogate in UTF-8": Case(text(b"\xed\xa0\x80"), last=b""),
    "beyond Unicode": Case(text(b"\xf4\x90\x80\x80"), last=b""),
    "a code point cut at the end": Case(text(SMILE[:-1]), last=b""),
    "no UTF-8 in the second fragment": Case(text(b"a", fin=False) + frame(CONT, b"\xff"), last=b""),
    "one byte too large": Case(text(b"x" * (LIMIT + 1)), last=b""),
    "too large in fragments": Case(text(b"x" * LIMIT, fin=False) + frame(CONT, b"xx"), last=b""),
    "too large by its length alone": Case(b"\x81\xff" + struct.pack("!Q", 1 << 40) + b"\0" * 4, last=b""),
    "an impossible length": Case(BROKEN_LENGTH, last=b""),
    "a request in plain HTTP": Case(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", last=b""),
}
HALF: dict[str, Case] = {
    "half-closed at once": Case(b"", last=b"", eof=True),
    "half-closed behind a text": Case(text(), 1, last=b"", eof=True),
    "half-closed in a frame": Case(text(b"x" * 100)[:50], last=b"", eof=True),
    "half-closed in a header": Case(b"\x81", last=b"", eof=True),
    "half-closed between fragments": Case(text(b"a", fin=False), last=b"", eof=True),
    "half-closed behind a close": Case(close_frame(1000), last=b"", eof=True),
}
CASES = GOOD | CLOSES | BROKEN | HALF
OVER_TLS = ("a text of 65536", "a ping between fragments", "close code 1000", "reserved bit 1", "no UTF-8",
            "one byte too large", "a text without a mask", "several texts at once")  # fmt: skip

# Where we answer otherwise, and why. Left: ours, right: the library's.
Seen = list[tuple[int, bytes]]
END = (CLOSE, struct.pack("!H", 1000))
INTENDED: dict[str, tuple[Seen, Seen, str]] = {
    "a ping between fragments": (
        [(TEXT, b"ab"), (PONG, b"p"), END],
        [(PONG, b"p"), (TEXT, b"ab"), END],
        "what a segment brought is answered in the callback, its pongs leave after that; the library has a task",
    ),
    "a continuation behind a whole text": (
        [(TEXT, b"x"), (CLOSE, struct.pack("!H", 1002))],
        [(CLOSE, struct.pack("!H", 1002))],
        "the text was whole before the failure and has its answer; the library's task comes too late for it",
    ),
}


async def play(client: RawClient, case: Case) -> Seen:
    """All frames that come, but for the error frame that explains a failure (only ours has one)."""
    seen: Seen = []
    step = case.cut or len(case.data) or 1
    for start in range(0, len(case.data), step):
        client.write(case.data[start : start + step])
        if case.cut:
            await asyncio.sleep(0)
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while len(seen) < case.answers:
            await read(client, seen)
        client.write(case.last)
        if case.eof:
            client.writer.write_eof()
        while True:
            await read(client, seen)
    return seen


async def read(client: RawClient, seen: Seen) -> None:
    opcode, payload = await client.read_frame()
    if not (opcode == TEXT and payload.startswith(b'{"type":"error"')):
        seen.append((opcode, payload[:2] if opcode == CLOSE else payload))  # the reason is for people


async def echo(socket: library.ServerConnection) -> None:
    with suppress(ConnectionClosed):
        async for message in socket:
            await socket.send(message)


@asynccontextmanager
async def reference(context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async with library.serve(echo, "127.0.0.1", 0, max_size=LIMIT, compression=None, ssl=context) as server:
        yield next(iter(server.sockets)).getsockname()[1]


async def upgraded(port: int, context: ssl.SSLContext | None) -> RawClient:
    client = RawClient(*await asyncio.open_connection("127.0.0.1", port, ssl=context))
    client.write(upgrade_request())
    assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
    return client


async def both(case: Case, tls: Tls | None = None) -> tuple[Seen, Seen, int]:
    """What is seen of us and of the library; how often the peer was told the end."""
    ours = theirs = None
    if tls is not None:
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        theirs.load_cert_chain(tls.cert, tls.key)
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ours.check_hostname, ours.verify_mode = False, ssl.CERT_NONE
    async with running(Limits(frame_bytes=LIMIT), tls=tls) as rig, reference(theirs) as port:
        clients = [await upgraded(rig.server.port, ours), await upgraded(port, ours)]
        peer: EchoPeer = rig.peer
        seen, expected = [await play(client, case) for client in clients]
        for client in clients:
            client.close()
        async with asyncio.timeout(5):
            await peer.gone.wait()
        return seen, expected, peer.closings


def on(loop: str, work: Callable[[], Awaitable[tuple[Seen, Seen, int]]]) -> tuple[Seen, Seen, int]:
    async def worked() -> tuple[Seen, Seen, int]:
        return await work()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(worked())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", CASES)
def test_a_client_sees_of_us_what_it_sees_of_the_library(name: str, loop: str) -> None:
    seen, expected, closings = on(loop, lambda: both(CASES[name]))
    assert closings == 1
    compare(name, seen, expected)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", OVER_TLS)
def test_over_tls_as_well(name: str, loop: str, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    seen, expected, closings = on(loop, lambda: both(CASES[name], certificate))
    assert closings == 1
    compare(name, seen, expected)


def compare(name: str, seen: Seen, expected: Seen) -> None:
    if name in INTENDED:
        assert (seen, expected) == INTENDED[name][:2], INTENDED[name][2]
    else:
        assert seen == expected


UPGRADES: dict[str, bytes] = {
    "as it should be": upgrade_request(),
    "upper case": upgrade_request(Upgrade="WebSocket", Connection="UPGRADE"),
    "among other options": upgrade_request(Connection="keep-alive, Upgrade"),
    "an extension": upgrade_request(extra="Sec-WebSocket-Extensions: permessage-deflate\r\n"),
    "an extension nobody knows": upgrade_request(extra="Sec-WebSocket-Extensions: x-nobody; a=1\r\n"),
    "a subprotocol": upgrade_request(extra="Sec-WebSocket-Protocol: chat\r\n"),
    "no key": upgrade_request().replace(b"Sec-WebSocket-Key: ", b"X-Key: "),
    "a short key": upgrade_request(Sec_WebSocket_Key="c2hvcnQ="),
    "a key that is no base64": upgrade_request(Sec_WebSocket_Key="!" * 24),
    "two keys": upgrade_request(extra="Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"),
    "no version": upgrade_request().replace(b"Sec-WebSocket-Version: 13", b"X-Version: 13"),
    "version 8": upgrade_request(Sec_WebSocket_Version="8"),
    "two versions": upgrade_request(extra="Sec-WebSocket-Version: 8\r\n"),
    "no upgrade": upgrade_request().replace(b"Upgrade: websocket", b"X-Upgrade: websocket"),
    "POST": upgrade_request().replace(b"GET ", b"POST ", 1),
    "HTTP/1.0": upgrade_request().replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
}
REFUSED_OTHERWISE = {  # ours, the library's, why
    "no upgrade": (200, 426, "on our port it is a plain request, answered by the HTTP side"),
    "POST": (400, 405, "every refusal of an upgrade is our error object, and this one an `invalid_payload`"),
    "HTTP/1.0": (400, 505, "as above"),
    "no HTTP": (400, 0, "as above; the library hangs up without a word"),
}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", UPGRADES)
def test_an_upgrade_is_accepted_or_refused_as_the_library_does(name: str, loop: str) -> None:
    async def status(port: int) -> int:
        client = RawClient(*await asyncio.open_connection("127.0.0.1", port))
        client.write(UPGRADES[name])
        try:
            head = (await client.read_head()).decode("latin-1")
            assert "sec-websocket-extensions" not in head.lower(), "nothing is compressed"
            accepted = f"sec-websocket-accept: {accept_key(KEY.decode())}".lower() in head.lower()
            assert accepted == head.startswith("HTTP/1.1 101 ")
            return int(head.split()[1])
        except asyncio.IncompleteReadError:
            return 0
        finally:
            client.close()

    async def both_say() -> tuple[int, int]:
        async with running() as rig, reference() as port:
            return await status(rig.server.port), await status(port)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        ours, theirs = runner.run(both_say())
    if name in REFUSED_OTHERWISE:
        assert (ours, theirs) == REFUSED_OTHERWISE[name][:2], REFUSED_OTHERWISE[name][2]
    else:
        assert ours == theirs


def test_there_are_enough_cases_and_no_intended_difference_without_one() -> None:
    assert len(CASES) >= 40
    assert set(INTENDED) <= set(CASES)
