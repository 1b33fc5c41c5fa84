"""What working memory holds, changed by facts: the window of the active path, summaries before it, tombstones.

`evolve` calls these; nothing here decides. Budgets are kept by the rules (memory.py): what a fact says was held is
taken as said, so that a log replays the same under other limits.
"""

from msgspec.structs import replace

from agentd.core.state import Gap, Session
from agentd.core.tokens import byte_length
from agentd.protocol import facts as f

TOMBSTONES_MAX = 256
GAPS_MAX = 32
IMPORTS_MAX = 1_000


def with_window(state: Session, window: tuple[f.WindowItem, ...]) -> Session:
    return replace(state, window=window, window_bytes=sum(item.bytes for item in window))


def size_of(content: str, size: int | None, held: int | None) -> int:
    """Bytes that working memory holds of an entry: what the fact says, else all of its words."""
    return held if held is not None else size if size is not None else byte_length(content)


def entered(state: Session, parent: str | None, entry: str, role: str, size: int) -> Session:
    """A new entry stands in the window only where it continues the active path (rulings 21)."""
    if state.leaf != parent:
        return state
    item = f.WindowItem(id=entry, role=role, kind="message", bytes=size)
    return replace(state, leaf=entry, window=(*state.window, item), window_bytes=state.window_bytes + size)


def jumped(
    state: Session, leaf: str | None, window: tuple[f.WindowItem, ...], summaries: tuple[f.SummaryItem, ...]
) -> Session:
    """Another leaf: its path takes the place of all that working memory held."""
    return replace(with_window(state, window), leaf=leaf, summaries=summaries, tombstones=(), gaps=())


def related(state: Session, item: f.WindowItem, tip: str | None) -> Session:
    """A plan's item is in memory while the entry that it belongs to is the newest of the active path."""
    return with_window(state, (*state.window, item)) if state.leaf == tip else state


def told(state: Session, fact: f.MemoryEvent) -> Session:
    match fact.event:
        case "evict":
            return _evicted(state, fact)
        case "load":
            kept = tuple(item for item in state.tombstones if item.id not in fact.ids)
            return replace(with_window(state, fact.window or ()), tombstones=kept)
        case "summarize":
            return _summarized(state, fact)
        case "update" | "pin":
            state = with_window(state, tuple(_updated(item, fact) for item in state.window))
            return replace(state, forgot_seq=fact.seq) if fact.content is not None else state
        case "forget":
            return _forgotten(state, fact)
        case _:
            return state


def _evicted(state: Session, fact: f.MemoryEvent) -> Session:
    gone = frozenset(fact.ids) or _old_range(state, fact)
    out = tuple(item for item in state.window if item.id in gone and not item.loaded)
    left = tuple(item for item in state.window if item.id not in gone)
    return replace(with_window(state, left), tombstones=(*state.tombstones, *out)[-TOMBSTONES_MAX:])


def _old_range(state: Session, fact: f.MemoryEvent) -> frozenset[str]:
    """The first release told evictions by their range: all up to its end that was not pinned."""
    ids = [item.id for item in state.window]
    upto = ids.index(fact.range[1]) + 1 if fact.range[1] in ids else 0
    return frozenset(item.id for item in state.window[:upto] if not item.pinned)


def _summarized(state: Session, fact: f.MemoryEvent) -> Session:
    """A summary takes the place of its range, and of the summaries that it was made from."""
    if fact.item is None:
        return state
    gone, old = frozenset(fact.ids), frozenset(fact.replaces)
    kept = [item for item in state.summaries if item.id not in old]
    place = next((n for n, item in enumerate(state.summaries) if item.id in old), len(kept))
    kept.insert(min(place, len(kept)), fact.item)
    state = with_window(state, tuple(item for item in state.window if item.id not in gone or item.pinned))
    return replace(
        state,
        summaries=tuple(kept),
        tombstones=tuple(item for item in state.tombstones if item.id not in gone),
        gaps=tuple(gap for gap in state.gaps if (gap.first, gap.last) != (fact.item.first, fact.item.last)),
    )


def _updated(item: f.WindowItem, fact: f.MemoryEvent) -> f.WindowItem:
    if item.id not in fact.ids:
        return item
    if fact.pinned is not None:
        item = replace(item, pinned=fact.pinned)
    if fact.content is not None:
        item = replace(item, bytes=size_of(fact.content, fact.bytes, fact.held))
    return item


def _forgotten(state: Session, fact: f.MemoryEvent) -> Session:
    """The entries stay in their places without words; summaries that held them go, and are to be made anew."""
    gone, old = frozenset(fact.ids), frozenset(fact.replaces)
    window = tuple(replace(item, bytes=0) if item.id in gone else item for item in state.window)
    tombstones = tuple(replace(item, bytes=0) if item.id in gone else item for item in state.tombstones)
    if f"{state.last_goal_run}.u" in gone:
        state = replace(state, last_goal=None, last_goal_run=None)
    holes = [Gap(first=one.first, last=one.last, entries=one.entries) for one in state.summaries if one.id in old]
    return replace(
        with_window(state, window),
        tombstones=tombstones,
        summaries=tuple(item for item in state.summaries if item.id not in old),
        gaps=(*state.gaps, *holes)[-GAPS_MAX:],
        forgot_seq=fact.seq,
    )


def held_ids(state: Session) -> list[str]:
    """Everything in working memory: the summaries, then the window, oldest first."""
    return [*[item.id for item in state.summaries], *[item.id for item in state.window]]


def imported(state: Session, fact: f.MemoryImported) -> Session:
    known = (*state.imported, fact.timestamp_ms)[-IMPORTS_MAX:] if fact.last else state.imported
    if fact.leaf is not None:
        state = jumped(state, fact.leaf, fact.window, ())
    return replace(state, imported=known)
