"""What becomes of attempts whose process is gone (design 4; rulings 5 to 7).

An attempt is repeated when all that it had begun may be repeated; otherwise a person is asked (`needs_review`, cause
`lost`). A recovery is charged to a run that had an attempt cut off and no other attempt ended since the last one;
a drained stop is never charged. The fourth charged recovery fails the run.
"""

from agentd.core import run as runs
from agentd.core import schedule
from agentd.core.draft import Draft
from agentd.core.intents import Recovered
from agentd.core.state import Run, Task
from agentd.protocol import facts as f

INTERRUPTED = f.Cause(code="interrupted", message="the server stopped while this ran")


def recovered(draft: Draft, intent: Recovered) -> None:
    """Only the run in progress can have attempts; queued, paused and waiting ones are not charged."""
    run = draft.state.run
    if run is None or not run.attempts:
        return
    if run.state == "cancelling" or run.failing is not None:
        _end_attempts(draft, run)
        return
    charge = run.recoveries + (not intent.drained)
    if charge > draft.given.caps.recoveries:
        _end_attempts(draft, run)
        cause = f.Cause(
            code=runs.NO_PROGRESS, message=f"no progress over {charge} crashes",
            hint="Look at the trace for what the run was doing, then start it again.",
        )  # fmt: skip
        schedule.end_work(draft, run.id, "cancelled", cause, cause.message)
        runs.end_failed(draft, run.id, cause)
        return
    for name, attempt in (("planning", run.planning), ("answer", run.answer)):
        if attempt.active:
            _retrying(draft, run.id, name, attempt.number, charge)
    for name in run.running:
        _cut_off(draft, run.id, run.tasks[name], charge)


def close_calls(draft: Draft, run: str, task: Task, kind: str) -> None:
    """An attempt's end first closes its open tool calls, in the same step (rulings 7)."""
    for call in task.calls:
        draft.emit(
            f.ToolFailed, run=run, task=task.spec.id, attempt=task.attempt, call=call.call, tool=call.tool,
            error=f.Cause(code=kind, message=f"the attempt ended while {call.tool} ran", kind=kind),
        )  # fmt: skip


def _cut_off(draft: Draft, run: str, task: Task, charge: int) -> None:
    lost = task.once or task.spec.effect == "once"
    close_calls(draft, run, task, "lost" if lost else "interrupted")
    if not lost:
        _retrying(draft, run, task.spec.id, task.attempt, charge)
        return
    cause = f.Cause(
        code="lost", message="it had begun something that may not be done twice; nobody knows whether it was done",
        task=task.spec.id, hint="Look, then approve (it was done) or retry.",
    )  # fmt: skip
    draft.emit(
        f.AgentStatus, run=run, by=draft.by, task=task.spec.id, status="needs_review", attempt=task.attempt,
        message=cause.message, cause=cause, recovery=charge,
    )  # fmt: skip


def _retrying(draft: Draft, run: str, task: str, attempt: int, charge: int) -> None:
    draft.emit(
        f.AgentStatus, run=run, by=draft.by, task=task, status="retrying", attempt=attempt,
        message="interrupted, will be repeated", cause=INTERRUPTED, recovery=charge,
    )  # fmt: skip


def _end_attempts(draft: Draft, run: Run) -> None:
    """Nothing of a run that is ending is repeated or reviewed; a call in doubt is named."""
    for name in run.running:
        task = run.tasks[name]
        close_calls(draft, run.id, task, "interrupted")
        doubt = next((call for call in task.calls if call.effect == "once"), None)
        message = INTERRUPTED.message if doubt is None else f"{INTERRUPTED.message}; {doubt.tool} may have been done"
        draft.emit(
            f.AgentStatus, run=run.id, by=draft.by, task=name, status="cancelled", attempt=task.attempt,
            message=message, cause=f.Cause(code="interrupted", message=message),
        )  # fmt: skip
    if run.state == "cancelling" and (run.answer.active or run.planning.active):
        runs.end_cancelled(draft, run.id)
