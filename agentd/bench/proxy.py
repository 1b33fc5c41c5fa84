"""A proxy that spoils frames on their way to the clients, so that everybody can see the bench fail: `--fault KIND`.

It passes everything on as it is, HTTP included, until enough frames of its kind have gone by; then it commits its one
fault, once, on one socket. A bench that does not name it afterwards would not have noticed a server that did the same.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec

from agentd.supervisor import Supervisor

AFTER = 5
"""Frames of its kind that pass before the fault."""
Frame = dict[str, Any]
_ENDS = ("run.completed", "run.failed", "run.cancelled")


def _is(*types: str) -> Callable[[Frame], bool]:
    return lambda frame: frame.get("type") in types


def _has_figures(frame: Frame) -> bool:
    return "backpressure" in frame


def _off_by_one(frame: Frame) -> list[Frame]:
    figures = frame["backpressure"]
    return [{**frame, "backpressure": {**figures, "pending": figures["pending"] + 1}}]


def _one_accepted_more(frame: Frame) -> list[Frame]:
    figures = frame["backpressure"]
    return [{**frame, "backpressure": {**figures, "total": figures["total"] + 1, "pending": figures["pending"] + 1}}]


def _cut(frame: Frame) -> list[Frame]:
    return [{**frame, "content": frame["content"][: len(frame["content"]) // 2]}]


FAULTS: dict[str, tuple[Callable[[Frame], bool], Callable[[Frame], list[Frame]], str]] = {
    "lose-fact": (_is("run.started"), lambda frame: [], "seq-missing"),
    "double-end": (_is(*_ENDS), lambda frame: [frame, frame], "ended-twice"),
    "lose-end": (_is(*_ENDS), lambda frame: [], "never-ended"),
    "figure": (_has_figures, _off_by_one, "figures-law"),
    "total": (lambda frame: _has_figures(frame) and "seq" in frame, _one_accepted_more, "figures-plan"),
    "cut-reply": (_is("session.receive"), _cut, "reply-cut"),
    "lose-delta": (_is("session.delta"), lambda frame: [], "reply-cut"),
    "lose-answer": (lambda frame: "request" in frame, lambda frame: [], "unanswered"),
    "double-answer": (lambda frame: "request" in frame, lambda frame: [frame, frame], "answered-twice"),
    "garble": (_is("run.started"), lambda frame: [{**frame, "seq": "one"}], "unreadable"),
}
"""By name: which frames, what becomes of the one, and the breach that has to be told for it."""


class Spoiler:
    """Commits one fault once. Frames are read only until then."""

    def __init__(self, fault: str) -> None:
        self._matches, self._change, _ = FAULTS[fault]
        self._passed = 0
        self.done = False

    def spoil(self, data: bytes) -> list[bytes]:
        """The frames to send instead of this one."""
        if self.done:
            return [data]
        frame = msgspec.json.decode(data)
        if not self._matches(frame):
            return [data]
        self._passed += 1
        if self._passed <= AFTER:
            return [data]
        self.done = True
        return [msgspec.json.encode(changed) for changed in self._change(frame)]


class _Wire:
    """The server's bytes of one connection, cut into its (unmasked, unfragmented) frames after the upgrade's answer."""

    def __init__(self, spoiler: Spoiler) -> None:
        self._spoiler = spoiler
        self._buffer = b""
        self._upgraded: bool | None = None

    def passed(self, data: bytes) -> bytes:
        """What of `data` and what was kept goes on now."""
        self._buffer += data
        out = b""
        if self._upgraded is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return b""
            self._upgraded = b" 101 " in self._buffer.split(b"\r\n", 1)[0]
            out, self._buffer = self._buffer[: end + 4], self._buffer[end + 4 :]
        if not self._upgraded:
            out, self._buffer = out + self._buffer, b""
            return out
        while (size := _frame_size(self._buffer)) is not None and len(self._buffer) >= size[0] + size[1]:
            head, body = size
            frame, self._buffer = self._buffer[: head + body], self._buffer[head + body :]
            if frame[0] != 0x81:
                out += frame
            else:
                out += b"".join(_framed(text) for text in self._spoiler.spoil(frame[head:]))
        return out


@asynccontextmanager
async def spoiled(url: str, fault: str, supervisor: Supervisor) -> AsyncIterator[str]:
    """The address of a proxy in front of the server at `url` that commits `fault`."""
    parts = urlsplit(url)
    spoiler = Spoiler(fault)

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_connection(parts.hostname, parts.port)
        except OSError:
            return writer.close()
        wire = _Wire(spoiler)
        supervisor.start("proxy.up", _pump(reader, to_server, lambda data: data))
        await _pump(from_server, writer, wire.passed)

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: Callable[[bytes], bytes]) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(change(data))
            await writer.drain()
    except OSError:
        pass  # either side went away: so does the other
    finally:
        writer.close()


def _frame_size(data: bytes) -> tuple[int, int] | None:
    """Bytes of head and body of an unmasked frame; None when the head is not there yet."""
    if len(data) < 2:
        return None
    short = data[1] & 0x7F
    if short < 126:
        return 2, short
    more = 2 if short == 126 else 8
    return (2 + more, int.from_bytes(data[2 : 2 + more], "big")) if len(data) >= 2 + more else None


def _framed(text: bytes) -> bytes:
    size = len(text)
    if size < 126:
        return bytes((0x81, size)) + text
    return (b"\x81\x7e" + size.to_bytes(2, "big") if size < 1 << 16 else b"\x81\x7f" + size.to_bytes(8, "big")) + text
