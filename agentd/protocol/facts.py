"""Facts: what happened, one typed past-tense value with a sequence number each (design 1.1; protocol.md, 5).

The same value is the row in the log and the frame on the wire, byte for byte. Facts are for ever: fields are only
added, always with a default, a type is never renamed or used again; one stored example of each is decoded by a test.
A field without default stands in every frame, also when it is null.
"""

from typing import Any, Literal

import msgspec

Mode = Literal["running", "paused"]
RunKind = Literal["chat", "goal"]
RunState = Literal["queued", "running", "waiting", "cancelling", "completed", "failed", "cancelled"]
TaskStatus = Literal["pending", "running", "needs_review", "done", "failed", "cancelled", "skipped", "dropped"]
StatusWord = Literal["running", "needs_review", "done", "failed", "cancelled", "skipped", "dropped", "retrying"]
TaskKind = Literal["model", "tool", "join", "switch", "question", "delay"]
Effect = Literal["none", "idempotent", "once"]
FailPolicy = Literal["stop_all", "continue", "retry"]
GateStatus = Literal["pending", "approved", "blocked"]
Overflow = Literal["defer", "drop"]
InputMode = Literal["steer", "follow_up"]
Merge = Literal["append", "last"]


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base of the values that facts are made of."""


class By(Part, frozen=True):
    """Who caused a fact, and through what: ws, http, cli, recovery, planner, memory, timer."""

    principal: str
    via: str


class Cause(Part, frozen=True):
    """Why something ended other than done; `kind` as in `provider_error`, `task` the one it started from."""

    code: str
    message: str
    kind: str | None = None
    task: str | None = None
    hint: str | None = None


class Usage(msgspec.Struct, frozen=True, gc=False):
    """What model calls cost; `ttft_ms` is the time to the first token. `estimated`: counted here, not reported."""

    model: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    ttft_ms: int | None = None
    calls: int = 0
    estimated: bool = False


class Counts(Part, frozen=True):
    """Tasks of a run by how they ended."""

    total: int
    done: int
    failed: int
    cancelled: int
    skipped: int
    dropped: int


class Limits(Part, frozen=True):
    dispatch: int
    session: int
    server: int = msgspec.field(name="global")
    workers: int


class Backpressure(Part, frozen=True):
    """The one closed object that tells load: total = pending + queued + active + settled + dropped, always."""

    scope: Literal["run", "session", "server"]
    total: int
    pending: int
    accepted: int
    queued: int
    active: int
    settled: int
    dropped: int
    dropped_ids: tuple[str, ...]
    limit: Limits
    saturated_since: int | None
    retry_after_ms: int


class WindowItem(Part, frozen=True):
    """An entry of the active path as the state holds it: never its content (rulings 1). `bytes` of UTF-8 are those
    held in memory; `loaded`: it was brought back and stands before what the path has there by itself."""

    id: str
    role: str
    kind: str
    bytes: int
    pinned: bool = False
    loaded: bool = False


class SummaryItem(Part, frozen=True):
    """A summary in working memory, and the range of the path that it stands for (both ends included). `origin` is the
    lowest trust of its parts: user, then agent, then tool."""

    id: str
    first: str
    last: str
    entries: int
    bytes: int
    origin: str


class BranchedFrom(Part, frozen=True):
    """Where a session's history comes from: all up to `entry`, which is shared, not copied."""

    session: str
    entry: str


class ImportedItem(Part, frozen=True):
    """An entry or a summary of the older format. `related_to`: the entry that a summary is of."""

    id: str
    kind: Literal["message", "summary"]
    role: str
    content: str
    ts: int
    parent: str | None = None
    related_to: str | None = None


class Retry(Part, frozen=True):
    """At most `attempts` in all; `waits_s` between them, the last one repeats."""

    attempts: int = 3
    waits_s: tuple[float, ...] = (1.0, 4.0)


class Case(Part, frozen=True):
    """A way out of a switch: when the text of `input` equals or contains `match`, the tasks of `then` are taken."""

    match: str
    then: tuple[str, ...]


class Invariant(Part, frozen=True):
    """What has to hold of a task's output beside its schema. `path` and `other` name fields of it ($.a.b[2]; with `#`
    at the end its length); compared is with `other` when it is given, else with `value`. `exists` compares nothing."""

    path: str
    op: Literal["exists", "==", "!=", "<", "<=", ">", ">=", "in"]
    value: Any = None
    other: str | None = None


class PlanTask(Part, frozen=True):
    """A task as the plan declares it. `status` is the one when the plan was made. `schema`: a JSON Schema that the
    output of a model task, or the answer to a question, has to match; `invariants` hold beside it."""

    id: str
    title: str
    kind: TaskKind
    depends_on: tuple[str, ...]
    status: TaskStatus
    group: str | None = None
    prompt: str | None = None
    input: dict[str, Any] | None = None
    output: str | None = None
    merge: Merge | None = None
    tool: str | None = None
    tools: tuple[str, ...] = ()
    effect: Effect = "none"
    timeout_s: float | None = None
    retry: Retry | None = None
    fail_policy: FailPolicy | None = None
    required: bool = True
    need: int | None = None
    cases: tuple[Case, ...] = ()
    otherwise: tuple[str, ...] = ()
    delay_s: float | None = None
    question: str | None = None
    schema: dict[str, Any] | None = None
    invariants: tuple[Invariant, ...] = ()


class PlanGate(Part, frozen=True):
    """A node that waits for a person's yes; tasks name it in `depends_on`."""

    id: str
    title: str
    depends_on: tuple[str, ...]
    status: GateStatus


class PlanGroup(Part, frozen=True):
    """Tasks that start together; `fail_policy` overrides the plan's for them."""

    id: str
    title: str | None = None
    fail_policy: FailPolicy | None = None


class Suggestion(Part, frozen=True):
    """What a person may do next; `action` is a frame that may be sent as it stands."""

    kind: str
    reason: str
    action: dict[str, Any] | None = None


class Grounds(Part, frozen=True):
    """What a command was decided on and its facts do not show by themselves, so that the decision can be replayed:
    `nth` command of its step, `held` back by the server's mode, `room` that the global cap left for queued tasks
    where that was little, `caps` the limits that are not those told before in this session (all, the first time)."""

    nth: int = 1
    held: Literal["server"] | None = None
    room: int | None = None
    caps: dict[str, int | float | bool] | None = None


class Fact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", gc=False):
    """The envelope (protocol.md, 2). `run_seq` counts within the run; `step` is kept in the log, not sent. `grounds`
    stand on the first fact of a command, where there are any."""

    session: str
    seq: int
    ts: int
    run: str | None = None
    run_seq: int | None = None
    by: By | None = None
    grounds: Grounds | None = None


# ---- session ----------------------------------------------------------------------------------------------------


class SessionCreated(Fact, frozen=True, tag="session.created"):
    """A branch comes with what its working memory holds of the shared path."""

    agent: str
    owner: str
    branched_from: BranchedFrom | None = None
    window: tuple[WindowItem, ...] = ()
    summaries: tuple[SummaryItem, ...] = ()


class SessionMode(Fact, frozen=True, tag="session.mode"):
    mode: Mode
    reason: str | None = None


class SessionEpoch(Fact, frozen=True, tag="session.epoch"):
    """`archived`: entries that left working memory."""

    epoch: int
    archived: int
    reason: str | None = None


class SessionLeaf(Fact, frozen=True, tag="session.leaf"):
    leaf: str | None
    window: tuple[WindowItem, ...] = ()
    summaries: tuple[SummaryItem, ...] = ()


class SessionReceive(Fact, frozen=True, tag="session.receive"):
    """The agent's words; `message` names the stream of deltas that they are the end of. `held`: bytes of them that
    working memory keeps, when that is not all. `bytes`: their size, kept when they were `forgotten`."""

    role: str
    content: str
    entry: str
    parent: str | None
    message: str
    usage: Usage
    finish_reason: str
    model: str | None
    held: int | None = None
    bytes: int | None = None
    forgotten: bool = False


class MemoryEvent(Fact, frozen=True, tag="memory.event"):
    """Working memory changed; `range` is first and last entry id, `recall` the frame that brings them back.

    `ids` are the entries that it is about. A summary is `item` with its text in `summary`; `replaces` are the summaries
    that it takes the place of. `window` is all of working memory after a load. An update gives `content` or `pinned`
    (both for the one of `ids`), `held` and `bytes` as in session.receive. `gaps` are ranges that lost their summary."""

    event: Literal["summarize", "evict", "load", "update", "pin", "forget", "failed", "prune"]
    count: int
    bytes_before: int
    bytes_after: int
    range: tuple[str, str]
    recall: dict[str, Any]
    ids: tuple[str, ...] = ()
    item: SummaryItem | None = None
    summary: str | None = None
    replaces: tuple[str, ...] = ()
    window: tuple[WindowItem, ...] | None = None
    content: str | None = None
    pinned: bool | None = None
    held: int | None = None
    bytes: int | None = None
    usage: Usage | None = None
    reason: str | None = None
    forgotten: bool = False


class MemoryImported(Fact, frozen=True, tag="memory.imported"):
    """Entries of the older JSON format, once per (session, `timestamp_ms`). `leaf` and `window` when the session had no
    words of its own, so that it goes on from them. `part` counts from 1; the one with `last` ends the import."""

    timestamp_ms: int
    reason: str
    items: tuple[ImportedItem, ...]
    part: int = 1
    last: bool = True
    leaf: str | None = None
    window: tuple[WindowItem, ...] = ()


class Warned(Fact, frozen=True, tag="warning"):
    code: str
    message: str
    source: str
    details: dict[str, Any] | None = None


# ---- run --------------------------------------------------------------------------------------------------------


class RunAccepted(Fact, frozen=True, tag="run.accepted"):
    """The user's words are kept here; `key` and `body_hash` are the request's idempotency key and what it covered."""

    kind: RunKind
    content: str
    state: Literal["queued", "running"]
    position: int | None = None
    held: str | None = None
    held_by: str | None = None
    leaf_id: str | None = None
    key: str | None = None
    body_hash: str | None = None
    overflow: Overflow = "defer"
    epoch: int = 0
    front: bool = False
    bytes: int | None = None
    forgotten: bool = False


class RunStarted(Fact, frozen=True, tag="run.started"):
    """The user's entry is made here, because only now its parent is known. `identity` is the hash of the text."""

    entry: str
    parent: str | None
    identity: str | None = None
    window: tuple[WindowItem, ...] | None = None
    summaries: tuple[SummaryItem, ...] = ()
    held: int | None = None


class RunInput(Fact, frozen=True, tag="run.input"):
    """Words for a run that goes on; a second one with `entry` says that they were placed (`input` numbers them)."""

    mode: InputMode
    content: str
    input: int
    entry: str | None = None
    parent: str | None = None
    held: int | None = None
    bytes: int | None = None
    forgotten: bool = False


class RunWaiting(Fact, frozen=True, tag="run.waiting"):
    gates: tuple[str, ...]
    questions: tuple[str, ...]
    cause: Cause


class RunContinued(Fact, frozen=True, tag="run.continued"):
    cause: Cause


class RunCancelling(Fact, frozen=True, tag="run.cancelling"):
    pass


class RunEnded(Fact, frozen=True):
    """What the three ends have in common. `unplaced`: inputs that no model step took any more. `memory` with
    its text in `plan`: what working memory keeps of the plan, beside the run's newest entry (rulings 34)."""

    cause: Cause | None
    usage: Usage
    duration_ms: int
    counts: Counts
    unplaced: tuple[str, ...] = ()
    memory: WindowItem | None = None
    plan: str | None = None
    forgotten: bool = False


class RunCompleted(RunEnded, frozen=True, tag="run.completed"):
    pass


class RunFailed(RunEnded, frozen=True, tag="run.failed"):
    pass


class RunCancelled(RunEnded, frozen=True, tag="run.cancelled"):
    pass


# ---- plan and tasks ---------------------------------------------------------------------------------------------


class AgentPlan(Fact, frozen=True, tag="agent.plan"):
    plan: str
    revision: int
    goal: str
    tasks: tuple[PlanTask, ...]
    gates: tuple[PlanGate, ...]
    groups: tuple[PlanGroup, ...] = ()
    fail_policy: FailPolicy = "stop_all"
    forgotten: bool = False


class AgentProgress(Fact, frozen=True, tag="agent.progress"):
    """Phases planner, workers, execution; `attempt` on a start after the first. Heartbeats are signals."""

    phase: Literal["planner", "workers", "execution"]
    status: str
    message: str
    backpressure: Backpressure | None = None
    admitted: tuple[str, ...] = ()
    suggestions: tuple[Suggestion, ...] = ()
    attempt: int | None = None


class AgentStatus(Fact, frozen=True, tag="agent.status"):
    """A task moved. `attempt` is absent when no attempt is concerned; `resume_at`: when the next one may start;
    `recovery`: how many recoveries without progress this run has been charged with."""

    task: str
    status: StatusWord
    message: str
    attempt: int | None = None
    worker: int | None = None
    cause: Cause | None = None
    result: Any = None
    usage: Usage | None = None
    admitted: tuple[str, ...] = ()
    resume_at: int | None = None
    recovery: int | None = None


class GateDecided(Fact, frozen=True, tag="gate.decided"):
    gate: str
    status: Literal["approved", "blocked"]
    note: str | None = None
    reasons: tuple[str, ...] = ()


class ToolCalled(Fact, frozen=True, tag="tool.called"):
    task: str
    attempt: int
    call: str
    tool: str
    input: Any
    effect: Effect = "none"


class ToolResult(Fact, frozen=True, tag="tool.result"):
    task: str
    attempt: int
    call: str
    tool: str
    output: Any


class ToolFailed(Fact, frozen=True, tag="tool.failed"):
    task: str
    attempt: int
    call: str
    tool: str
    error: Cause


# ---- the server's own stream, session `_server` (rulings 38) -------------------------------------------------------


class ServerStarted(Fact, frozen=True, tag="server.started"):
    version: str
    log: str
    term: int


class ServerStopped(Fact, frozen=True, tag="server.stopped"):
    drained: bool


class ServerQuarantined(Fact, frozen=True, tag="server.quarantined"):
    """`folder` is relative to the state directory."""

    folder: str
    sessions: int
    facts: int
    notes: tuple[str, ...]


class ServerMode(Fact, frozen=True, tag="server.mode"):
    mode: Mode
    reason: str | None = None


class ServerDenied(Fact, frozen=True, tag="server.denied"):
    action: str
    target: str
    reason: str


class TokenAdded(Fact, frozen=True, tag="token.added"):
    """`created_ms`: when it was made, Unix ms; another one of the same name was made at another time."""

    name: str
    scopes: tuple[str, ...]
    created_ms: int | None = None


class TokenRevoked(Fact, frozen=True, tag="token.revoked"):
    name: str


AnyFact = (
    SessionCreated | SessionMode | SessionEpoch | SessionLeaf | SessionReceive | MemoryEvent | MemoryImported | Warned
    | RunAccepted | RunStarted | RunInput | RunWaiting | RunContinued | RunCancelling
    | RunCompleted | RunFailed | RunCancelled
    | AgentPlan | AgentProgress | AgentStatus | GateDecided | ToolCalled | ToolResult | ToolFailed
    | ServerStarted | ServerStopped | ServerQuarantined | ServerMode | ServerDenied | TokenAdded | TokenRevoked
)  # fmt: skip

RUN_ENDS = (RunCompleted, RunFailed, RunCancelled)
