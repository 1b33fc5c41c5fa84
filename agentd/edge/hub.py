"""What all sockets of one server share: the door, the limits, the flusher, and who is there."""

import asyncio

import msgspec

from agentd.clock import Clock
from agentd.edge.door import Door
from agentd.edge.flush import Flusher
from agentd.edge.framing import SharedFrames
from agentd.edge.keepalive import Watched
from agentd.edge.limits import Limits
from agentd.supervisor import Supervisor


class Figures(msgspec.Struct):
    """Counters since the start, for the metrics."""

    accepted: int = 0
    refused: int = 0
    refusals: dict[str, int] = {}
    """The same by the code of the error."""
    silent: int = 0
    stalled: int = 0
    failed: int = 0
    """Closed for broken framing, bad text, or a message too large."""
    faults: int = 0
    """Closed because of an exception on our side."""
    reading_pauses: int = 0
    header_timeouts: int = 0


class Hub:
    """Made once for a server and handed to each of its connections."""

    def __init__(self, door: Door, clock: Clock, supervisor: Supervisor, limits: Limits) -> None:
        self.door = door
        self.clock = clock
        self.supervisor = supervisor
        self.limits = limits
        self.flusher = Flusher(clock, limits.flush_window_s)
        self.frames = SharedFrames()
        self.sockets: set[Watched] = set()
        """Every WebSocket from its upgrade request to the end of its connection."""
        self.left = asyncio.Event()
        """Set whenever a connection of any kind has ended."""
        self.draining = False
        self.figures = Figures()
