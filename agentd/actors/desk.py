"""What a worker sees of its session."""

from typing import Protocol

from agentd.actors.caller import Caller
from agentd.actors.context import Words
from agentd.actors.feed import Feed
from agentd.actors.mailbox import Lane
from agentd.actors.shared import Shared
from agentd.core.intents import AnyIntent
from agentd.core.state import Session


class Desk(Protocol):
    """The published state, the words around it, the followers, and the way back."""

    shared: Shared
    state: Session
    words: Words
    feed: Feed

    def tell(self, intent: AnyIntent, lane: Lane, caller: Caller | None = None) -> None: ...
