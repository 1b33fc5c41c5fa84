"""Cuts a stream of server-sent events into the data of each event, and nothing more.

Only `data` fields are kept: chat completions use no other. The line splitting is the standard's (LF, CRLF or CR) for
the two endings that servers use; bytes are never decoded here, because the JSON decoder takes bytes and most chunks
hold whole events. An event that is longer than `event_bytes_max` is an error, so that a stream without a line end costs
a bounded amount.
"""

EVENT_BYTES_MAX = 1_048_576


class EventTooLong(Exception):
    """One event exceeds the bound."""


class EventSplitter:
    """Feed it what arrives, however it is cut."""

    def __init__(self, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self._max = event_bytes_max
        self._rest = b""  # the line that has not ended yet
        self._data: list[bytes] = []  # the lines of the event that has not ended yet
        self._held = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that `chunk` completes.

        Raises:
            EventTooLong: the stream is of no further use.
        """
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        events: list[bytes] = []
        for line in lines:
            if line.startswith(b"data:"):
                data = line[5:].strip()
                self._data.append(data)
                self._held += len(data)
                if self._held > self._max:
                    raise EventTooLong
            elif self._data and line in (b"", b"\r"):
                events.append(self._taken())
        if len(self._rest) + self._held > self._max:
            raise EventTooLong
        return events

    def end(self) -> list[bytes]:
        """What stands at the end of the stream without its empty line: some servers leave it out."""
        if self._rest.startswith(b"data:"):
            self._data.append(self._rest[5:].strip())
        self._rest = b""
        return [self._taken()] if self._data else []

    def _taken(self) -> bytes:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data.clear()
        self._held = 0
        return data
