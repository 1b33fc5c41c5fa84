"""What a test hears of a model call, and a clock that only moves when somebody sleeps on it."""

from collections.abc import Callable

from agentd.clock import SystemClock, Timer
from agentd.providers.provider import Message, ModelRequest, Purpose


class Recorded:
    """Events of one call, in order."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.retries: list[tuple[int, str, int]] = []
        self.on_text: Callable[[str], object] = lambda text: None

    def text(self, text: str) -> None:
        self.texts.append(text)
        self.on_text(text)

    def retry(self, attempt: int, kind: str, wait_ms: int) -> None:
        self.retries.append((attempt, kind, wait_ms))

    @property
    def shown(self) -> str:
        return "".join(self.texts)


class QuickClock(SystemClock):
    """Real time, but sleeping takes none and is written down; `chance` is what `random` gives."""

    def __init__(self, chance: float = 0.5) -> None:
        super().__init__()
        self.slept_s: list[float] = []
        self.chance = chance

    async def sleep(self, delay_s: float) -> None:
        self.slept_s.append(delay_s)

    def random(self) -> float:
        return self.chance

    def call_later(self, delay_s: float, call: Callable[[], object]) -> Timer:
        return super().call_later(delay_s, call)


def asked(*turns: str, system: str | None = None, purpose: Purpose = "answer") -> ModelRequest:
    """A request whose turns are user and assistant in turn, the last one the user's."""
    first = len(turns) % 2  # an odd number of turns begins with the user
    said = [Message("user" if place % 2 != first else "assistant", turn) for place, turn in enumerate(turns)]
    head = [] if system is None else [Message("system", system)]
    return ModelRequest((*head, *said), purpose)
