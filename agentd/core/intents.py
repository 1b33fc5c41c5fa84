"""Intents: what a session is asked to decide on, by a client (checked and addressed by the edge) or by a part of
agentd. None of them is in the wire's union, so none can be forged (rulings 41)."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from agentd.protocol.facts import (
    By,
    Cause,
    Effect,
    FailPolicy,
    ImportedItem,
    InputMode,
    Mode,
    Overflow,
    PlanGate,
    PlanGroup,
    PlanTask,
    RunKind,
    SummaryItem,
    Usage,
    WindowItem,
)


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """`scrubbed`: the rules by which secrets were taken out of its texts at the border."""

    by: By
    scrubbed: tuple[str, ...] = ()


GOAL_PREFIX = "/goal "


def goal_of(words: str) -> str:
    """The goal in a user's words: without the prefix that made them one."""
    return words.removeprefix(GOAL_PREFIX).strip() or words


# ---- what clients ask -------------------------------------------------------------------------------------------


class StartRun(Intent, frozen=True):
    """`run` is the new id; `key` and `body_hash` when the client gave an idempotency key."""

    run: str
    kind: RunKind
    content: str
    leaf_id: str | None = None
    mode: Literal["enqueue", "interrupt", "reject"] = "enqueue"
    overflow: Overflow = "defer"
    key: str | None = None
    body_hash: str | None = None


class AddInput(Intent, frozen=True):
    mode: InputMode
    content: str
    run: str | None = None


class SetMode(Intent, frozen=True):
    mode: Mode
    reason: str | None = None


class Cancel(Intent, frozen=True):
    """The narrowest named thing; without names all that the session has accepted."""

    run: str | None = None
    task: str | None = None
    cause: str = "cancelled"


class RetryTask(Intent, frozen=True):
    task: str
    run: str | None = None


class DecideGate(Intent, frozen=True):
    """Approve or block a gate, or a task that needs a review."""

    approve: bool
    gate: str | None = None
    task: str | None = None
    run: str | None = None
    note: str | None = None


class AnswerQuestion(Intent, frozen=True):
    task: str
    value: Any
    run: str | None = None


class ClearSaturation(Intent, frozen=True):
    pass


class NewEpoch(Intent, frozen=True):
    """`request_type` is echoed as the reply's type: session.new or session.reset."""

    reason: str | None = None
    request_type: str = "session.new"


# ---- working memory -------------------------------------------------------------------------------------------------


class LoadMemory(Intent, frozen=True):
    """Bring an entry back into working memory."""

    id: str


class UpdateMemory(Intent, frozen=True):
    """Other words for an entry that is in working memory, or a pin on it; both may be given."""

    id: str
    content: str | None = None
    pinned: bool | None = None


class EvictMemory(Intent, frozen=True):
    id: str


class SummarizeMemory(Intent, frozen=True):
    """Put a summary in the place of entries; without `content` it is an extract of them. `summary` is the new id."""

    ids: tuple[str, ...]
    summary: str
    content: str | None = None


class ForgetMemory(Intent, frozen=True):
    """The words of these entries go; `summaries` hold some of them and go too. What is on the disk is the shell's."""

    ids: tuple[str, ...]
    summaries: tuple[str, ...] = ()


class SetLeaf(Intent, frozen=True):
    leaf: str


class BeginBranch(Intent, frozen=True):
    """A new session goes on from an entry of another one; `window` and `summaries` are what it holds of that path."""

    origin: str
    leaf: str
    window: tuple[WindowItem, ...]
    summaries: tuple[SummaryItem, ...]


class Import(Intent, frozen=True):
    """One part of a snapshot of the older format; an import that was already taken leaves no fact."""

    timestamp_ms: int
    reason: str
    items: tuple[ImportedItem, ...]
    part: int = 1
    last: bool = True


# ---- what parts of agentd report --------------------------------------------------------------------------------


class PlanProposed(Intent, frozen=True):
    """The planner's outcome. `told`: warnings, code and message. A `failure` ends the run."""

    run: str
    attempt: int
    goal: str = ""
    tasks: tuple[PlanTask, ...] = ()
    gates: tuple[PlanGate, ...] = ()
    groups: tuple[PlanGroup, ...] = ()
    fail_policy: FailPolicy = "stop_all"
    told: tuple[tuple[str, str], ...] = ()
    usage: Usage | None = None
    failure: Cause | None = None


Outcome = Literal["done", "failed", "cancelled", "needs_review"]


class AttemptEnded(Intent, frozen=True):
    """One attempt of a task or of the answer (`task` = "answer") is over. `shown`: words that clients have seen of a
    cut-off answer. A result for an attempt that is not running any more is discarded."""

    run: str
    task: str
    attempt: int
    outcome: Outcome
    step: int = 0
    result: Any = None
    cause: Cause | None = None
    usage: Usage | None = None
    finish_reason: str = "stop"
    shown: str = ""
    retryable: bool = False
    message_id: str = ""


class CallBegan(Intent, frozen=True):
    """A tool is about to be called; it is called when this is stored. `effect` decides what a crash means."""

    run: str
    task: str
    attempt: int
    call: str
    tool: str
    input: Any
    effect: Effect = "none"


class CallEnded(Intent, frozen=True):
    run: str
    task: str
    attempt: int
    call: str
    tool: str
    output: Any = None
    error: Cause | None = None


class Compact(Intent, frozen=True):
    """The memory manager's summary of a range; it counts only while all of the range is still where it was read
    (rulings 33). `ids` are entries, `replaces` summaries, a `gap` is a range that lost its summary. `seq`: where
    the session was when the words were read."""

    epoch: int
    seq: int
    ids: tuple[str, ...]
    item: SummaryItem
    content: str
    replaces: tuple[str, ...] = ()
    gap: bool = False
    usage: Usage | None = None


class CompactFailed(Intent, frozen=True):
    """No summary could be made; the range stays as it is."""

    first: str
    last: str
    count: int
    reason: str


class Prune(Intent, frozen=True):
    """Entries beyond the retention of long-term memory."""

    ids: tuple[str, ...]


class CallSkipped(Intent, frozen=True):
    """A call that a model asked for and that is not made, because the user said something meanwhile."""

    run: str
    task: str
    attempt: int
    call: str
    tool: str
    input: Any


class PlaceInputs(Intent, frozen=True):
    """An attempt is about to take its next model step: what waits for one is placed before it."""

    run: str
    task: str
    attempt: int


class Warn(Intent, frozen=True):
    code: str
    message: str
    source: str
    run: str | None = None
    details: dict[str, Any] | None = None


class Recovered(Intent, frozen=True):
    """The process that ran this session's attempts is gone. `drained`: it went in order."""

    drained: bool = False


class Wake(Intent, frozen=True):
    """A permit came free, a timer is due, or the server's mode changed: look again at what may start."""


AnyIntent = (
    StartRun | AddInput | SetMode | Cancel | RetryTask | DecideGate | AnswerQuestion | ClearSaturation | NewEpoch
    | LoadMemory | UpdateMemory | EvictMemory | SummarizeMemory | ForgetMemory | SetLeaf | BeginBranch | Import
    | Compact | CompactFailed | Prune
    | PlanProposed | AttemptEnded | CallBegan | CallEnded | CallSkipped | PlaceInputs | Warn | Recovered | Wake
)  # fmt: skip


# ---- what a rule is given beside the state ----------------------------------------------------------------------


class Caps(msgspec.Struct, frozen=True, kw_only=True):
    """The limits that rules enforce (design 5)."""

    dispatch: int = 16
    queued_per_session: int = 64
    queued_global: int = 1024
    workers: int = 8
    runs_per_session: int = 32
    tasks_per_plan: int = 200
    ram_entries: int = 64
    ram_bytes: int = 48 * 1024
    high_water: float = 1.0
    low_water: float = 0.75
    warning_s: float = 30.0
    fact_bytes: int = 256 * 1024
    steer_all: bool = True
    follow_up_all: bool = False
    recoveries: int = 3


class UsedKey(msgspec.Struct, frozen=True):
    """What an idempotency key was used for; `state` is the run's now."""

    run: str
    body_hash: str


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """What the shell read ahead of the step and takes in the same loop turn (design 1.2). Unix ms; `workers` are the
    numbers of the free workers, `models` free model permits, `queue_room` what the global cap still lets queue. This is
    the `nth` command of its step that leads to facts."""

    now: int
    nth: int = 1
    workers: tuple[int, ...] = ()
    models: int = 0
    queue_room: int = 1 << 30
    server_paused: bool = False
    retry_after_ms: int = 1000
    used_key: UsedKey | None = None
    paths: Mapping[str, tuple[WindowItem, ...]] = {}
    path_summaries: Mapping[str, tuple[SummaryItem, ...]] = {}
    items: Mapping[str, WindowItem] = {}
    contents: Mapping[str, str] = {}
    ended_runs: frozenset[str] = frozenset()
    identity: str | None = None
    results: Mapping[str, Any] = {}
    caps: Caps = Caps()


# ---- what a rule answers ----------------------------------------------------------------------------------------


class Accepted(msgspec.Struct, frozen=True):
    """The fact with this seq is the reply (`run.accepted`, `run.input`)."""

    run: str
    seq: int


class Repeated(msgspec.Struct, frozen=True):
    """An idempotency key was seen before: the run it started."""

    run: str


class Done(msgspec.Struct, frozen=True):
    action: str
    already: bool = False


class StateShown(msgspec.Struct, frozen=True):
    """The reply is the session's `agent.state` after this decision."""


class EpochBegun(msgspec.Struct, frozen=True):
    request_type: str
    archived: int
    epoch: int


class MemoryChanged(msgspec.Struct, frozen=True):
    """What an act on working memory led to. `kind` is the request's type."""

    kind: str
    ids: tuple[str, ...]
    bytes_before: int
    bytes_after: int
    already: bool = False
    summary: str | None = None


class LeafSet(msgspec.Struct, frozen=True):
    leaf: str | None


class Branched(msgspec.Struct, frozen=True):
    leaf: str


class Imported(msgspec.Struct, frozen=True):
    """`already`: this snapshot was taken before."""

    already: bool


class Cancelling(msgspec.Struct, frozen=True):
    """What a cancel met. `attempts` were running; the reply goes out when all of them have ended, or after 5 s."""

    queued: int = 0
    attempts: tuple[tuple[str, str, int], ...] = ()


Answer = (
    Accepted | Repeated | Done | StateShown | EpochBegun | Cancelling | MemoryChanged | LeafSet | Branched | Imported
)  # fmt: skip
