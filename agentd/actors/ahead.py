"""What a step is given beside the state: read from the store before it, so that the rules never wait (design 1.2).

A path may only be taken by a session whose history it is: its own entries, or those that its branch shares.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from agentd.actors.shared import Shared
from agentd.core import intents as i
from agentd.core.draft import Decision
from agentd.core.memory import SUMMARIES_MAX, held
from agentd.core.state import Session
from agentd.core.tokens import byte_length
from agentd.protocol import facts as f
from agentd.protocol.codec import decode_fact
from agentd.store.store import EntryRow, Store

PATH_ENTRIES = 64
PATHS_MAX = 64


class Ahead(msgspec.Struct):
    """What was read before the step, and what its own commands add to it."""

    keys: dict[str, i.UsedKey] = {}
    ended_runs: set[str] = set()
    results: dict[str, Any] = {}
    identity: str | None = None
    items: dict[str, f.WindowItem] = {}
    contents: dict[str, str] = {}

    def learn(self, decision: Decision) -> None:
        for fact in decision.facts:
            if isinstance(fact, f.RunAccepted) and fact.key is not None:
                self.keys[fact.key] = i.UsedKey(run=fact.run or "", body_hash=fact.body_hash or "")
            elif isinstance(fact, f.AgentStatus) and fact.status == "done":
                self.results[fact.task] = fact.result
            elif isinstance(fact, f.RUN_ENDS) and fact.run is not None:
                self.ended_runs.add(fact.run)


class Path(msgspec.Struct, frozen=True):
    """What working memory would hold at a leaf, with its words."""

    window: tuple[f.WindowItem, ...]
    summaries: tuple[f.SummaryItem, ...]
    contents: dict[str, str]


class Paths:
    """The paths that accepted runs will start from, and those that were just asked for."""

    def __init__(self) -> None:
        self.windows: dict[str, tuple[f.WindowItem, ...]] = {}
        self.summaries: dict[str, tuple[f.SummaryItem, ...]] = {}
        self.contents: dict[str, str] = {}

    def know(self, leaf: str, path: Path) -> None:
        if len(self.windows) >= PATHS_MAX:
            oldest = next(iter(self.windows))
            del self.windows[oldest]
            self.summaries.pop(oldest, None)
        self.windows[leaf] = path.window
        self.summaries[leaf] = path.summaries
        self.contents.update(path.contents)

    def keep(self, leaf: str, state: Session, contents: dict[str, str]) -> None:
        """The active path, before it is left for a fresh epoch: queued runs still start there (rulings 21)."""
        self.know(leaf, Path(state.window, state.summaries, contents))

    def heard(self, facts: Sequence[f.AnyFact], after: Session) -> None:
        """A stored step: what it forgot loses its words here too, and its summaries go (rulings 30)."""
        for fact in facts:
            if isinstance(fact, f.MemoryEvent) and fact.event == "forget":
                self._blank(frozenset(fact.ids), frozenset(fact.replaces))
        self.forget(after)

    def _blank(self, ids: frozenset[str], summaries: frozenset[str]) -> None:
        for name in (ids | summaries) & self.contents.keys():
            self.contents[name] = ""
        for leaf, window in self.windows.items():
            self.windows[leaf] = tuple(replace(item, bytes=0) if item.id in ids else item for item in window)
        for leaf, found in self.summaries.items():
            self.summaries[leaf] = tuple(item for item in found if item.id not in summaries)

    def forget(self, state: Session) -> None:
        """Only what unfinished runs still need."""
        if not self.windows:
            return
        needed = {run.leaf_id for run in state.runs.values() if run.state == "queued"}
        if not needed:
            self.windows.clear()
            self.summaries.clear()
            self.contents.clear()


async def read_ahead(
    shared: Shared, state: Session, intents: Sequence[i.AnyIntent], paths: Paths, contents: dict[str, str]
) -> Ahead:
    """All that the rules of this step may need and the state does not hold."""
    ahead, store = Ahead(), shared.store
    starts = bool(state.queue)
    for intent in intents:
        match intent:
            case i.StartRun():
                starts = True
                if intent.key is not None and intent.key not in ahead.keys:
                    used = await store.key(state.key, intent.key)
                    if used is not None:
                        ahead.keys[intent.key] = i.UsedKey(run=used.run, body_hash=used.body_hash)
                if intent.leaf_id is not None:
                    await know(shared, state, paths, intent.leaf_id)
            case i.SetLeaf():
                await know(shared, state, paths, intent.leaf)
            case i.Cancel(run=str() as name) if name not in state.runs:
                row = await store.run(name)
                if row is not None and row.session == state.key:
                    ahead.ended_runs.add(name)
            case i.NewEpoch() | i.ClearSaturation():
                if state.leaf is not None:
                    paths.keep(state.leaf, state, contents)
            case i.LoadMemory():
                row_ = await owned(store, state, intent.id)
                if row_ is not None and not row_.forgotten:
                    ahead.items[intent.id] = _item(row_, shared.caps, loaded=True)
                    ahead.contents[intent.id] = row_.content
            case i.SummarizeMemory(content=None):
                rows = await store.entries(list(intent.ids))
                ahead.contents.update({name: row.content for name, row in rows.items()})
            case _:
                pass
    if starts and _may_begin(state, intents):
        ahead.identity = (await shared.identity.read(state.agent)).hash
    return ahead


def _may_begin(state: Session, intents: Sequence[i.AnyIntent]) -> bool:
    """Whether this step may begin a run. While one is asking a model nothing does that only adds to the queue or looks
    again: in overload that is two steps of three, and each would look at the identity files (40 us a turn)."""
    run = state.run
    if run is None or run.state != "running" or run.phase == "working":
        return True
    return any(
        not isinstance(intent, i.StartRun | i.Wake | i.Warn | i.AddInput)
        or (isinstance(intent, i.StartRun) and intent.mode == "interrupt")
        for intent in intents
    )


async def know(shared: Shared, state: Session, paths: Paths, leaf: str) -> None:
    """Read the path that ends in `leaf`, if it is this session's."""
    if leaf in paths.windows:
        return
    row = await owned(shared.store, state, leaf)
    if row is not None and row.kind == "message":
        paths.know(leaf, await path_to(shared, leaf))


async def owned(store: Store, state: Session, entry: str) -> EntryRow | None:
    """The entry, if it is in this session's history: its own, or on the path that its branch shares."""
    row = (await store.entries([entry])).get(entry)
    if row is None or row.session == state.key:
        return row
    if not state.branched:
        return None
    found = await store.query(state.key, leaf=state.leaf, ids=[entry], limit=1)
    return found[0].row if found else None


async def path_to(shared: Shared, leaf: str) -> Path:
    """The newest entries of the path, and the summaries before them."""
    rows = list(reversed(await shared.store.path(leaf, PATH_ENTRIES)))
    contents = {row.id: row.content for row in rows}
    window = tuple(_item(row, shared.caps) for row in rows)
    inside = frozenset(contents)
    summaries = []
    for item, text in await _summaries(shared.store, leaf):
        if item.first not in inside:
            summaries.append(item)
            contents[item.id] = text
    return Path(window, tuple(summaries), contents)


async def _summaries(store: Store, leaf: str) -> list[tuple[f.SummaryItem, str]]:
    """Those that the path wholly holds and no later one of it replaced, oldest first."""
    found = await store.summaries(leaf, 4 * SUMMARIES_MAX)
    taken: list[tuple[f.SummaryItem, str]] = []
    replaced: set[str] = set()
    for row, body in sorted(found, key=lambda one: (one[0].ts, one[0].seq), reverse=True):
        if row.id in replaced or len(taken) == SUMMARIES_MAX:
            continue
        fact = decode_fact(body)
        if isinstance(fact, f.MemoryEvent) and fact.item is not None and fact.item.id == row.id:
            taken.append((fact.item, row.content))
            replaced.update(fact.replaces)
    taken.reverse()
    return taken


def _item(row: EntryRow, caps: i.Caps, *, loaded: bool = False) -> f.WindowItem:
    size = held(row.content, caps)
    return f.WindowItem(
        id=row.id, role=row.role, kind=row.kind, bytes=size if size is not None else byte_length(row.content),
        loaded=loaded,
    )  # fmt: skip


def run_paths(state: Session) -> Sequence[str]:
    """Leaves from which queued runs will start."""
    return [run.leaf_id for run in state.runs.values() if run.leaf_id is not None and run.state == "queued"]
