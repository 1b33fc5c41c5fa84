"""Lines of standard input, one at a time and only when asked for, without ever blocking the event loop.

A thread of its own reads, because a terminal, a pipe and a file can't all be waited for by the loop. It is a daemon
that reads the descriptor itself: a thread that is blocked inside `sys.stdin` would make the interpreter's end fail.
"""

import asyncio
import os
import queue
import threading

READ_BYTES = 65_536
LINE_BYTES_MAX = 1 << 20  # more than any server takes; the rest of the line is another one


class Lines:
    """Made and used on the event loop's thread."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._asked: queue.SimpleQueue[asyncio.Future[str | None]] = queue.SimpleQueue()
        self._buffer = bytearray()
        threading.Thread(target=self._serve, name="lines", daemon=True).start()

    def next(self) -> asyncio.Future[str | None]:
        """The next line without its end; None when there are no more."""
        future: asyncio.Future[str | None] = self._loop.create_future()
        self._asked.put(future)
        return future

    def _serve(self) -> None:
        while True:
            future = self._asked.get()
            line = self._line()
            try:
                self._loop.call_soon_threadsafe(_give, future, line)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

    def _line(self) -> str | None:
        while True:
            end = self._buffer.find(b"\n")
            if end < 0 and len(self._buffer) < LINE_BYTES_MAX:
                try:
                    more = os.read(self._fd, READ_BYTES)
                except OSError:  # the terminal is gone
                    more = b""
                if more:
                    self._buffer += more
                    continue
                end = len(self._buffer)
                if not end:
                    return None
            cut = end if 0 <= end <= LINE_BYTES_MAX else LINE_BYTES_MAX
            line = bytes(self._buffer[:cut])
            del self._buffer[: cut + (self._buffer[cut : cut + 1] == b"\n")]
            return line.decode(errors="replace").removesuffix("\r")


def _give(future: asyncio.Future[str | None], line: str | None) -> None:
    if not future.done():
        future.set_result(line)
