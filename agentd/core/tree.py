"""The tree of a session's entries: which leaf is active, where a branch begins, what was imported into it.

Another leaf takes its path along: what the shell read of it comes in `given`, and stands in the fact, so that nothing
has to be read when the log is replayed (rulings 1).
"""

from agentd.core.draft import Draft
from agentd.core.intents import Answer, BeginBranch, Branched, Caps, Import, Imported, LeafSet, SetLeaf
from agentd.core.memory import held
from agentd.core.tokens import byte_length
from agentd.protocol import facts as f
from agentd.protocol.errors import Conflict, NotFound

IMPORTED = "imp:"
"""How the ids of entries of the older format begin: `imp:<timestamp>:<session>:<id>`."""


def within(path: tuple[f.WindowItem, ...], caps: Caps) -> tuple[f.WindowItem, ...]:
    """The newest of a path that working memory has room for."""
    taken: list[f.WindowItem] = []
    size = 0
    for item in reversed(path):
        size += item.bytes
        if taken and (len(taken) >= caps.ram_entries or size > caps.ram_bytes):
            break
        taken.append(item)
    return tuple(reversed(taken))


def set_leaf(draft: Draft, intent: SetLeaf) -> Answer:
    """The next turn goes on from there; a run in progress keeps its own path."""
    state, given = draft.state, draft.given
    if intent.leaf != state.leaf:
        if intent.leaf not in given.paths:
            raise NotFound(f"no entry {intent.leaf}", kind="entry", hint="session.tree lists the entries.")
        draft.emit(
            f.SessionLeaf, by=draft.by, leaf=intent.leaf, window=within(given.paths[intent.leaf], given.caps),
            summaries=given.path_summaries.get(intent.leaf, ()),
        )  # fmt: skip
    return LeafSet(leaf=draft.state.leaf)


def begin_branch(draft: Draft, intent: BeginBranch) -> Answer:
    """The first fact of a new session; its history up to the leaf is the other session's."""
    state = draft.state
    if state.seq:
        raise Conflict(
            f"session {state.key} exists", details={"reason": "exists"}, hint="Choose another key for the branch."
        )
    draft.emit(
        f.SessionCreated, by=draft.by, agent=state.agent, owner=state.owner,
        branched_from=f.BranchedFrom(session=intent.origin, entry=intent.leaf),
        window=within(intent.window, draft.given.caps), summaries=intent.summaries,
    )  # fmt: skip
    return Branched(leaf=intent.leaf)


def import_snapshot(draft: Draft, intent: Import) -> Answer:
    """One part of a snapshot of the older format, taken once. A session without words of its own goes on from it."""
    state, caps = draft.state, draft.given.caps
    if intent.timestamp_ms in state.imported:
        return Imported(already=True)
    messages = [item for item in intent.items if item.kind == "message"]
    ours = state.leaf is None or state.leaf.startswith(IMPORTED)
    leaf: str | None = None
    window: tuple[f.WindowItem, ...] = ()
    if messages and ours and not state.runs:
        leaf = messages[-1].id
        fresh = tuple(
            f.WindowItem(id=one.id, role=one.role, kind="message", bytes=held(one.content, caps) or _size(one))
            for one in messages
        )
        before = state.window if intent.part > 1 else ()
        window = within((*before, *fresh), caps)
    draft.emit(
        f.MemoryImported, by=draft.by, timestamp_ms=intent.timestamp_ms, reason=intent.reason, items=intent.items,
        part=intent.part, last=intent.last, leaf=leaf, window=window,
    )  # fmt: skip
    return Imported(already=False)


def _size(item: f.ImportedItem) -> int:
    return byte_length(item.content)
