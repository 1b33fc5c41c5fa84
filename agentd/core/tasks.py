"""One task: its attempts end, its tool calls begin and end, a person retries, reviews or answers it."""

from typing import Any

import msgspec

from agentd.core import run as runs
from agentd.core.draft import Draft
from agentd.core.graph import policy_of
from agentd.core.inputs import place_inputs
from agentd.core.intents import (
    Answer,
    AnswerQuestion,
    AttemptEnded,
    CallBegan,
    CallEnded,
    CallSkipped,
    DecideGate,
    Done,
    PlaceInputs,
    RetryTask,
)
from agentd.core.outputs import output_problems
from agentd.core.recovery import close_calls
from agentd.core.state import TERMINAL, Run, Task
from agentd.protocol import facts as f
from agentd.protocol.errors import Conflict, InvalidPayload, NoActiveRun, NotFound

SKIPPED = "skipped: the user said something new before this call was made"


def attempt_ended(draft: Draft, intent: AttemptEnded) -> None:
    """An outcome counts only for the attempt that runs; a late one is discarded by its number."""
    run = draft.state.runs.get(intent.run)
    if run is None:
        return
    if intent.task == "answer":
        if run.answer.active and (run.answer.number, run.answer.step) == (intent.attempt, intent.step):
            runs.answer_ended(draft, run, intent)
        return
    if intent.task == "planning":
        if run.planning.active and run.planning.number == intent.attempt and run.state == "cancelling":
            runs.end_cancelled(draft, run.id)
        return
    task = run.tasks.get(intent.task)
    if task is None or task.status != "running" or task.attempt != intent.attempt:
        return
    close_calls(draft, run.id, task, "cancelled" if intent.outcome == "cancelled" else "interrupted")
    _told(draft, run, task, intent)


def _told(draft: Draft, run: Run, task: Task, intent: AttemptEnded) -> None:
    status, resume_at = _word(draft, run, task, intent)
    result = _within(draft, run.id, task, intent.result) if status == "done" else None
    if status == "done":
        draft.results[task.spec.id] = result
    draft.emit(
        f.AgentStatus, run=run.id, task=task.spec.id, status=status, attempt=intent.attempt, worker=task.worker,
        message=intent.cause.message if intent.cause is not None else task.spec.title, cause=intent.cause,
        result=result, usage=intent.usage, resume_at=resume_at,
    )  # fmt: skip


def _word(draft: Draft, run: Run, task: Task, intent: AttemptEnded) -> tuple[f.StatusWord, int | None]:
    """`retry` repeats a failure within its bounds (rulings 9); then it counts as stop_all."""
    if intent.outcome != "failed":
        return intent.outcome, None
    retry = task.spec.retry or (f.Retry() if policy_of(run, task) == "retry" else None)
    if retry is None or run.state == "cancelling" or run.failing is not None or intent.attempt >= retry.attempts:
        return "failed", None
    wait_s = retry.waits_s[min(intent.attempt, len(retry.waits_s)) - 1] if retry.waits_s else 0.0
    return "retrying", draft.now + round(wait_s * 1000)


def _within(draft: Draft, run: str, task: Task, result: Any) -> Any:
    """A result over the limit is cut on a code point, and told (F11)."""
    limit = draft.given.caps.fact_bytes
    encoded = result.encode() if isinstance(result, str) else msgspec.json.encode(result)
    if len(encoded) <= limit:
        return result
    draft.emit(
        f.Warned, run=run, code="result_cut", source="worker",
        message=f"the result of {task.spec.id} has {len(encoded)} bytes, kept are {limit}",
        details={"task": task.spec.id, "bytes": len(encoded), "limit": limit},
    )  # fmt: skip
    return encoded[:limit].decode("utf-8", "ignore")


def call_began(draft: Draft, intent: CallBegan) -> Answer:
    """Nothing is called for an attempt that is not running any more. Raises Conflict, which the worker hears."""
    _check_running(draft, intent.run, intent.task, intent.attempt)
    draft.emit(
        f.ToolCalled, run=intent.run, task=intent.task, attempt=intent.attempt, call=intent.call,
        tool=intent.tool, input=intent.input, effect=intent.effect,
    )  # fmt: skip
    return Done(action="call")


def call_ended(draft: Draft, intent: CallEnded) -> Answer:
    _check_running(draft, intent.run, intent.task, intent.attempt)
    common: dict[str, Any] = {
        "task": intent.task,
        "attempt": intent.attempt,
        "call": intent.call,
        "tool": intent.tool,
    }
    if intent.error is not None:
        draft.emit(f.ToolFailed, run=intent.run, error=intent.error, **common)
    else:
        draft.emit(f.ToolResult, run=intent.run, output=intent.output, **common)
    return Done(action="call")


def call_skipped(draft: Draft, intent: CallSkipped) -> Answer:
    """The call is told as one that began and ended at once, so that what the model asked for is in the log (N2)."""
    _check_running(draft, intent.run, intent.task, intent.attempt)
    common: dict[str, Any] = {
        "run": intent.run, "task": intent.task, "attempt": intent.attempt, "call": intent.call, "tool": intent.tool,
    }  # fmt: skip
    draft.emit(f.ToolCalled, input=intent.input, **common)
    draft.emit(f.ToolFailed, error=f.Cause(code="skipped", kind="skipped", message=SKIPPED), **common)
    return Done(action="call")


def inputs_placed(draft: Draft, intent: PlaceInputs) -> Answer:
    """Steering words become entries before the next model step of a running task; nothing, when none wait."""
    _check_running(draft, intent.run, intent.task, intent.attempt)
    place_inputs(draft, intent.run, "steer")
    return Done(action="place")


def _check_running(draft: Draft, run: str, task: str, attempt: int) -> None:
    found = draft.state.runs.get(run)
    known = found.tasks.get(task) if found is not None and found.state != "cancelling" else None
    if known is None or known.status != "running" or known.attempt != attempt:
        raise Conflict(f"attempt {attempt} of {task} is not running", details={"reason": "attempt"})


# ---- what a person decides ----------------------------------------------------------------------------------------


def addressed(draft: Draft, run: str | None) -> Run:
    """The named unfinished run, else the one in progress.

    Raises:
        NoActiveRun: nothing is in progress. NotFound: no unfinished run of that name.
    """
    if run is not None:
        found = draft.state.runs.get(run)
        if found is None:
            raise NotFound(f"no unfinished run {run}", kind="run", hint="Ask agent.control state for the runs.")
        return found
    if draft.state.run is None:
        raise NoActiveRun("no run is in progress", hint="Start one with chat.send or agent.control goal.")
    return draft.state.run


def retry(draft: Draft, intent: RetryTask) -> Answer:
    """Back to pending, with what was skipped because of it."""
    run, task = _task(draft, intent.run, intent.task)
    if run.state == "cancelling" or run.failing is not None:
        raise Conflict("the run is ending", details={"reason": run.state if run.failing is None else "failing"})
    if run.phase != "working":
        raise Conflict("the plan's work is over", details={"reason": "answering"})
    if task.status not in (TERMINAL - {"done"}) | {"needs_review"}:
        raise Conflict(f"task {intent.task} is {task.status}", details={"reason": "status", "status": task.status})
    for name in [intent.task, *_skipped_behind(run, intent.task)]:
        draft.emit(
            f.AgentStatus, run=run.id, by=draft.by, task=name, status="retrying", message="retried by an operator"
        )
    return Done(action="retry")


def _skipped_behind(run: Run, task: str) -> list[str]:
    found: list[str] = []
    waiting = [task]
    while waiting:
        for name in run.dependents.get(waiting.pop(), ()):
            if name in run.gates:
                waiting.append(name)
            elif run.tasks[name].status == "skipped" and name not in found:
                found.append(name)
                waiting.append(name)
    return found


def decide_gate(draft: Draft, intent: DecideGate) -> Answer:
    """Approve or block a gate; the same decision twice is no fact, the contrary is refused (rulings 12)."""
    action = "approve" if intent.approve else "block"
    if intent.gate is None:
        return _review(draft, intent, action)
    run = _in_progress(draft, intent.run, "gate")
    gate = run.gates.get(intent.gate)
    if gate is None:
        raise NotFound(f"no gate {intent.gate} in run {run.id}", kind="gate")
    word: f.GateStatus = "approved" if intent.approve else "blocked"
    if gate.status == word:
        return Done(action=action, already=True)
    if gate.status == "approved":
        raise Conflict(f"gate {intent.gate} is approved", details={"status": gate.status, "by": gate.by, "ts": gate.ts})
    if gate.open_deps or gate.void:
        raise Conflict(f"what gate {intent.gate} looks at is not done", details={"reason": "not_ready"})
    draft.emit(f.GateDecided, run=run.id, by=draft.by, gate=intent.gate, status=word, note=intent.note)
    return Done(action=action)


def _review(draft: Draft, intent: DecideGate, action: str) -> Answer:
    run, task = _task(draft, intent.run, intent.task or "")
    word: f.StatusWord = "done" if intent.approve else "failed"
    if task.reviewed == word:
        return Done(action=action, already=True)
    if task.status != "needs_review" or task.spec.kind == "question":
        raise Conflict(f"task {task.spec.id} is {task.status}", details={"status": task.status})
    cause = None if intent.approve else f.Cause(code="blocked", message="blocked in review", task=task.spec.id)
    draft.emit(
        f.AgentStatus, run=run.id, by=draft.by, task=task.spec.id, status=word, cause=cause,
        message=intent.note or ("approved in review" if intent.approve else "blocked in review"),
    )  # fmt: skip
    return Done(action=action)


def answer(draft: Draft, intent: AnswerQuestion) -> Answer:
    run, task = _task(draft, intent.run, intent.task)
    if task.spec.kind != "question" or task.status != "needs_review":
        raise Conflict(f"task {intent.task} does not wait for an answer", details={"status": task.status})
    wrong = output_problems(intent.value, task.spec.schema)
    if wrong:
        raise InvalidPayload(
            f"this is no answer to {intent.task}: {wrong[0].message}",
            path="$.value" + wrong[0].path.removeprefix("$"), hint="The question's schema stands in its agent.plan.",
        )  # fmt: skip
    draft.results[intent.task] = intent.value
    draft.emit(
        f.AgentStatus, run=run.id, by=draft.by, task=intent.task, status="done", message="answered",
        result=intent.value,
    )  # fmt: skip
    return Done(action="answer")


def _task(draft: Draft, run: str | None, task: str) -> tuple[Run, Task]:
    found = _in_progress(draft, run, "task")
    if task not in found.tasks:
        raise NotFound(f"no task {task} in run {found.id}", kind="task")
    return found, found.tasks[task]


def _in_progress(draft: Draft, run: str | None, kind: str) -> Run:
    """`task` or `gate` without `run` means the run in progress, else not_found (rulings 12)."""
    if run is None and draft.state.run is None:
        raise NotFound(f"no run is in progress, so there is no such {kind}", kind=kind)
    return addressed(draft, run)
