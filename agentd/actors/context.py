"""What a model call is given: a session's words around its state, and the prompt made of them.

The state holds only which entries are in working memory (rulings 1); their contents, and the results of the current
run's tasks, are this cache. It is filled from facts as they are stored, and from the store when a session is loaded or
a run starts from another leaf.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from agentd.core.state import Run, Session
from agentd.core.window import held_ids
from agentd.protocol import facts as f
from agentd.protocol.codec import decode_fact
from agentd.store.store import Store

PATH_ENTRIES = 64
SLACK = 64  # contents that may linger until the next clearing


_SILENT = frozenset({f.RunAccepted, f.AgentProgress, f.AgentPlan, f.ToolCalled, f.ToolResult, f.ToolFailed, f.Warned})


class Words:
    """Contents of the entries of one session's working memory, and results of its current run."""

    def __init__(self) -> None:
        self.contents: dict[str, str] = {}
        self.results: dict[str, Any] = {}
        self.failures: dict[str, str] = {}
        self.ahead: dict[str, str] = {}

    def heard(self, facts: Sequence[f.AnyFact], before: Session, after: Session) -> None:
        """Keep the words of a stored step; let go of those that left working memory."""
        for fact in facts:
            if type(fact) in _SILENT:  # most facts of a turn, and each would be held against all cases
                continue
            match fact:
                case f.RunStarted():
                    self._jumped(fact.window or (), fact.summaries)
                    run = after.runs.get(fact.run or "") or before.runs.get(fact.run or "")
                    accepted = (a.content for a in facts if isinstance(a, f.RunAccepted) and a.run == fact.run)
                    self.contents[fact.entry] = run.content if run is not None else next(accepted, "")
                    self.results, self.failures = {}, {}
                case f.RunInput(entry=str() as entry):
                    self.contents[entry] = fact.content
                case f.SessionReceive():
                    self.contents[fact.entry] = fact.content
                case f.AgentStatus():
                    self._ended(fact)
                case f.MemoryEvent():
                    self._remembered(fact)
                case f.MemoryImported():
                    self.contents.update({item.id: item.content for item in fact.items})
                case f.SessionLeaf() | f.SessionCreated():
                    self._jumped(fact.window, fact.summaries)
                case f.RunCompleted() | f.RunFailed() | f.RunCancelled():
                    if fact.memory is not None:
                        self.contents[fact.memory.id] = fact.plan or ""
                case _:
                    pass
        self._forget(after)

    async def load(self, store: Store, state: Session) -> None:
        """Everything that the state speaks of, read from the store."""
        ids = held_ids(state)
        rows = await store.entries(ids)
        self.contents = {name: row.content for name, row in rows.items()}
        run = state.run
        if run is not None:
            await self._load_results(store, run)

    async def path(self, store: Store, leaf: str) -> list[tuple[str, str, str]]:
        """(id, role, content) of the newest entries that end in `leaf`, oldest first; also kept in the cache."""
        rows = await store.path(leaf, PATH_ENTRIES)
        return [(row.id, row.role, row.content) for row in reversed(rows)]

    def _ended(self, fact: f.AgentStatus) -> None:
        if fact.status == "done":
            self.results[fact.task] = fact.result
        elif fact.cause is not None:
            self.failures[fact.task] = fact.cause.message

    async def _load_results(self, store: Store, run: Run) -> None:
        after = 0
        while True:
            page = await store.read_run(run.id, after)
            for body in page.bodies:
                fact = decode_fact(body)
                if isinstance(fact, f.AgentStatus):
                    self._ended(fact)
            if not page.bodies:
                return
            after = page.first + len(page.bodies) - 1

    def _jumped(self, window: Sequence[f.WindowItem], summaries: Sequence[f.SummaryItem]) -> None:
        """Words of a path that was read ahead of the step."""
        if not self.ahead:
            return
        for name in [*(item.id for item in window), *(item.id for item in summaries)]:
            if name in self.ahead:
                self.contents[name] = self.ahead[name]

    def _remembered(self, fact: f.MemoryEvent) -> None:
        if fact.item is not None:
            self.contents[fact.item.id] = fact.summary or ""
        if fact.content is not None:
            self.contents.update(dict.fromkeys(fact.ids, fact.content))
        if fact.event == "forget":
            self.contents.update({name: "" for name in (*fact.ids, *fact.replaces) if name in self.contents})
            self.ahead = {}
        for item in fact.window or ():
            if item.id not in self.contents and item.id in self.ahead:
                self.contents[item.id] = self.ahead[item.id]

    def _forget(self, after: Session) -> None:
        """Only what working memory holds now, and the run in progress."""
        if len(self.contents) <= 2 * (len(after.window) + len(after.summaries)) + SLACK:
            return
        kept = set(held_ids(after))
        run = after.run
        prefix = f"{run.id}." if run is not None else None
        self.contents = {
            name: text for name, text in self.contents.items()
            if name in kept or (prefix is not None and name.startswith(prefix))
        }  # fmt: skip


def text_of(result: Any) -> str:
    """A task's result as evidence for a model."""
    return result if isinstance(result, str) else msgspec.json.encode(result).decode()
