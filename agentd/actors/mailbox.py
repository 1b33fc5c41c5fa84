"""A bounded mailbox with lanes: work can't crowd out control, and results always have their slot (design 1.4).

Within a step everything is taken in the order it came, whatever its lane; the lanes only bound how much may wait.
"""

from collections import deque
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
        self._waiting: deque[Envelope] = deque()
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
        self._waiting.extendleft(reversed(envelopes))

    def take_all(self) -> list[Envelope]:
        taken = list(self._waiting)
        self._waiting.clear()
        self._room.update(self.limit)
        return taken
