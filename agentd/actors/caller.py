"""Who asked: the way back of a reply to the one socket (or HTTP request) that a command came from."""

from typing import Protocol

from agentd.protocol.errors import AgentdError
from agentd.protocol.replies import Reply
from agentd.protocol.signals import Signal


class Caller(Protocol):
    """One request's way back; exactly one of these is called, once. None of them blocks or raises."""

    def is_fact(self, session: str, seq: int, body: bytes) -> None:
        """The fact `seq` is the reply. Called before it is published."""
        ...

    def done(self, session: str, seq: int, reply: Reply | Signal) -> None:
        """A reply that belongs behind the fact `seq`; `request` is filled in here."""
        ...

    def refused(self, session: str, seq: int, error: AgentdError) -> None: ...

    def repeated(self, session: str, run: str) -> None:
        """An idempotency key was used before, for `run`, which has ended: look its end up."""
        ...

    @property
    def waits(self) -> bool:
        """It wants the run's end (`wait: true`) instead of its acceptance."""
        ...
