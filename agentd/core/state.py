"""The state of one session: everything that a rule may look at, and nothing that has to be read.

Values only, never changed in place: `evolve` makes new ones and shares what stayed the same. Snapshots are this state
encoded, so fields are only added, always with a default. Contents of entries and results of tasks are not in it
(rulings 1); they are the actor's cache, and come to the rules in `given`. What an unfinished run was asked (its words,
its plan) is in it, bounded by the limits on both, and leaves it with the run.
"""

import msgspec

from agentd.core.intents import Caps
from agentd.protocol.facts import (
    Cause,
    Effect,
    FailPolicy,
    InputMode,
    Mode,
    Overflow,
    PlanGate,
    PlanGroup,
    PlanTask,
    RunKind,
    RunState,
    SummaryItem,
    TaskStatus,
    Usage,
    WindowItem,
)

SNAPSHOT_VERSION = 1
PERMIT_KINDS = frozenset({"model", "tool"})
SETTLED = frozenset({"done", "failed", "cancelled", "skipped"})
TERMINAL = SETTLED | {"dropped"}


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base of everything in the state."""


class Call(Value, frozen=True):
    """A tool call that has begun and not ended."""

    call: str
    tool: str
    effect: Effect


class Attempt(Value, frozen=True):
    """Where the answer or the planning stands; `step` counts the model steps of the answer."""

    number: int = 0
    active: bool = False
    step: int = 0


class Task(Value, frozen=True):
    """A task of the current plan. `open_deps`: dependencies that have not ended. `resume_at`: Unix ms before which it
    may not start (a delay, or the wait before a retry). `once`: this attempt began a call that may not be repeated."""

    spec: PlanTask
    status: TaskStatus = "pending"
    open_deps: int = 0
    attempt: int = 0
    worker: int | None = None
    resume_at: int | None = None
    calls: tuple[Call, ...] = ()
    once: bool = False
    admitted: bool = False
    reviewed: str | None = None


class Gate(Value, frozen=True):
    """`void`: a dependency ended other than done, so nobody will ever be asked."""

    spec: PlanGate
    status: str = "pending"
    open_deps: int = 0
    void: bool = False
    by: str | None = None
    ts: int | None = None


class Input(Value, frozen=True):
    """Words for a run that goes on, not yet before a model."""

    number: int
    mode: InputMode
    content: str


class Gap(Value, frozen=True):
    """A range of the path whose summary went, because something in it was forgotten; it is to be made anew."""

    first: str
    last: str
    entries: int


class Run(Value, frozen=True):
    """An unfinished run. `tip` is its newest entry; `phase` says which of the three parts of its work it is in.
    `watched`: those of `ready` that wait for more than a permit, or end without one; None in a snapshot of a release
    that did not note it."""

    id: str
    kind: RunKind
    state: RunState
    content: str
    accepted: int
    bytes: int | None = None
    epoch: int = 0
    run_seq: int = 1
    principal: str = ""
    overflow: Overflow = "defer"
    key: str | None = None
    body_hash: str | None = None
    leaf_id: str | None = None
    started: int | None = None
    tip: str | None = None
    answers: int = 0
    phase: str = "planning"
    planning: Attempt = Attempt()
    answer: Attempt = Attempt()
    plan: str | None = None
    revision: int = 0
    goal: str | None = None
    fail_policy: FailPolicy = "stop_all"
    groups: tuple[PlanGroup, ...] = ()
    tasks: dict[str, Task] = {}
    gates: dict[str, Gate] = {}
    dependents: dict[str, tuple[str, ...]] = {}
    ready: tuple[str, ...] = ()
    watched: tuple[str, ...] | None = None
    queued: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    accepted_tasks: int = 0
    settled: int = 0
    dropped_ids: tuple[str, ...] = ()
    saturated_since: int | None = None
    prolonged: bool = False
    failing: Cause | None = None
    inputs: tuple[Input, ...] = ()
    inputs_seen: int = 0
    usage: Usage = Usage()
    recoveries: int = 0

    @property
    def active(self) -> int:
        """Tasks that run now."""
        return len(self.running)

    @property
    def attempts(self) -> int:
        """Attempts that run now, answer and planning included."""
        return len(self.running) + self.answer.active + self.planning.active

    @property
    def models(self) -> int:
        """Model permits that its running attempts hold."""
        tasks = sum(self.tasks[name].spec.kind == "model" for name in self.running)
        return tasks + self.answer.active + self.planning.active

    @property
    def workers(self) -> frozenset[int]:
        """Numbers of the workers that its running attempts hold."""
        held = (self.tasks[name].worker for name in self.running)
        return frozenset(worker for worker in held if worker is not None)


class Session(Value, frozen=True):
    """`seq` 0: nothing is stored yet. `runs` in the order they will be taken; `current` is in progress. Working memory
    is `window` with `summaries` before it; `tombstones` are the newest of those evicted that no summary has yet.
    `forgot_seq`: the last time that words were forgotten or changed; a summary of what was read before is not taken.
    `caps`: the limits that its newest facts were decided under."""

    key: str
    agent: str
    owner: str
    seq: int = 0
    ts: int = 0
    created: int = 0
    epoch: int = 0
    mode: Mode = "running"
    leaf: str | None = None
    window: tuple[WindowItem, ...] = ()
    window_bytes: int = 0
    summaries: tuple[SummaryItem, ...] = ()
    tombstones: tuple[WindowItem, ...] = ()
    gaps: tuple[Gap, ...] = ()
    imported: tuple[int, ...] = ()
    forgot_seq: int = 0
    branched: bool = False
    runs: dict[str, Run] = {}
    current: str | None = None
    queue: tuple[str, ...] = ()
    last_goal: str | None = None
    last_goal_run: str | None = None
    caps: Caps | None = None

    @property
    def run(self) -> Run | None:
        """The run in progress."""
        return self.runs[self.current] if self.current is not None else None
