"""One session: what each command leads to. `decide` hands it to the rule of its noun, then lets the run go on.

decide(state, intent, given) -> Decision(facts, state, answer); it never waits, and changes nothing: what it returns
counts once the facts are stored. A refusal is an `AgentdError` and leaves no fact.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from agentd.core import memory, recovery, run, schedule, tasks, tree
from agentd.core.admission import session_figures
from agentd.core.draft import Decision, Draft
from agentd.core.graph import startable
from agentd.core.intents import (
    Accepted,
    AddInput,
    Answer,
    AnswerQuestion,
    AnyIntent,
    AttemptEnded,
    BeginBranch,
    CallBegan,
    CallEnded,
    CallSkipped,
    Cancel,
    Cancelling,
    ClearSaturation,
    Compact,
    CompactFailed,
    DecideGate,
    Done,
    EpochBegun,
    EvictMemory,
    ForgetMemory,
    Given,
    Import,
    LoadMemory,
    NewEpoch,
    PlaceInputs,
    PlanProposed,
    Prune,
    Recovered,
    Repeated,
    RetryTask,
    SetLeaf,
    SetMode,
    StartRun,
    StateShown,
    SummarizeMemory,
    UpdateMemory,
    Wake,
    Warn,
)
from agentd.core.state import Run, Session
from agentd.protocol import facts as f
from agentd.protocol.errors import Conflict, NotFound, Overloaded

__all__ = ["Decision", "Work", "begun", "decide", "due", "next_timer"]


def decide(state: Session, intent: AnyIntent, given: Given) -> Decision:
    """What `intent` leads to in `state`.

    Raises:
        AgentdError: refused; nothing happened.
    """
    draft = Draft(state, given, intent.by)
    answer = _RULES[type(intent)](draft, intent)
    if intent.scrubbed and draft.facts:
        _tell_scrubbed(draft, intent.scrubbed)
    run.advance(draft)
    if draft.facts:
        memory.keep_within(draft)
    return draft.close(answer)


# ---- what is to be done, named from the state alone -----------------------------------------------------------------


class Work(msgspec.Struct, frozen=True):
    """An attempt that has to be alive. `task` is the task's id, or `planning` or `answer`."""

    run: str
    task: str
    attempt: int
    step: int = 0


def due(state: Session) -> tuple[Work, ...]:
    """All attempts that have to be alive now; what is alive and not named here has to end (design 1.2)."""
    current = state.run
    if current is None or current.state == "cancelling" or current.failing is not None:
        return ()
    return begun(state)


def begun(state: Session) -> tuple[Work, ...]:
    """All attempts whose end is not stored yet, also those of a run that is ending."""
    current = state.run
    if current is None:
        return ()
    if current.planning.active:
        return (Work(current.id, "planning", current.planning.number),)
    if current.answer.active:
        return (Work(current.id, "answer", current.answer.number, current.answer.step),)
    return tuple(Work(current.id, name, current.tasks[name].attempt) for name in current.running)


def next_timer(state: Session, server_paused: bool, warning_s: float, after: int = 0) -> int | None:
    """Unix ms, later than `after`, at which a `Wake` would move something by time alone. What is already due and can't
    go on waits for something else; to be woken for it again and again would be a busy loop."""
    current = state.run
    if current is None or current.state == "cancelling" or current.phase != "working":
        return None
    watched = current.watched if current.watched is not None else current.ready
    times = [current.tasks[name].resume_at for name in watched]
    if current.saturated_since is not None and not current.prolonged and not server_paused and state.mode == "running":
        times.append(current.saturated_since + round(warning_s * 1000))
    return min((at for at in times if at is not None and at > after), default=None)


def wants(state: Session, server_paused: bool, dispatch: int) -> tuple[bool, bool]:
    """What it would take for something of it to start: a worker, a model permit, both, or nothing that a permit could
    give. What a timer or the dispatch cap holds back waits for no permit; a held session waits for none."""
    current = state.run
    if current is None or server_paused or state.mode == "paused" or current.state not in ("running", "waiting"):
        return False, False
    if current.failing is not None:
        return False, False
    if current.phase == "planning":
        return False, not current.planning.active
    if current.phase == "answering":
        return False, not current.answer.active
    tasks, waiting = current.tasks, False
    for name in current.queued:
        if tasks[name].spec.kind != "model":
            return True, False
        waiting = True
    room = dispatch - len(current.queued) - current.active
    for name in current.ready:
        if room <= 0:
            break
        if startable(current, name) and not tasks[name].open_deps:
            if tasks[name].spec.kind != "model":
                return True, False
            waiting, room = True, room - 1
    return waiting, waiting


# ---- runs -------------------------------------------------------------------------------------------------------


def _start(draft: Draft, intent: StartRun) -> Answer:
    used = _used(draft, intent)
    if used is not None:
        return used
    state, caps = draft.state, draft.given.caps
    busy = state.current is not None or bool(state.queue)
    if intent.mode == "reject" and busy:
        raise Conflict(
            "a run is in progress", details={"reason": "busy"}, retryable=True, hint="Wait for it, or use enqueue."
        )
    if len(state.queue) >= caps.runs_per_session:
        raise Overloaded(
            "too many runs wait in this session", retry_after_ms=draft.given.retry_after_ms,
            details={
                "cap": "runs_per_session", "used": len(state.queue), "limit": caps.runs_per_session,
                "backpressure": session_figures(state, caps, draft.given.retry_after_ms),
            },
        )  # fmt: skip
    if intent.leaf_id is not None and intent.leaf_id not in draft.given.paths:
        raise NotFound(f"no entry {intent.leaf_id}", kind="entry", hint="session.history lists the entries.")
    front = intent.mode == "interrupt"
    if front and state.current is not None:
        run.cancel(draft, state.current)
    state = draft.state
    at_once = state.current is None and not state.queue and not draft.paused
    held, held_by = _held(draft)
    ahead = int(state.current is not None) + (0 if front else len(state.queue))
    fact = draft.emit(
        f.RunAccepted, run=intent.run, by=intent.by, kind=intent.kind, content=intent.content,
        state="running" if at_once else "queued", position=None if at_once else max(ahead, 1), held=held,
        held_by=held_by, leaf_id=intent.leaf_id, key=intent.key, body_hash=intent.body_hash,
        overflow=intent.overflow, epoch=state.epoch, front=front,
    )  # fmt: skip
    return Accepted(run=intent.run, seq=fact.seq)


def _used(draft: Draft, intent: StartRun) -> Answer | None:
    """The same key again: one run, the same answer; with another body a conflict (F9)."""
    if intent.key is None:
        return None
    used = draft.given.used_key
    if used is None:
        return None
    if used.body_hash != intent.body_hash:
        raise Conflict(
            "this idempotency key was used with another body", details={"reason": "idempotency_key", "run": used.run},
            hint="Use a new key for a new request.",
        )  # fmt: skip
    return Repeated(run=used.run)


def _held(draft: Draft) -> tuple[str | None, str | None]:
    if draft.paused:
        return "paused", None
    current = draft.state.run
    if current is None or current.state != "waiting":
        return None, None
    gates, questions = schedule.needs_person(current)
    return "waiting", next(iter((*gates, *questions)), None)


def _input(draft: Draft, intent: AddInput) -> Answer:
    current = tasks.addressed(draft, intent.run)
    if current.state == "cancelling":
        raise Conflict("the run is being cancelled", details={"reason": "cancelling"})
    fact = draft.emit(
        f.RunInput, run=current.id, by=intent.by, mode=intent.mode, content=intent.content,
        input=current.inputs_seen + 1,
    )  # fmt: skip
    return Accepted(run=current.id, seq=fact.seq)


def _cancel(draft: Draft, intent: Cancel) -> Answer:
    """The narrowest named thing, without either all that the session has accepted (protocol.md, 4)."""
    if intent.task is not None:
        return _cancel_task(draft, intent)
    if intent.run is not None:
        if intent.run not in draft.state.runs:
            if intent.run not in draft.given.ended_runs:
                raise NotFound(f"no run {intent.run} in this session", kind="run")
            return Cancelling()
        names = [intent.run]
    else:
        names = [name for name in draft.state.runs if name != draft.state.current]
        names += [draft.state.current] if draft.state.current is not None else []
    attempts = tuple(attempt for name in names for attempt in _attempts(draft.state.runs[name]))
    queued = sum(run.cancel(draft, name) for name in names)
    return Cancelling(queued=queued, attempts=attempts)


def _cancel_task(draft: Draft, intent: Cancel) -> Answer:
    """Cancelling one task is no failure: its dependents are skipped and the run goes on (rulings 17). The attempt
    ends here; its worker ends because `due` names it no more, and keeps its permit until it really has."""
    if intent.run is None and draft.state.run is None:
        raise NotFound(f"no run is in progress, so there is no task {intent.task}", kind="task")
    current = tasks.addressed(draft, intent.run)
    task = current.tasks.get(intent.task or "")
    if task is None:
        raise NotFound(f"no task {intent.task} in run {current.id}", kind="task")
    cause = f.Cause(code="cancelled", message="cancelled by request")
    if task.status == "running":
        recovery.close_calls(draft, current.id, task, "cancelled")
    elif task.status not in ("pending", "needs_review"):
        return Cancelling()
    attempts = ((current.id, task.spec.id, task.attempt),) if task.status == "running" else ()
    draft.emit(
        f.AgentStatus, run=current.id, by=intent.by, task=task.spec.id, cause=cause, message=cause.message,
        status="skipped" if task.status == "needs_review" else "cancelled",
        attempt=task.attempt if attempts else None,
    )  # fmt: skip
    return Cancelling(queued=0 if attempts else 1, attempts=attempts)


def _attempts(current: Run) -> list[tuple[str, str, int]]:
    found = [(current.id, name, current.tasks[name].attempt) for name in current.running]
    if current.answer.active:
        found.append((current.id, "answer", current.answer.number))
    if current.planning.active:
        found.append((current.id, "planning", current.planning.number))
    return found


# ---- the session ------------------------------------------------------------------------------------------------


def _mode(draft: Draft, intent: SetMode) -> Answer:
    if draft.state.mode != intent.mode:
        draft.emit(f.SessionMode, by=intent.by, mode=intent.mode, reason=intent.reason)
    return StateShown()


def _epoch(draft: Draft, intent: NewEpoch) -> Answer:
    archived = len(draft.state.window)
    fact = draft.emit(
        f.SessionEpoch, by=intent.by, epoch=draft.state.epoch + 1, archived=archived, reason=intent.reason
    )
    return EpochBegun(request_type=intent.request_type, archived=archived, epoch=fact.epoch)


def _clear(draft: Draft, intent: ClearSaturation) -> Answer:
    """The backlog goes with a record; running attempts finish; what comes later starts from fresh memory."""
    cause = f.Cause(code="cleared", message="the backlog was cleared")
    for name in draft.state.queue:
        run.end_cancelled(draft, name, "cleared")
    current = draft.state.run
    if current is not None and current.phase == "working" and current.state in ("running", "waiting"):
        schedule.end_work(draft, current.id, "dropped", cause, "cleared")
    draft.emit(
        f.SessionEpoch, by=intent.by, epoch=draft.state.epoch + 1, archived=len(draft.state.window), reason="cleared"
    )
    return Done(action="clear_saturation")


def _tell_scrubbed(draft: Draft, rules: tuple[str, ...]) -> None:
    """What was taken out is told by its rule, never by its value (L14)."""
    name = draft.facts[-1].run
    draft.emit(
        f.Warned, run=name if name in draft.state.runs else None, code="scrubbed", source="edge",
        message="what looked like a secret was taken out before it was stored", details={"rules": list(rules)},
    )  # fmt: skip


def _warn(draft: Draft, intent: Warn) -> None:
    known = intent.run if intent.run in draft.state.runs else None
    draft.emit(
        f.Warned, run=known, code=intent.code, message=intent.message, source=intent.source, details=intent.details
    )


def _nothing(draft: Draft, intent: Wake) -> None:
    """A wake brings nothing but the time and the permits; `advance` does the rest."""


_RULES: dict[type, Callable[[Draft, Any], Answer | None]] = {
    StartRun: _start,
    AddInput: _input,
    SetMode: _mode,
    Cancel: _cancel,
    RetryTask: tasks.retry,
    DecideGate: tasks.decide_gate,
    AnswerQuestion: tasks.answer,
    ClearSaturation: _clear,
    NewEpoch: _epoch,
    LoadMemory: memory.load,
    UpdateMemory: memory.update,
    EvictMemory: memory.evict,
    SummarizeMemory: memory.summarize,
    ForgetMemory: memory.forget,
    Compact: memory.compact,
    CompactFailed: memory.compact_failed,
    Prune: memory.prune,
    SetLeaf: tree.set_leaf,
    BeginBranch: tree.begin_branch,
    Import: tree.import_snapshot,
    PlanProposed: run.plan_proposed,
    AttemptEnded: tasks.attempt_ended,
    CallBegan: tasks.call_began,
    CallEnded: tasks.call_ended,
    CallSkipped: tasks.call_skipped,
    PlaceInputs: tasks.inputs_placed,
    Warn: _warn,
    Recovered: recovery.recovered,
    Wake: _nothing,
}
