"""One run: how it starts, goes on, takes words, is cancelled, recovers, and ends in exactly one way.

`advance` is called at the end of every command. It moves the run in progress as far as it can go without anything from
outside, and begins the next one when it has ended, so that a run's end and the next one's start are one step.
"""

from typing import Any

from agentd.core import schedule
from agentd.core.admission import counts
from agentd.core.draft import Draft
from agentd.core.graph import policy_of
from agentd.core.inputs import place_inputs
from agentd.core.intents import AttemptEnded, PlanProposed
from agentd.core.memory import held, plan_kept
from agentd.core.state import Run, Task
from agentd.core.tree import within
from agentd.protocol import facts as f

NO_PROGRESS = "no_progress"


def advance(draft: Draft) -> None:
    """Until nothing moves: end what is over, begin what may begin."""
    while True:
        run = draft.state.run
        if run is None:
            if not draft.state.queue or draft.paused:
                return
            _begin(draft, draft.state.runs[draft.state.queue[0]])
        elif not _step(draft, run):
            return


def _step(draft: Draft, run: Run) -> bool:
    """One move of the run in progress; False when it has to wait for something."""
    if run.state == "cancelling":
        return not run.attempts and end_cancelled(draft, run.id)
    if run.failing is not None and run.phase == "working":
        return _failing(draft, run)
    if run.phase == "planning":
        return _think(draft, run, run.planning.active, "planner", "received", "planning")
    if run.phase == "answering":
        return _think(draft, run, run.answer.active, "execution", "started", "answering")
    _told_prolonged(draft, run)
    return schedule.work(draft, run.id)


def _begin(draft: Draft, run: Run) -> None:
    """run.started makes the user's entry. A given leaf moves the window, which comes with the fact. A run of an epoch
    that is over goes on from where that was, be it nowhere (rulings 21)."""
    old = run.epoch != draft.state.epoch
    parent = run.leaf_id if run.leaf_id is not None or old else draft.state.leaf
    window = None
    if run.leaf_id is not None and run.leaf_id != draft.state.leaf:
        window = within(draft.given.paths.get(run.leaf_id, ()), draft.given.caps)
    draft.emit(
        f.RunStarted, run=run.id, entry=f"{run.id}.u", parent=parent, identity=draft.given.identity, window=window,
        summaries=draft.given.path_summaries.get(run.leaf_id or "", ()) if window is not None else (),
        held=held(run.content, draft.given.caps),
    )  # fmt: skip


def _think(draft: Draft, run: Run, active: bool, phase: str, status: str, message: str) -> bool:
    """Planning and the answer take a model permit and no worker. What waits to be placed is placed first."""
    if active or draft.paused or not draft.models:
        return False
    draft.models -= 1
    place_inputs(draft, run.id, "steer")
    attempt = (run.planning if phase == "planner" else run.answer).number + 1
    draft.emit(
        f.AgentProgress, run=run.id, phase=phase, status=status, message=message,
        attempt=attempt if attempt > 1 else None,
    )  # fmt: skip
    return True


def _failing(draft: Draft, run: Run) -> bool:
    """stop_all: nothing new starts, what has not started is cancelled, the run fails when its siblings have ended."""
    cause = run.failing
    schedule.end_work(draft, run.id, "cancelled", f.Cause(code="stopped", message="another task failed"), "stopped")
    if draft.run(run.id).attempts:
        return False
    end_failed(draft, run.id, cause or f.Cause(code="internal", message="failed"))
    return True


def _told_prolonged(draft: Draft, run: Run) -> None:
    """Once per episode, after the warning time, only while work is really waiting (S18)."""
    since = run.saturated_since
    if since is None or run.prolonged or draft.paused:
        return
    waited = draft.now - since
    if waited >= draft.given.caps.warning_s * 1000:
        draft.emit(
            f.AgentProgress, run=run.id, phase="planner", status="prolonged_saturation",
            message=f"tasks have waited for {waited // 1000} s",
            suggestions=(
                f.Suggestion(
                    kind="clear", reason="drop the backlog and begin afresh",
                    action={"type": "agent.control", "action": "clear_saturation"},
                ),
            ),
        )  # fmt: skip


# ---- the planner and the answer report ----------------------------------------------------------------------------


def plan_proposed(draft: Draft, intent: PlanProposed) -> None:
    """A plan for a run that still wants this one; a late one is discarded by its attempt number."""
    run = draft.state.runs.get(intent.run)
    if run is None or not run.planning.active or run.planning.number != intent.attempt:
        return
    if run.state == "cancelling":
        end_cancelled(draft, run.id)
        return
    for code, told in intent.told:
        draft.emit(f.Warned, run=run.id, code=code, message=told, source="planner")
    if intent.failure is not None:
        cause = intent.failure
        draft.emit(f.AgentStatus, run=run.id, task="planning", status="failed", attempt=intent.attempt,
                   message=cause.message, cause=cause, usage=intent.usage)  # fmt: skip
        draft.emit(f.AgentProgress, run=run.id, phase="planner", status="failed", message=cause.message)
        draft.emit(f.RunFailed, run=run.id, **_end(draft, run.id, cause))
        return
    draft.emit(
        f.AgentPlan, run=run.id, by=f.By(principal=run.principal, via="planner"), plan=f"{run.id}.p", revision=1,
        goal=intent.goal or run.content, tasks=intent.tasks, gates=intent.gates, groups=intent.groups,
        fail_policy=intent.fail_policy,
    )  # fmt: skip
    draft.emit(
        f.AgentProgress, run=run.id, phase="planner", status="ready", message=f"a plan of {len(intent.tasks)} tasks"
    )


def answer_ended(draft: Draft, run: Run, intent: AttemptEnded) -> None:
    """The answer's attempt is over: its words, and the run's end unless an input waits to be placed."""
    if run.state == "cancelling":
        if intent.outcome == "done" or intent.shown:
            _receive(draft, run, intent, intent.result if intent.outcome == "done" else intent.shown, "cancelled")
        end_cancelled(draft, run.id)
    elif intent.outcome == "done":
        _receive(draft, run, intent, intent.result, intent.finish_reason)
        if not place_inputs(draft, run.id, "steer") and not place_inputs(draft, run.id, "follow_up"):
            _complete(draft, run.id)
    else:
        cause = intent.cause or f.Cause(code="internal", message="the answer ended without a cause")
        if intent.shown:
            _receive(draft, run, intent, intent.shown, "error")
        draft.emit(f.AgentStatus, run=run.id, task="answer", status="failed", attempt=intent.attempt,
                   message=cause.message, cause=cause, usage=intent.usage if not intent.shown else None)  # fmt: skip
        end_failed(draft, run.id, cause)


def _receive(draft: Draft, run: Run, intent: AttemptEnded, content: object, finish_reason: str) -> None:
    usage, words = intent.usage or f.Usage(), str(content)
    draft.emit(
        f.SessionReceive, run=run.id, role="assistant", content=words, entry=f"{run.id}.a{run.answers + 1}",
        parent=run.tip, message=intent.message_id, usage=usage, finish_reason=finish_reason, model=usage.model,
        held=held(words, draft.given.caps),
    )  # fmt: skip


def _complete(draft: Draft, name: str) -> None:
    """Under `continue` a required task that failed still fails the run, after its answer (rulings 13)."""
    run = draft.run(name)
    failed = next((task for task in run.tasks.values() if task.status == "failed" and task.spec.required), None)
    if failed is not None:
        end_failed(draft, name, _failed_cause(run, failed))
        return
    draft.emit(f.AgentProgress, run=name, phase="execution", status="complete", message="answered")
    draft.emit(f.RunCompleted, run=name, **_end(draft, name, None))


def _failed_cause(run: Run, task: Task) -> f.Cause:
    policy = policy_of(run, task)
    return f.Cause(code="task_failed", message=f"task {task.spec.id} failed ({policy})", task=task.spec.id)


# ---- ends -------------------------------------------------------------------------------------------------------


def end_failed(draft: Draft, name: str, cause: f.Cause) -> None:
    draft.emit(f.AgentProgress, run=name, phase="execution", status="failed", message=cause.message)
    draft.emit(f.RunFailed, run=name, **_end(draft, name, cause))


def end_cancelled(draft: Draft, name: str, code: str = "cancelled") -> bool:
    cause = f.Cause(code=code, message="cancelled by request" if code == "cancelled" else code)
    draft.emit(f.RunCancelled, run=name, **_end(draft, name, cause))
    return True


def cancel(draft: Draft, name: str) -> int:
    """Nothing of this run starts from here on; how many tasks and runs had not started. What runs is ended by the
    shell, because `due` no longer names it."""
    run = draft.run(name)
    if run.state == "queued":
        draft.emit(f.RunCancelled, run=name, by=draft.by, **_end(draft, name, _CANCELLED))
        return 1
    if run.state == "cancelling":
        return 0
    draft.emit(f.RunCancelling, run=name, by=draft.by)
    return schedule.end_work(draft, name, "cancelled", _CANCELLED, "cancelled")


_CANCELLED = f.Cause(code="cancelled", message="cancelled by request")


def _end(draft: Draft, name: str, cause: f.Cause | None) -> dict[str, Any]:
    run = draft.run(name)
    return {
        "cause": cause,
        "usage": run.usage,
        "duration_ms": draft.now - (run.started if run.started is not None else run.accepted),
        "counts": counts(run),
        "unplaced": tuple(item.content for item in run.inputs),
        **plan_kept(run),
    }
