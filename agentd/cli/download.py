"""What the server says at length over HTTP, read as it comes: downloads, and streams of events. Blocking; every read
has a deadline, and a body that breaks off is never taken for a whole one.
"""

import http.client
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

import msgspec

from agentd.cli.address import Server
from agentd.cli.failure import UNREACHABLE, Failure, refused

SILENT_S = 45.0  # three pings of a stream, and more than a page of a download takes
ERROR_BYTES_MAX = 64 * 1024
READ_BYTES = 1 << 20
EVENT_BYTES_MAX = 4 << 20


class BrokenOff(Exception):
    """The connection ended before the answer did."""


class Event(msgspec.Struct, frozen=True):
    """An event of a stream; `data` is the frame byte for byte."""

    id: str | None
    type: str
    data: bytes


@contextmanager
def opened(server: Server, path: str, headers: Mapping[str, str] | None = None) -> Iterator[http.client.HTTPResponse]:
    """The answer to a GET, once it has begun well (status 200 or 204); to be read inside.

    Raises:
        Failure: nobody answers, or the server refuses. BrokenOff: it ends in the middle, also inside.
    """
    parts = urlsplit(server.url)
    host = parts.hostname or ""
    connection = (
        http.client.HTTPSConnection(host, parts.port, timeout=SILENT_S, context=ssl.create_default_context())
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, parts.port, timeout=SILENT_S)
    )
    try:
        response = _asked(connection, server, path, headers or {})
        try:
            yield response
        except BrokenPipeError:  # our own reader is gone, not the server
            raise
        except (OSError, http.client.HTTPException) as error:
            raise BrokenOff(str(error) or type(error).__name__) from error
    finally:
        connection.close()


def pages(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body in pieces of up to 1 MiB."""
    while piece := response.read(READ_BYTES):
        yield piece


def events(response: http.client.HTTPResponse) -> Iterator[Event]:
    """The events of a stream until it ends. Comments are passed over."""
    fields: dict[bytes, bytes] = {}
    while line := response.readline(EVENT_BYTES_MAX):
        name, _, value = line.rstrip(b"\n").partition(b":")
        if name:
            fields[name] = value.removeprefix(b" ")
        elif line == b"\n" and b"data" in fields:
            number = fields.get(b"id")
            yield Event(None if number is None else number.decode(), fields[b"event"].decode(), fields[b"data"])
            fields = {}


def _asked(
    connection: http.client.HTTPConnection, server: Server, path: str, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {server.token}", **headers})
        response = connection.getresponse()
        if response.status in (200, 204):
            return response
        body = response.read(ERROR_BYTES_MAX)
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise Failure(
            f"no server answers at {server.url}: {why}", "Start one with `agentd serve`, or name it with --url.",
            code=UNREACHABLE,
        ) from error  # fmt: skip
    try:
        raise refused(msgspec.json.decode(body, type=dict))
    except msgspec.MsgspecError:
        raise Failure(f"{server.url} answers {response.status} and no error object") from None
