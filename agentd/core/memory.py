"""Working memory: what may be in it, what leaves it, and what a summary may take the place of (rulings 29 to 34).

The budget counts entries and bytes of the window. A step that goes over it evicts at once, oldest first, so that it
holds after every step, whatever the memory manager does; what is evicted is in long-term memory since its own fact.
The manager begins at the high mark, before that happens, and puts a summary in the place of a range. The current turn
and what is pinned stay. One entry takes at most a quarter of the budget, pins at most half: so there is always room.
"""

from collections.abc import Sequence

import msgspec

from agentd.core.draft import Draft
from agentd.core.intents import (
    Answer,
    Caps,
    Compact,
    CompactFailed,
    EvictMemory,
    ForgetMemory,
    LoadMemory,
    MemoryChanged,
    Prune,
    SummarizeMemory,
    UpdateMemory,
)
from agentd.core.state import Run, Session
from agentd.core.summary import Said, extract
from agentd.core.tokens import byte_length, cut_to_bytes
from agentd.protocol import facts as f
from agentd.protocol.errors import Conflict, NotFound

SUMMARY_BYTES_MAX = 2_048
SUMMARIES_MAX = 8
MERGED_AT_ONCE = 4
RANGE_ENTRIES_MAX = 64
TOMBSTONES_HIGH = 16
PLAN_BYTES_MAX = 2_048


# ---- the budget ---------------------------------------------------------------------------------------------------


def held(content: str, caps: Caps) -> int | None:
    """Bytes that working memory keeps of an entry, when that is not all of it."""
    most = caps.ram_bytes // 4
    size = byte_length(content)
    return byte_length(cut_to_bytes(content, most)) if size > most else None


def level(state: Session, caps: Caps) -> float:
    """How full working memory is: 1 is its budget, in entries or in bytes, whichever is nearer."""
    return max(len(state.window) / caps.ram_entries, state.window_bytes / caps.ram_bytes)


def keep_within(draft: Draft) -> None:
    """After every command: what is over the budget leaves, oldest first, down to the high mark."""
    state, caps = draft.state, draft.given.caps
    if len(state.window) <= caps.ram_entries and state.window_bytes <= caps.ram_bytes:
        return
    kept = protected(state)
    entries, size, gone = len(state.window), state.window_bytes, list[str]()
    for item in state.window:
        if entries <= caps.ram_entries * caps.high_water and size <= caps.ram_bytes * caps.high_water:
            break
        if not item.pinned and item.id not in kept:
            gone.append(item.id)
            entries, size = entries - 1, size - item.bytes
    if gone:
        _tell_evicted(draft, tuple(gone), None)


def protected(state: Session) -> frozenset[str]:
    """The current turn: the words that the run in progress answers, and the newest entry."""
    run = state.run
    kept = {f"{run.id}.u", run.tip} if run is not None else set()
    kept.add(state.leaf)
    return frozenset(name for name in kept if name is not None)


def _tell_evicted(draft: Draft, ids: tuple[str, ...], by: f.By | None) -> f.MemoryEvent:
    state = draft.state
    gone = frozenset(ids)
    size = sum(item.bytes for item in state.window if item.id in gone)
    return draft.emit(
        f.MemoryEvent, by=by, event="evict", count=len(ids), ids=ids, range=(ids[0], ids[-1]),
        bytes_before=state.window_bytes, bytes_after=state.window_bytes - size, recall=recall_of(ids),
    )  # fmt: skip


def recall_of(ids: tuple[str, ...]) -> dict[str, object]:
    """The frame that brings these entries' words back."""
    return {"type": "memory.query", "memory_ids": list(ids[:RANGE_ENTRIES_MAX]), "limit": len(ids[:RANGE_ENTRIES_MAX])}


# ---- what a client does with it -------------------------------------------------------------------------------------


def load(draft: Draft, intent: LoadMemory) -> Answer:
    """An entry comes back; into a full memory it takes the place of the oldest that is not pinned."""
    state, caps = draft.state, draft.given.caps
    if any(item.id == intent.id for item in state.window):
        return MemoryChanged("memory.load", (intent.id,), state.window_bytes, state.window_bytes, already=True)
    item = draft.given.items.get(intent.id)
    if item is None:
        raise NotFound(f"no entry {intent.id} in this session's memory", kind="entry", hint="memory.query finds them.")
    kept = protected(state)
    window = [item, *state.window]
    while len(window) > caps.ram_entries or sum(one.bytes for one in window) > caps.ram_bytes:
        oldest = next((one for one in window[1:] if not one.pinned and one.id not in kept), None)
        if oldest is None:
            raise Conflict(
                "working memory is full of what may not leave it", details={"reason": "full"},
                hint="Take the pin off an entry with memory.update.",
            )  # fmt: skip
        window.remove(oldest)
    gone = {one.id for one in state.window} - {one.id for one in window}
    if gone:
        _tell_evicted(draft, tuple(one.id for one in state.window if one.id in gone), None)
    fact = draft.emit(
        f.MemoryEvent, by=draft.by, event="load", count=1, ids=(intent.id,), range=(intent.id, intent.id),
        bytes_before=state.window_bytes, bytes_after=sum(one.bytes for one in window), window=tuple(window),
        recall=recall_of((intent.id,)),
    )  # fmt: skip
    return MemoryChanged("memory.load", (intent.id,), fact.bytes_before, fact.bytes_after)


def update(draft: Draft, intent: UpdateMemory) -> Answer:
    state, caps = draft.state, draft.given.caps
    item = _in_window(state, intent.id)
    if intent.content is not None and state.run is not None and intent.id.startswith(f"{state.run.id}."):
        raise Conflict("the run in progress made this entry", details={"reason": "busy"}, retryable=True)
    if intent.pinned and not item.pinned:
        pinned = [one for one in state.window if one.pinned]
        if 2 * (len(pinned) + 1) > caps.ram_entries or 2 * (sum(p.bytes for p in pinned) + item.bytes) > caps.ram_bytes:
            raise Conflict(
                "pins take at most half of working memory", details={"reason": "pins"},
                hint="Take the pin off another entry first.",
            )  # fmt: skip
    before = state.window_bytes
    if intent.content is not None:
        _tell_update(draft, item, "update", intent.content, held(intent.content, caps))
    if intent.pinned is not None and intent.pinned != item.pinned:
        _tell_update(draft, item, "pin", None, None, intent.pinned)
    same = len(draft.facts) == 0
    return MemoryChanged("memory.update", (intent.id,), before, draft.state.window_bytes, already=same)


def _tell_update(
    draft: Draft, item: f.WindowItem, event: str, content: str | None, kept: int | None, pinned: bool | None = None
) -> None:
    before = draft.state.window_bytes
    size = item.bytes if content is None else kept if kept is not None else byte_length(content)
    draft.emit(
        f.MemoryEvent, by=draft.by, event=event, count=1, ids=(item.id,), range=(item.id, item.id),
        bytes_before=before, bytes_after=before - item.bytes + size, recall=recall_of((item.id,)),
        content=content, held=kept, pinned=pinned,
    )  # fmt: skip


def evict(draft: Draft, intent: EvictMemory) -> Answer:
    state = draft.state
    item = _in_window(state, intent.id)
    if item.id in protected(state):
        raise Conflict("the current turn stays in working memory", details={"reason": "current"})
    fact = _tell_evicted(draft, (intent.id,), draft.by)
    return MemoryChanged("memory.evict", (intent.id,), fact.bytes_before, fact.bytes_after)


def summarize(draft: Draft, intent: SummarizeMemory) -> Answer:
    """A client's own summary, or an extract: of entries that follow each other in working memory."""
    state, given = draft.state, draft.given
    places = [place for place, item in enumerate(state.window) if item.id in intent.ids]
    if len(places) != len(set(intent.ids)):
        missing = next(name for name in intent.ids if all(item.id != name for item in state.window))
        _in_window(state, missing)
    items = state.window[places[0] : places[-1] + 1]
    if len(items) != len(places) or any(item.loaded for item in items):
        raise Conflict("these entries do not follow each other", details={"reason": "range"})
    if any(item.id in protected(state) for item in items):
        raise Conflict("the current turn stays in working memory", details={"reason": "current"})
    text = intent.content
    if text is None:
        origins = {item.id: "user" if item.role == "user" else "agent" for item in items}
        said = [Said(item.role, origins[item.id], given.contents.get(item.id, "")) for item in items]
        text = extract(said, SUMMARY_BYTES_MAX)
    text = cut_to_bytes(text, SUMMARY_BYTES_MAX)
    origin = "user" if intent.content is not None or all(one.role == "user" for one in items) else "agent"
    tree = _in_tree(items)
    item = f.SummaryItem(
        id=intent.summary, first=tree[0], last=tree[-1], entries=len(items), bytes=byte_length(text), origin=origin,
    )  # fmt: skip
    fact = _tell_summary(draft, tuple(one.id for one in items), item, text, (), None, draft.by)
    return MemoryChanged("memory.summarize", fact.ids, fact.bytes_before, fact.bytes_after, summary=item.id)


def forget(draft: Draft, intent: ForgetMemory) -> Answer:
    """The entries stay in their places, without words; the shell blanks every copy on the disk afterwards."""
    state = draft.state
    for name in intent.ids:
        run = name.partition(".")[0]
        if run in state.runs:
            raise Conflict(
                f"{name} belongs to a run that has not ended", details={"reason": "busy", "run": run}, retryable=True,
                hint="Cancel the run, or wait for its end.",
            )  # fmt: skip
    gone = frozenset(intent.ids)
    size = sum(item.bytes for item in state.window if item.id in gone)
    fact = draft.emit(
        f.MemoryEvent, by=draft.by, event="forget", count=len(intent.ids), ids=intent.ids,
        range=(intent.ids[0], intent.ids[-1]), bytes_before=state.window_bytes, replaces=intent.summaries,
        bytes_after=state.window_bytes - size, recall={},
    )  # fmt: skip
    return MemoryChanged("memory.forget", intent.ids, fact.bytes_before, fact.bytes_after)


def _in_window(state: Session, name: str) -> f.WindowItem:
    found = next((item for item in state.window if item.id == name), None)
    if found is None:
        raise NotFound(f"{name} is not in working memory", kind="entry", hint="Bring it back with memory.load first.")
    return found


# ---- what the memory manager does with it ---------------------------------------------------------------------------


class Range(msgspec.Struct, frozen=True):
    """What to summarise next: entries in order, or `replaces` (summaries to be merged), or a `gap`."""

    first: str
    last: str
    ids: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    gap: bool = False
    entries: int = 0


def next_range(state: Session, caps: Caps, *, going: bool) -> Range | None:
    """The manager's next piece of work. It begins at the high mark and, once `going`, ends at the low mark."""
    if len(state.summaries) >= SUMMARIES_MAX:
        old = state.summaries[:MERGED_AT_ONCE]
        return Range(old[0].first, old[-1].last, replaces=tuple(one.id for one in old), entries=_count(old))
    if state.gaps:
        gap = state.gaps[0]
        return Range(gap.first, gap.last, gap=True, entries=gap.entries)
    full = level(state, caps)
    mark = caps.low_water if going else caps.high_water
    if full < mark and len(state.tombstones) < (1 if going else TOMBSTONES_HIGH):
        return None
    return _oldest(state, caps)


def _oldest(state: Session, caps: Caps) -> Range | None:
    """From the oldest on until the low mark would be met; a question is not parted from its answer."""
    kept = protected(state)
    taken = list(state.tombstones[:RANGE_ENTRIES_MAX])
    entries, size = len(state.window), state.window_bytes
    for item in state.window:
        low = entries <= caps.ram_entries * caps.low_water and size <= caps.ram_bytes * caps.low_water
        if low or item.id in kept or len(taken) >= RANGE_ENTRIES_MAX:
            break
        if not item.pinned and not item.loaded:
            taken.append(item)
            entries, size = entries - 1, size - item.bytes
    while len(taken) > 1 and taken[-1].role == "user":
        taken.pop()
    if not taken:
        return None
    ids, tree = tuple(item.id for item in taken), _in_tree(taken)
    return Range(tree[0], tree[-1], ids=ids, entries=len(ids))


def _in_tree(items: Sequence[f.WindowItem]) -> list[str]:
    """What a range begins and ends with: its entries. Plans stand outside the tree (rulings 34)."""
    return [item.id for item in items if item.kind == "message"] or [item.id for item in items]


def _count(summaries: tuple[f.SummaryItem, ...]) -> int:
    return sum(one.entries for one in summaries)


def compact(draft: Draft, intent: Compact) -> None:
    """A summary in the place of its range, if all of that is still where it was read; else nothing (rulings 33)."""
    state = draft.state
    there = {item.id for item in (*state.window, *state.tombstones)}
    summaries = {one.id for one in state.summaries}
    gaps = {(gap.first, gap.last) for gap in state.gaps}
    stale = (
        intent.epoch != state.epoch
        or intent.seq < state.forgot_seq
        or not there.issuperset(intent.ids)
        or not summaries.issuperset(intent.replaces)
        or (intent.gap and (intent.item.first, intent.item.last) not in gaps)
        or not protected(state).isdisjoint(intent.ids)
    )
    if stale:
        return
    text = cut_to_bytes(intent.content, SUMMARY_BYTES_MAX)
    item = msgspec.structs.replace(intent.item, bytes=byte_length(text))
    _tell_summary(draft, intent.ids, item, text, intent.replaces, intent.usage, None)


def _tell_summary(
    draft: Draft,
    ids: tuple[str, ...],
    item: f.SummaryItem,
    text: str,
    replaces: tuple[str, ...],
    usage: f.Usage | None,
    by: f.By | None,
) -> f.MemoryEvent:
    state = draft.state
    gone = frozenset(ids)
    size = sum(one.bytes for one in state.window if one.id in gone and not one.pinned)
    return draft.emit(
        f.MemoryEvent, by=by, event="summarize", count=item.entries, ids=ids, range=(item.first, item.last), item=item,
        summary=text, replaces=replaces, usage=usage, bytes_before=state.window_bytes,
        bytes_after=state.window_bytes - size,
        recall={"type": "session.history", "leaf_id": item.last, "limit": min(item.entries, 500)},
    )  # fmt: skip


def compact_failed(draft: Draft, intent: CompactFailed) -> None:
    """The range stays; who watches is told."""
    size = draft.state.window_bytes
    draft.emit(
        f.MemoryEvent, event="failed", count=intent.count, range=(intent.first, intent.last), bytes_before=size,
        bytes_after=size, recall={}, reason=intent.reason,
    )  # fmt: skip
    draft.emit(
        f.Warned, code="memory_failed", source="memory",
        message=f"{intent.count} entries could not be summarised: {intent.reason}",
    )  # fmt: skip


def prune(draft: Draft, intent: Prune) -> None:
    """Retention: entries that working memory does not hold lose their words in long-term memory."""
    state = draft.state
    inside = {item.id for item in (*state.window, *state.tombstones)} | {one.id for one in state.summaries}
    ids = tuple(name for name in intent.ids if name not in inside)
    if ids:
        draft.emit(
            f.MemoryEvent, event="prune", count=len(ids), ids=ids, range=(ids[0], ids[-1]),
            bytes_before=state.window_bytes, bytes_after=state.window_bytes, recall={},
        )  # fmt: skip


# ---- what is kept of a plan -----------------------------------------------------------------------------------------


def plan_text(run: Run) -> str:
    """A goal in a few lines: what was asked, and how each task ended."""
    lines = [f"goal: {run.goal or run.content}"]
    lines.extend(f"- {task.spec.title}: {task.status}" for task in run.tasks.values())
    text = "\n".join(lines)
    return text if byte_length(text) <= PLAN_BYTES_MAX else cut_to_bytes(text, PLAN_BYTES_MAX - 3) + "…"


def plan_kept(run: Run) -> dict[str, object]:
    """What the end of a goal that had a plan says of it for working memory (rulings 34)."""
    if run.kind != "goal" or not run.tasks or run.tip is None:
        return {}
    text = plan_text(run)
    item = f.WindowItem(id=f"{run.id}.p", role="system", kind="plan", bytes=byte_length(text))
    return {"memory": item, "plan": text}
