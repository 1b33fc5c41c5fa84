"""A client of server-sent events for tests: reads what is sent and nothing else, one event at a time."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

WAIT_S = 20.0


@dataclass(frozen=True)
class Event:
    """`id` is None where the event had none; `data` as it came."""

    id: str | None
    kind: str
    data: str

    @property
    def frame(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.data)
        return found


class Events:
    """One request for a stream. `status` and `headers` are there after `async with`; of another status, `body`."""

    def __init__(self, url: str, path: str, token: str | None = None, *, method: str = "GET", **headers: str) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.pings = 0
        self.last: str | None = None
        self._url = urlsplit(url)
        fields = {
            "Host": f"{self._url.hostname}:{self._url.port}",
            **{k.replace("_", "-"): v for k, v in headers.items()},
        }
        if token is not None:
            fields["Authorization"] = f"Bearer {token}"
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        self._request = "\r\n".join(lines).encode()

    async def __aenter__(self) -> "Events":
        async with asyncio.timeout(WAIT_S):
            self._reader, self._writer = await asyncio.open_connection(
                self._url.hostname, self._url.port, limit=8 << 20
            )
            self._writer.write(self._request)
            status = await self._reader.readline()
            self.status = int(status.split()[1])
            while (line := (await self._reader.readline()).strip()) != b"":
                name, _, value = line.decode().partition(":")
                self.headers[name.lower()] = value.strip()
            if "content-length" in self.headers:
                self.body = await self._reader.readexactly(int(self.headers["content-length"]))
        self._text = b""
        self._over = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.transport.abort()

    async def next(self) -> Event | None:
        """The next event; None when the response has ended. Raises when it breaks off."""
        async with asyncio.timeout(WAIT_S):
            while True:
                text, separator, rest = self._text.partition(b"\n\n")
                if separator:
                    self._text = rest
                    found = self._parsed(text.decode())
                    if found is not None:
                        return found
                    continue
                if self._over:
                    assert not self._text, "it ended inside of an event"
                    return None
                await self._chunk()

    async def until(self, wanted: Callable[[Event], bool]) -> list[Event]:
        """Events up to the first that is wanted."""
        found: list[Event] = []
        while True:
            event = await self.next()
            assert event is not None, f"it ended after {found}"
            found.append(event)
            if wanted(event):
                return found

    async def rest(self) -> list[Event]:
        """Everything up to the end of the response."""
        found: list[Event] = []
        while (event := await self.next()) is not None:
            found.append(event)
        return found

    async def ended(self) -> None:
        """Return when the server has closed or cut the connection, whatever is left to be read."""
        async with asyncio.timeout(WAIT_S):
            try:
                while await self._reader.read(1 << 20):
                    pass
            except ConnectionError:
                return

    async def _chunk(self) -> None:
        size = int(await self._reader.readuntil(b"\r\n"), 16)
        self._text += (await self._reader.readexactly(size + 2))[:-2]
        self._over = size == 0

    def _parsed(self, text: str) -> Event | None:
        fields: dict[str, str] = {}
        for line in text.split("\n"):
            name, _, value = line.partition(":")
            if name == "":
                self.pings += 1
            else:
                assert name not in fields, f"{name} twice in one event"
                fields[name] = value.removeprefix(" ")
        if not fields:
            return None
        self.last = fields.get("id", self.last)
        return Event(fields.get("id"), fields["event"], fields["data"])


def facts(events: list[Event]) -> list[Event]:
    """Those that are stored: what has an id."""
    return [event for event in events if event.id is not None]
