"""Client frames: what may be asked over the wire (protocol.md, 4).

Only these types are decoded; internal commands (attempt ended, recovered, permit free) are another set in
`core/intents.py`, so that no client can forge them (rulings 41). Unknown fields are ignored. Bounds stand in the
types, so that a wrong value is told with its path.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

RequestId = Annotated[str, Meta(min_length=1, max_length=128)]
SessionKey = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,128}\Z")]
Id = Annotated[str, Meta(min_length=1, max_length=128)]
IdempotencyKey = Annotated[str, Meta(min_length=1, max_length=256)]
Cursor = Annotated[int, Meta(ge=0, le=(1 << 53) - 1)]
Note = Annotated[str, Meta(max_length=4096)]
InputMode = Literal["enqueue", "steer", "interrupt", "reject"]

Action = Literal[
    "goal", "plan", "state", "status", "pause", "resume", "cancel", "steer", "follow_up", "retry", "approve", "block",
    "answer", "clear_saturation", "heartbeat",
]  # fmt: skip


class Request(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", gc=False):
    """What every client frame may carry. `id` is echoed as `request` by the one reply."""

    id: RequestId | None = None
    session: SessionKey | None = None


class Connect(Request, frozen=True, tag="connect"):
    token: Annotated[str, Meta(max_length=4096)]
    after: Cursor | None = None
    log: Id | None = None
    client: Annotated[str, Meta(max_length=256)] | None = None


class Ping(Request, frozen=True, tag="ping"):
    pass


class Starts(Request, frozen=True):
    """What starts work may be repeated safely under a key."""

    wait: bool = False
    leaf_id: Id | None = None
    input_mode: InputMode = "enqueue"
    idempotency_key: IdempotencyKey | None = None


class ChatSend(Starts, frozen=True, tag="chat.send"):
    content: str | None = None
    text: str | None = None


class SessionSend(ChatSend, frozen=True, tag="session.send"):
    """The same under its older name."""


class AgentControl(Starts, frozen=True, tag="agent.control"):
    """One frame for all of an operator's acts; which fields an action needs is checked where it is taken apart."""

    action: Action | None = None
    goal: str | None = None
    content: str | None = None
    text: str | None = None
    overflow: Literal["defer", "drop"] | None = None
    run: Id | None = None
    task: Id | None = None
    gate: Id | None = None
    note: Note | None = None
    reason: Note | None = None
    value: Any = None
    session: Annotated[str, Meta(pattern=r"^(\*|[A-Za-z0-9._:-]{1,128})\Z")] | None = None


class AgentHeartbeat(Request, frozen=True, tag="agent.heartbeat"):
    pass


class SessionNew(Request, frozen=True, tag="session.new"):
    archive: bool = True
    reason: Note | None = None


class SessionReset(SessionNew, frozen=True, tag="session.reset"):
    """The same under its older name; answered with its own type."""


class SessionResume(Request, frozen=True, tag="session.resume"):
    after: Cursor
    log: Id | None = None


class SessionHistory(Request, frozen=True, tag="session.history"):
    leaf_id: Id | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 50
    before: Id | None = None


class SessionList(Request, frozen=True, tag="session.list"):
    limit: Annotated[int, Meta(ge=1, le=500)] = 100
    cursor: Annotated[str, Meta(max_length=128)] | None = None


class EventsRead(Request, frozen=True, tag="events.read"):
    run: Id | None = None
    after: Cursor = 0
    limit: Annotated[int, Meta(ge=1, le=500)] = 100


class TraceGet(Request, frozen=True, tag="trace.get"):
    run: Id


class IdentityGet(Request, frozen=True, tag="identity.get"):
    pass


class SessionContext(Request, frozen=True, tag="session.context"):
    leaf_id: Id | None = None


class SessionTree(Request, frozen=True, tag="session.tree"):
    """All branches, newest entries first; `before`: the last id of the page before."""

    limit: Annotated[int, Meta(ge=1, le=500)] = 200
    before: Id | None = None


class SessionSetLeaf(Request, frozen=True, tag="session.set_leaf"):
    leaf_id: Id


class SessionBranch(Request, frozen=True, tag="session.branch"):
    """`session` stays the envelope's target: the one that the branch leaves (rulings 40)."""

    leaf_id: Id
    new_session: SessionKey


class MemoryRecall(Request, frozen=True, tag="memory.recall"):
    """What working memory holds, with `include_archived` what it does not hold too; uncut with `include_full`."""

    limit: Annotated[int, Meta(ge=1, le=128)] = 25
    include_archived: bool = False
    include_full: bool = False


class MemoryQuery(Request, frozen=True, tag="memory.query"):
    """Over working and long-term memory of the whole session; ranked when there is a topic, else newest first."""

    topic: Annotated[str, Meta(max_length=4096)] | None = None
    memory_ids: Annotated[tuple[Id, ...], Meta(max_length=128)] | None = None
    kind: Literal["entry", "summary", "plan", "note", "all"] = "all"
    since: Annotated[int, Meta(ge=0, le=(1 << 53) - 1)] | None = None
    until: Annotated[int, Meta(ge=0, le=(1 << 53) - 1)] | None = None
    epoch: Annotated[int, Meta(ge=0, le=(1 << 53) - 1)] | None = None
    limit: Annotated[int, Meta(ge=1, le=128)] = 25
    offset: Annotated[int, Meta(ge=0, le=100_000)] = 0
    include_full: bool = False


class MemoryLoad(Request, frozen=True, tag="memory.load"):
    memory_id: Id


class MemoryUpdate(Request, frozen=True, tag="memory.update"):
    memory_id: Id
    content: str | None = None
    pinned: bool | None = None


class MemoryEvict(Request, frozen=True, tag="memory.evict"):
    memory_id: Id


class MemorySummarize(Request, frozen=True, tag="memory.summarize"):
    """One entry, or several that follow each other; without `content` the summary is an extract."""

    memory_id: Id | None = None
    memory_ids: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=64)] | None = None
    content: str | None = None


class MemoryForget(Request, frozen=True, tag="memory.forget"):
    memory_ids: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=64)]


AnyCommand = (
    Connect | Ping | ChatSend | SessionSend | AgentControl | AgentHeartbeat | SessionNew | SessionReset
    | SessionResume | SessionHistory | SessionList | EventsRead | TraceGet | IdentityGet | SessionContext
    | SessionTree | SessionSetLeaf | SessionBranch | MemoryRecall | MemoryQuery
    | MemoryLoad | MemoryUpdate | MemoryEvict | MemorySummarize | MemoryForget
)  # fmt: skip
