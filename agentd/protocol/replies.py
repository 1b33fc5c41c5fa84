"""Replies: what answers one request, on the socket that asked (protocol.md, 2 to 4). Not stored.

A request that starts a run is answered by its `run.accepted` fact itself, with `request` added to its bytes for that
one socket; everything else is answered by one of these or by an `error`.
"""

from typing import Any, Literal

import msgspec

from agentd.protocol.facts import Cause, Mode, RunState, Usage

Reset = Literal["pruned", "ahead", "other_log"]


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    session: str
    ts: int
    request: str | None = None


class Notice(msgspec.Struct, frozen=True, gc=False):
    """A warning that a client is greeted with."""

    code: str
    message: str


class ServerInfo(msgspec.Struct, frozen=True, gc=False):
    version: str


class ProviderInfo(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    name: str
    model: str | None = None
    offline: bool


class IdentityInfo(msgspec.Struct, frozen=True, gc=False):
    """`hash` and `bytes` of the merged text."""

    hash: str
    bytes: int
    warnings: tuple[str, ...]


class SessionAck(Reply, frozen=True, tag="session.ack"):
    """The greeting. `seq`: last durable number (0: none), `first`: oldest kept, `log` names the database."""

    agent: str
    protocol: int
    server: ServerInfo
    scopes: tuple[str, ...]
    seq: int
    first: int
    log: str
    mode: Mode
    restored: bool
    provider: ProviderInfo
    limits: dict[str, int]
    identity: IdentityInfo
    warnings: tuple[Notice, ...]
    reset: Reset | None = None
    paused_by: tuple[Literal["session", "server"], ...] | None = None


class Pong(Reply, frozen=True, tag="pong"):
    pass


class RunAcceptedAgain(Reply, frozen=True, tag="run.accepted"):
    """The answer to a repeated idempotency key: the run's state now, without `seq`."""

    run: str
    state: RunState
    repeated: bool


class RunResult(Reply, frozen=True, tag="run.result"):
    run: str
    state: RunState
    content: str
    usage: Usage
    cause: Cause | None = None


class ControlDone(Reply, frozen=True, tag="control.done"):
    """Counts only for cancel (rulings 17); `already` when the same decision stood."""

    action: str
    queued_cancelled: int | None = None
    active_cancelled: int | None = None
    still_running: int | None = None
    already: bool | None = None
    sessions: int | None = None


class SessionNewDone(Reply, frozen=True, tag="session.new"):
    archived: int
    epoch: int


class SessionResetDone(Reply, frozen=True, tag="session.reset"):
    archived: int
    epoch: int


class SessionResumed(Reply, frozen=True, tag="session.resumed"):
    """The facts `from_`+1 .. `to` follow, then live ones; `from` on the wire."""

    from_: int = msgspec.field(name="from")
    to: int
    reset: Reset | None = None


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An entry of the transcript."""

    id: str
    parent: str | None
    role: str
    content: str
    run: str | None
    ts: int
    kind: str


class HistoryReply(Reply, frozen=True, tag="session.history"):
    """Oldest first; the newest `limit` of the path that ends in `leaf`."""

    entries: tuple[Entry, ...]
    leaf: str | None


class SessionLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    key: str
    agent: str
    owner: str
    mode: str
    epoch: int
    seq: int
    first: int
    unfinished: int
    updated: int


class SessionListReply(Reply, frozen=True, tag="session.list"):
    sessions: tuple[SessionLine, ...]
    next: str | None = None


class EventsPage(Reply, frozen=True, tag="events.page"):
    """Facts as they stand in the log; `next` is the `after` of the next page, absent on the last."""

    events: tuple[msgspec.Raw, ...]
    next: int | None = None


class TracePage(Reply, frozen=True, tag="trace.page"):
    run: str
    events: tuple[msgspec.Raw, ...]


class TraceEnd(Reply, frozen=True, tag="trace.end"):
    run: str
    count: int
    valid: bool
    problems: tuple[str, ...]


class Shadowed(msgspec.Struct, frozen=True, gc=False):
    heading: str
    by: str


class IdentityLayer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    name: str
    path: str
    bytes: int
    headings: tuple[str, ...]
    shadowed: tuple[Shadowed, ...]
    truncated: bool


class IdentityReport(Reply, frozen=True, tag="identity.report"):
    hash: str
    layers: tuple[IdentityLayer, ...]
    bytes: int = 0
    warnings: tuple[str, ...] = ()


class ContextPart(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    kind: str
    entries: int
    bytes: int
    tokens: int


class ContextReply(Reply, frozen=True, tag="session.context"):
    """What the next model call would get; `budget` in tokens."""

    budget: int
    parts: tuple[ContextPart, ...]
    cut: tuple[str, ...]


class TreeNode(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`parent` is an entry's id or null; `snippet` its first characters."""

    id: str
    parent: str | None
    role: str
    snippet: str
    run: str | None
    ts: int


class TreeReply(Reply, frozen=True, tag="session.tree"):
    """Newest first; `next` is the `before` of the next page."""

    leaf: str | None
    nodes: tuple[TreeNode, ...]
    next: str | None = None


class LeafReply(Reply, frozen=True, tag="session.leaf"):
    leaf: str | None


class BranchedReply(Reply, frozen=True, tag="session.branched"):
    new_session: str
    leaf: str


class MemoryItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Something remembered. `source`: in working memory (ram) or only in long-term memory (ltm). `content` is cut to
    500 characters (`truncated`) unless all of it was asked for. `range`: first and last entry of a summary."""

    id: str
    kind: Literal["entry", "summary", "plan", "note"]
    source: Literal["ram", "ltm"]
    role: str
    content: str
    epoch: int
    ts: int
    origin: str
    on_path: bool
    related_to: str | None = None
    range: tuple[str, str] | None = None
    score: float | None = None
    pinned: bool = False
    truncated: bool = False
    forgotten: bool = False


class MemoryRecallReply(Reply, frozen=True, tag="memory.recall"):
    """In the order of the conversation, summaries first."""

    items: tuple[MemoryItem, ...]


class MemoryQueryReply(Reply, frozen=True, tag="memory.query"):
    """Best first. `next` is the `offset` of the next page."""

    items: tuple[MemoryItem, ...]
    next: int | None = None


class MemoryDone(Reply, frozen=True):
    """Bytes of working memory around the change; `already`: it was so before."""

    memory_ids: tuple[str, ...]
    bytes_before: int
    bytes_after: int
    already: bool | None = None


class MemoryLoadDone(MemoryDone, frozen=True, tag="memory.load"):
    pass


class MemoryUpdateDone(MemoryDone, frozen=True, tag="memory.update"):
    pass


class MemoryEvictDone(MemoryDone, frozen=True, tag="memory.evict"):
    pass


class MemorySummarizeDone(MemoryDone, frozen=True, tag="memory.summarize"):
    """`summary` is the new item's id."""

    summary: str | None = None


class MemoryForgetDone(MemoryDone, frozen=True, tag="memory.forget"):
    """The words are gone from facts, entries, index and snapshots; `purged`: from the files' free pages and the
    write-ahead log too. `facts`: how many facts lost words, `sessions`: which sessions held them."""

    purged: bool = False
    facts: int = 0
    sessions: tuple[str, ...] = ()


AnyReply = (
    SessionAck | Pong | RunResult | ControlDone | SessionNewDone | SessionResetDone | SessionResumed
    | HistoryReply | SessionListReply | EventsPage | TracePage | TraceEnd | IdentityReport | ContextReply
    | TreeReply | LeafReply | BranchedReply | MemoryRecallReply | MemoryQueryReply
    | MemoryLoadDone | MemoryUpdateDone | MemoryEvictDone | MemorySummarizeDone | MemoryForgetDone
)  # fmt: skip
"""RunAcceptedAgain stands apart: its tag is the fact's, told from it by the missing `seq`."""

JSON = dict[str, Any]
