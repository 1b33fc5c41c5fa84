"""What all sessions of one server share: made by `app.py`, handed to each actor."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from msgspec.structs import replace

from agentd.actors.calibration import Calibration
from agentd.actors.dispatcher import Dispatcher
from agentd.actors.feed import Followed
from agentd.actors.identity_files import IdentityFiles
from agentd.actors.load import Load
from agentd.clock import Clock
from agentd.core.intents import Caps
from agentd.core.state import Session
from agentd.instruments import Histogram
from agentd.protocol.replies import Notice
from agentd.providers.provider import Provider
from agentd.settings import Settings
from agentd.store.store import Store
from agentd.supervisor import Supervisor
from agentd.telemetry import Metrics


@dataclass(frozen=True)
class Shared:
    """The parts behind a session. `term` is this owner's term at the log (constant on one node). `look`: the memory
    manager is shown each stored state; a plain call that only notes what has to be done.
    `forgetting`: sessions whose words are just being taken from the disk; no summary is made of them meanwhile."""

    settings: Settings
    caps: Caps
    clock: Clock
    supervisor: Supervisor
    store: Store
    term: int
    dispatcher: Dispatcher
    load: Load
    provider: Provider
    identity: IdentityFiles
    known_secrets: frozenset[str]
    notices: list[Notice]
    loop_lag_s: Callable[[], float]
    calibration: Calibration
    look: Callable[[Session], None]
    forgetting: set[str] = field(default_factory=set)
    followed: Followed = field(default_factory=Followed)
    metrics: Metrics = field(default_factory=Metrics)

    @contextmanager
    def timed(self, histogram: Histogram) -> Iterator[None]:
        """Observe how many seconds it took, however it ends."""
        begun_s = self.clock.monotonic_s()
        try:
            yield
        finally:
            histogram.observe(self.clock.monotonic_s() - begun_s)

    def caps_now(self) -> Caps:
        """The limits with the budget of working memory as it is in bytes now: `ram_tokens` of the model that is asked,
        as far as its tokens are known, may be less than `ram_bytes`."""
        tokens = self.settings.limits.ram_tokens
        most = int(tokens * self.calibration.bytes_per_token(self.provider.model))
        return self.caps if not tokens or most >= self.caps.ram_bytes else replace(self.caps, ram_bytes=most)
