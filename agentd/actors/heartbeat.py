"""The heartbeat of all followed sessions: one sweep, monotonic, no model call, nothing is woken (S17)."""

from msgspec.structs import replace

from agentd.actors.directory import Directory
from agentd.actors.seat import Seat
from agentd.actors.shared import Shared
from agentd.core.heartbeat import permitted
from agentd.protocol.codec import encode
from agentd.protocol.signals import Liveness


def liveness(seat: Seat, operator: bool) -> Liveness:
    """A beat of one session, as somebody with or without the scope `operator` may see it."""
    found, figures = seat.beat()
    return Liveness(
        session=seat.key,
        ts=seat.shared.clock.now_ms(),
        phase="heartbeat",
        status=found.status,
        message=found.message,
        suggestions=permitted(found.suggestions, operator),
        backpressure=figures,
    )


class Heartbeat:
    """Beats every `interval_s` to whoever is level with the log."""

    def __init__(self, shared: Shared, directory: Directory) -> None:
        self._shared = shared
        self._directory = directory

    async def run(self) -> None:
        """For ever; a session in memory without followers costs nothing."""
        settings = self._shared.settings.heartbeat
        while True:
            await self._shared.clock.sleep(settings.interval_s)
            for seat in self._directory:
                if seat.feed.followers:
                    self.tell(seat)

    def tell(self, seat: Seat) -> None:
        everything = liveness(seat, operator=True)
        reduced = replace(everything, suggestions=permitted(everything.suggestions, False))
        chat = None if reduced == everything else encode(reduced)
        seat.feed.signal(encode(everything), chat)
