"""What a model call is given: a session's words around its state, and the prompt made of them.

The state holds only which entries are in working memory (rulings 1); their contents, and the results of the current
run's tasks, are this cache. It is filled from facts as they are stored, and from the store when a session is loaded or
a run starts from another leaf.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from agentd.core.state import Run, Session
from agentd.protocol import facts as f
from agentd.protocol.codec import decode_fact
from agentd.store.store import Store

PATH_ENTRIES = 64


class Words:
    """Contents of the entries of one session's working memory, and results of its current run."""

    def __init__(self) -> None:
        self.contents: dict[str, str] = {}
        self.results: dict[str, Any] = {}
        self.failures: dict[str, str] = {}

    def heard(self, facts: Sequence[f.AnyFact], before: Session, after: Session) -> None:
        """Keep the words of a stored step; let go of those that left working memory."""
        for fact in facts:
            match fact:
                case f.RunStarted():
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
                case f.MemoryEvent() | f.SessionEpoch() | f.SessionLeaf():
                    self._forget(after)
                case _:
                    pass

    async def load(self, store: Store, state: Session) -> None:
        """Everything that the state speaks of, read from the store."""
        ids = [item.id for item in state.window]
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

    def _forget(self, after: Session) -> None:
        kept = {item.id for item in after.window}
        run = after.run
        prefix = f"{run.id}." if run is not None else None
        self.contents = {
            name: text for name, text in self.contents.items()
            if name in kept or (prefix is not None and name.startswith(prefix))
        }  # fmt: skip


def window_items(path: Sequence[tuple[str, str, str]]) -> tuple[f.WindowItem, ...]:
    """What a jump to another leaf takes into working memory."""
    return tuple(
        f.WindowItem(id=name, role=role, kind="message", bytes=len(content.encode())) for name, role, content in path
    )


def text_of(result: Any) -> str:
    """A task's result as evidence for a model."""
    return result if isinstance(result, str) else msgspec.json.encode(result).decode()
