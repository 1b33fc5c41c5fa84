"""What a follower writes to: the bounded outbox of one socket (or SSE stream), as the actors see it.

The edge owns the outbox and its bounds (bytes and frames); the feed asks `full` before it hands over facts or deltas,
replies always go in.
"""

from collections.abc import Callable
from typing import Protocol


class Sink(Protocol):
    """One client's outbox."""

    on_drained: Callable[[], None] | None
    """Called on the loop when the outbox was full and has fallen under half of its bounds."""

    @property
    def full(self) -> bool:
        """At or over one of its bounds: facts and deltas have to wait."""
        ...

    @property
    def closed(self) -> bool: ...

    def send(self, frame: bytes, *, soon: bool = False) -> None:
        """Take one JSON text frame. Never blocks, never raises; on a closed sink it does nothing.

        All frames of one loop turn leave in one write. With `soon` the frame may wait for the flush window (about
        10 ms): deltas; the next frame without it takes them along in order.
        """
        ...

    def close(self, code: int, reason: str, *, last: bytes | None = None) -> None:
        """Send `last` ahead of the close frame, then close."""
        ...
