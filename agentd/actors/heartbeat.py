"""The heartbeat of all followed sessions: one sweep, monotonic, no model call, nothing is woken (S17)."""

from msgspec.structs import replace

from agentd.actors.directory import Directory
from agentd.actors.session import SessionActor
from agentd.actors.shared import Shared
from agentd.core.admission import session_figures
from agentd.core.heartbeat import beat, permitted
from agentd.protocol.codec import encode
from agentd.protocol.signals import Liveness


def liveness(actor: SessionActor, operator: bool) -> Liveness:
    """A beat of one session, as somebody with or without the scope `operator` may see it."""
    shared, state = actor.shared, actor.state
    found = beat(state, shared.load.server_paused)
    return Liveness(
        session=state.key,
        ts=shared.clock.now_ms(),
        phase="heartbeat",
        status=found.status,
        message=found.message,
        suggestions=permitted(found.suggestions, operator),
        backpressure=session_figures(state, shared.caps, shared.load.retry_after_ms(state.mode == "paused")),
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
            for actor in self._directory:
                if actor.feed.followers:
                    self.tell(actor)

    def tell(self, actor: SessionActor) -> None:
        everything = liveness(actor, operator=True)
        reduced = replace(everything, suggestions=permitted(everything.suggestions, False))
        chat = None if reduced == everything else encode(reduced)
        actor.feed.signal(encode(everything), chat)
