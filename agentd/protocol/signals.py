"""Signals: what may be lost. Deltas, liveness, figures on change; never stored, without `seq` (design 1.1)."""

from typing import Literal

import msgspec

from agentd.protocol.facts import Backpressure, Mode, RunKind, RunState, Suggestion, TaskStatus


class Signal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", gc=False):
    """The envelope of what has no number. `request` when it is somebody's reply."""

    session: str
    ts: int
    run: str | None = None
    request: str | None = None


class SessionDelta(Signal, frozen=True, tag="session.delta"):
    """The next words of `message`; `offset` counts the code points before `text`."""

    message: str
    offset: int
    text: str
    task: str | None = None


class Liveness(Signal, frozen=True, tag="agent.progress"):
    """Heartbeat to all sockets of a session, reconnect to the connecting one only."""

    phase: Literal["heartbeat", "reconnect"]
    status: Literal["idle", "watching", "blocked", "state_restored", "backpressure_resumed"]
    message: str
    backpressure: Backpressure | None = None
    suggestions: tuple[Suggestion, ...] = ()


class StreamLagged(Signal, frozen=True, tag="stream.lagged"):
    """Deltas were dropped; `last_seq` sent so far, `seq` of the session. The facts follow by themselves."""

    last_seq: int
    seq: int
    reason: str


class ServerDraining(Signal, frozen=True, tag="server.draining"):
    deadline_ms: int


class Blocked(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Why a task has not started; `id` of the task, gate or question where it is one."""

    kind: Literal["task", "gate", "question", "permit", "cap", "timer", "pause", "review"]
    id: str | None = None


class TaskShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    id: str
    status: TaskStatus
    attempt: int | None = None
    blocked_by: tuple[Blocked, ...] | None = None


class RunShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    run: str
    kind: RunKind
    state: RunState
    position: int | None = None
    held: str | None = None
    tasks: tuple[TaskShown, ...] | None = None


class AgentState(Signal, frozen=True, tag="agent.state"):
    """A session's load now: the reply to `state`, and told on change at most 4 times a second, always the last."""

    mode: Mode
    runs: tuple[RunShown, ...]
    last_goal: str | None
    backpressure: Backpressure
    loop_lag_ms: float
    runs_unfinished: int
    paused_by: tuple[Literal["session", "server"], ...] | None = None


AnySignal = SessionDelta | Liveness | StreamLagged | ServerDraining | AgentState
