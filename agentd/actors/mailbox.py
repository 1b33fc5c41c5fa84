"""A bounded mailbox with lanes: work can't crowd out control, and results always have their slot (design 1.4).

Within a step everything is taken in the order it came, whatever its lane; the lanes only bound how much may wait.
"""

from typing import Literal

import msgspec

from agentd.actors.caller import Caller
from agentd.core.intents import AnyIntent

Lane = Literal["work", "control", "result"]


class Envelope(msgspec.Struct, frozen=True):
    """One intent on its way; `caller` when a client waits for its reply."""

    intent: AnyIntent
    lane: Lane
    caller: Caller | None = None


class Mailbox:
    """What waits for one session. Results and timers are bounded by what was started, not here."""

    def __init__(self, work_max: int, control_max: int) -> None:
        self._waiting: list[Envelope] = []  # no deque: an empty one takes 0.7 KiB, and there is one for each session
        self._room = {"work": work_max, "control": control_max}
        self.limit = {"work": work_max, "control": control_max}

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, envelope: Envelope) -> bool:
        """False when its lane is full."""
        if envelope.lane != "result":
            if not self._room[envelope.lane]:
                return False
            self._room[envelope.lane] -= 1
        self._waiting.append(envelope)
        return True

    def put_back(self, envelopes: list[Envelope]) -> None:
        """What could not be stored is tried again, before anything that came later; only results and timers are."""
        self._waiting[:0] = envelopes

    def take_all(self) -> list[Envelope]:
        taken, self._waiting = self._waiting, []
        self._room.update(self.limit)
        return taken
