"""A decision in the making: facts get their numbers and are evolved one by one as they are written down.

`emit` is the only way in which a rule makes something happen, so that what a rule sees is always the state after the
facts before. Figures in a fact are those after the whole command (design 8): they are filled in when the draft closes.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from agentd.core.admission import run_figures
from agentd.core.evolve import evolve
from agentd.core.intents import Answer, Given
from agentd.core.state import Run, Session
from agentd.protocol.facts import AgentProgress, AnyFact, By, Grounds, RunAccepted, SessionCreated

F = TypeVar("F", bound=AnyFact)


class Decision(msgspec.Struct, frozen=True):
    """What a command led to; `state` is `evolve` over `facts`. No facts: nothing happened."""

    facts: tuple[AnyFact, ...]
    state: Session
    answer: Answer | None


class Draft:
    """One command's facts so far, and the state after them."""

    def __init__(self, state: Session, given: Given, by: By) -> None:
        self.state = state
        self.given = given
        self.by = by
        self.facts: list[AnyFact] = []
        self.results: dict[str, object] = {}
        self.workers = list(given.workers)
        self.models = given.models
        self.queue_room = given.queue_room
        self._now = max(given.now, state.ts)
        self._runs: dict[str, Run] = {}

    @property
    def now(self) -> int:
        return self._now

    @property
    def paused(self) -> bool:
        """The effective mode: a session is held when either it or the server says paused."""
        return self.given.server_paused or self.state.mode == "paused"

    def emit(self, kind: Callable[..., F], /, *, run: str | None = None, by: By | None = None, **fields: Any) -> F:
        """Write down one fact and evolve the state by it."""
        if self.state.seq == 0 and kind is not SessionCreated:
            self.emit(SessionCreated, by=self.by, agent=self.state.agent, owner=self.state.owner)
        if not self.facts:
            fields["grounds"] = self._grounds()
        run_seq = None
        if run is not None:
            run_seq = 1 if kind is RunAccepted else self.state.runs[run].run_seq + 1
        fact = kind(
            session=self.state.key, seq=self.state.seq + 1, ts=self._now, run=run, run_seq=run_seq, by=by, **fields
        )
        self.state = evolve(self.state, fact)
        if run is not None and run in self.state.runs:
            self._runs[run] = self.state.runs[run]
        self.facts.append(fact)
        return fact

    def _grounds(self) -> Grounds | None:
        """What who replays this decision could not see from its facts; mostly nothing."""
        given, told = self.given, None
        if given.caps is not self.state.caps and given.caps != self.state.caps:
            before = msgspec.structs.asdict(self.state.caps) if self.state.caps is not None else {}
            now = msgspec.structs.asdict(given.caps)
            told = {name: value for name, value in now.items() if name not in before or before[name] != value}
        room = given.queue_room if given.queue_room < given.caps.queued_per_session else None
        if told is None and room is None and given.nth == 1 and not given.server_paused:
            return None
        return Grounds(nth=given.nth, held="server" if given.server_paused else None, room=room, caps=told)

    def run(self, run: str) -> Run:
        """That run as it is now, or as it was when it ended within this draft."""
        return self.state.runs.get(run) or self._runs[run]

    def close(self, answer: Answer | None) -> Decision:
        facts = [self._figured(fact) if isinstance(fact, AgentProgress) else fact for fact in self.facts]
        return Decision(facts=tuple(facts), state=self.state, answer=answer)

    def _figured(self, fact: AgentProgress) -> AgentProgress:
        run = self.run(fact.run or "")
        if run.kind == "chat":  # it has no plan, so there is nothing to tell
            return fact
        figures = run_figures(run, self.given.caps, self.given.retry_after_ms)
        return replace(fact, backpressure=figures)
