"""Questions about what is remembered: working memory, long-term memory, the tree of entries.

Which entries are in working memory says the published state; their words come from a reader of the store. A client sees
the whole session with all its branches and epochs; `on_path` says what the next turn could draw on (rulings 32).
"""

from typing import Literal, cast

from msgspec.structs import replace

from agentd.actors.session import SessionActor
from agentd.core.state import Session
from agentd.core.tokens import byte_length, cut_to_bytes
from agentd.core.window import held_ids
from agentd.protocol import commands as c
from agentd.protocol import replies as r
from agentd.store.store import EntryRow, Found

SNIPPET_CHARS = 500
RECALL_MAX = 128
REPLY_BYTES = 768 * 1024
KINDS = {"entry": ["message"], "summary": ["summary"], "plan": ["plan"], "note": ["note"], "all": None}

Kind = Literal["entry", "summary", "plan", "note"]


async def recall(actor: SessionActor, frame: c.MemoryRecall, ts: int) -> r.MemoryRecallReply:
    """What working memory holds, in the order of the conversation; then, if asked for, what it does not hold."""
    state, store = actor.state, actor.shared.store
    ids = held_ids(state)
    rows = await store.entries(ids)
    held = [rows[name] for name in ids if name in rows][-frame.limit :]
    items = [_item(row, state, True, None, frame.include_full) for row in held]
    left = frame.limit - len(items)
    if frame.include_archived and left > 0:
        found = await store.query(state.key, leaf=state.leaf, limit=min(RECALL_MAX, left + len(ids)))
        known = frozenset(ids)
        older = [one for one in found if one.row.id not in known][:left]
        items = [*(_found(one, state, frame.include_full) for one in reversed(older)), *items]
    return r.MemoryRecallReply(session=state.key, ts=ts, items=_within(items))


async def query(actor: SessionActor, frame: c.MemoryQuery, ts: int) -> r.MemoryQueryReply:
    """Both memories at once, without duplicates: every entry is one row."""
    state = actor.state
    found = await actor.shared.store.query(
        state.key, leaf=state.leaf, topic=frame.topic or None, ids=list(frame.memory_ids or ()) or None,
        kinds=KINDS[frame.kind], since=frame.since, until=frame.until, epoch=frame.epoch, limit=frame.limit + 1,
        offset=frame.offset,
    )  # fmt: skip
    items = _within([_found(one, state, frame.include_full) for one in found[: frame.limit]])
    after = frame.offset + frame.limit if len(found) > frame.limit else None
    return r.MemoryQueryReply(session=state.key, ts=ts, items=items, next=after)


async def tree(actor: SessionActor, frame: c.SessionTree, ts: int) -> r.TreeReply:
    state = actor.state
    nodes = await actor.shared.store.tree(state.key, state.leaf, limit=frame.limit, before=frame.before)
    shown = tuple(
        r.TreeNode(id=one.id, parent=one.parent, role=one.role, snippet=one.snippet, run=one.run, ts=one.ts)
        for one in nodes
    )
    after = shown[-1].id if len(shown) == frame.limit else None
    return r.TreeReply(session=state.key, ts=ts, leaf=state.leaf, nodes=shown, next=after)


def _found(one: Found, state: Session, full: bool) -> r.MemoryItem:
    return _item(one.row, state, one.on_path, one.score, full)


def _item(row: EntryRow, state: Session, on_path: bool, score: float | None, full: bool) -> r.MemoryItem:
    marks = {item.id: item for item in state.window}
    ram = row.id in marks or any(one.id == row.id for one in state.summaries)
    content, cut = row.content, False
    if not full and len(content) > SNIPPET_CHARS:
        content, cut = content[:SNIPPET_CHARS], True
    return r.MemoryItem(
        id=row.id, kind=cast(Kind, "entry" if row.kind == "message" else row.kind), source="ram" if ram else "ltm",
        role=row.role, content=content, epoch=row.epoch, ts=row.ts, origin=row.origin, on_path=on_path,
        related_to=row.related_to, range=(row.first, row.last) if row.first and row.last else None,
        score=round(score, 4) if score is not None else None, pinned=row.id in marks and marks[row.id].pinned,
        truncated=cut, forgotten=row.forgotten,
    )  # fmt: skip


def _within(items: list[r.MemoryItem]) -> tuple[r.MemoryItem, ...]:
    """A reply is bounded in bytes: the large items share what the small ones leave."""
    share = REPLY_BYTES // max(len(items), 1)
    return tuple(
        item if len(item.content) * 4 <= share or byte_length(item.content) <= share
        else replace(item, content=cut_to_bytes(item.content, share), truncated=True)
        for item in items
    )  # fmt: skip
