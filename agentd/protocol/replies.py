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


AnyReply = (
    SessionAck | Pong | RunResult | ControlDone | SessionNewDone | SessionResetDone | SessionResumed
    | HistoryReply | SessionListReply | EventsPage | TracePage | TraceEnd | IdentityReport | ContextReply
)  # fmt: skip
"""RunAcceptedAgain stands apart: its tag is the fact's, told from it by the missing `seq`."""

JSON = dict[str, Any]
