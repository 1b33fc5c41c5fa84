"""Which tasks may start now, and why the others may not.

`work` is called after every command for the run in progress while its plan is worked on. It settles what needs no
worker (joins, switches, questions, delays, what can't be reached), admits what is ready within the caps, starts what
has a permit, and says what happened. Its cost follows what is ready and queued, not the size of the plan.
"""

from collections.abc import Iterable
from itertools import chain, islice
from typing import Any

from agentd.core.draft import Draft
from agentd.core.graph import may_start, startable
from agentd.core.inputs import place_inputs
from agentd.core.state import PERMIT_KINDS, TERMINAL, Run, Task
from agentd.protocol import facts as f
from agentd.protocol.signals import Blocked


def work(draft: Draft, name: str) -> bool:
    """Everything of the plan that can happen now; whether the run has to be looked at again. What starts has taken all
    that it could, so that a second look would find nothing: it was a third of what an outcome cost."""
    _settle(draft, name)
    run, before = draft.run(name), len(draft.facts)
    if run.failing is not None:
        return True
    if all_ended(run):
        _ready_to_answer(draft, run)
        return True
    admitted, left = _admissible(draft, run)
    starting = _startable(draft, run, admitted)
    if run.queued and not starting and run.overflow == "defer":
        # While some wait for a permit already, more are let in with the next start: one fact a wave and not one a task.
        admitted, left = [], chain(admitted, left)
    admitted = _within_queues(draft, run, admitted, starting)
    dropped = _droppable(run, left)
    _continue_or_wait(draft, run, bool(starting or admitted))
    if run.saturated_since is None and not draft.paused and (dropped or _waits(run, starting, admitted, left)):
        draft.emit(
            f.AgentProgress, run=name, phase="planner", status="saturated",
            message="more tasks are ready than may run now",
        )  # fmt: skip
    if not run.accepted_tasks and admitted:
        _queued(draft, name, tuple(admitted))
        admitted = []
    for task_id in dropped:
        draft.emit(
            f.AgentStatus, run=name, task=task_id, status="dropped", message="over the dispatch cap",
            cause=f.Cause(code="dispatch_cap", message=f"more than {draft.given.caps.dispatch} tasks were admitted"),
        )  # fmt: skip
    if dropped:
        _settle(draft, name)
    _start(draft, name, starting, tuple([task for task in admitted if task not in starting]))
    return run.overflow == "drop" and len(draft.facts) > before


def all_ended(run: Run) -> bool:
    """No task can move any more and no gate is waited for."""
    done = run.settled + len(run.dropped_ids) == len(run.tasks)
    return done and all(gate.status == "approved" or gate.void for gate in run.gates.values())


def blocked_by(run: Run, task: Task, paused: bool, dispatch: int) -> tuple[Blocked, ...]:
    """Why a task has not started; empty for one that runs or has ended."""
    if task.status == "needs_review":
        kind = "question" if task.spec.kind == "question" else "review"
        return (Blocked(kind=kind, id=task.spec.id),)  # type: ignore[arg-type]
    if task.status != "pending":
        return ()
    if task.open_deps:
        return tuple(_blocker(run, dep) for dep in task.spec.depends_on if not _ended(run, dep))
    if task.resume_at is not None:
        return (Blocked(kind="timer"),)
    if paused:
        return (Blocked(kind="pause"),)
    room = len(run.queued) + run.active < dispatch
    return (Blocked(kind="permit" if room or task.spec.id in run.queued else "cap"),)


def needs_person(run: Run) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Gates that can be decided now, and tasks that wait for an answer or a review."""
    gates = tuple(
        name for name, gate in run.gates.items()
        if gate.status != "approved" and not gate.void and gate.open_deps == 0
    )  # fmt: skip
    tasks = tuple(name for name, task in run.tasks.items() if task.status == "needs_review")
    return gates, tasks


def end_work(draft: Draft, name: str, status: str, cause: f.Cause | None, message: str) -> int:
    """Everything that has not started ends now as `status`; how many that were. Attempts that run are not touched."""
    run = draft.run(name)
    count = 0
    for task in run.tasks.values():
        word = "skipped" if task.status == "needs_review" else status
        if task.status in ("pending", "needs_review"):
            draft.emit(f.AgentStatus, run=name, task=task.spec.id, status=word, message=message, cause=cause)
            count += 1
    return count


# ---- what needs no worker -----------------------------------------------------------------------------------------


def _settle(draft: Draft, name: str) -> None:
    """Until nothing moves: each pass takes the ready tasks in order; what one closes may make others ready."""
    while True:
        run = draft.run(name)
        able = run.watched
        if able is None:  # restored from a snapshot of a release that did not note it
            able = tuple(task_id for task_id in run.ready if _concerned(run.tasks[task_id]))
        moved = [task_id for task_id in able if _settled(draft, draft.run(name), task_id)]
        if not moved:
            return


def _concerned(task: Task) -> bool:
    """What wants a permit and depends on nothing can only be started; a large plan may have many of these ready."""
    return bool(task.spec.depends_on) or task.spec.kind not in PERMIT_KINDS


def _settled(draft: Draft, run: Run, task_id: str) -> bool:
    task = run.tasks[task_id]
    if not may_start(run, task):
        why = next(dep for dep in task.spec.depends_on if not _good(run, dep))
        _tell(draft, run, task_id, "skipped", f"{why} did not end as done", cause=_skip_cause(why))
        return True
    match task.spec.kind:
        case "join":
            _join(draft, run, task)
        case "switch":
            _switch(draft, run, task)
        case "delay":
            return _delay(draft, run, task)
        case "question":
            _tell(draft, run, task_id, "running", "asks")
            _tell(draft, run, task_id, "needs_review", task.spec.question or task.spec.title)
        case _:
            return False
    return True


def _join(draft: Draft, run: Run, task: Task) -> None:
    """Fires when all inputs have ended; its result names those that are done, in declared order."""
    done = [dep for dep in task.spec.depends_on if _good(run, dep)]
    _tell(draft, run, task.spec.id, "running", "joins")
    need = task.spec.need or 0
    if len(done) < need:
        cause = f.Cause(code="too_few", message=f"{len(done)} of {need} inputs succeeded", task=task.spec.id)
        _tell(draft, run, task.spec.id, "failed", cause.message, cause=cause)
        return
    result = {"inputs": done}
    draft.results[task.spec.id] = result
    _tell(draft, run, task.spec.id, "done", f"{len(done)} of {len(task.spec.depends_on)} inputs", result=result)


def _switch(draft: Draft, run: Run, task: Task) -> None:
    """Takes the first case whose text is in the value it looks at; all other branches are skipped."""
    source = (task.spec.input or {}).get("from") or next(iter(task.spec.depends_on), "")
    value = _text(draft.results.get(source, draft.given.results.get(source)))
    case = next((case for case in task.spec.cases if case.match.casefold() in value.casefold()), None)
    taken = case.then if case is not None else task.spec.otherwise
    _tell(draft, run, task.spec.id, "running", "decides")
    result = {"taken": list(taken), "match": case.match if case is not None else None}
    draft.results[task.spec.id] = result
    others = [branch for other in task.spec.cases for branch in other.then] + list(task.spec.otherwise)
    for branch in dict.fromkeys(others):
        if branch not in taken and draft.run(run.id).tasks[branch].status == "pending":
            _tell(draft, run, branch, "skipped", f"{task.spec.id} took another way", cause=_skip_cause(task.spec.id))
    _tell(draft, run, task.spec.id, "done", "took " + (", ".join(taken) or "nothing"), result=result)


def _delay(draft: Draft, run: Run, task: Task) -> bool:
    if task.resume_at is not None and draft.now < task.resume_at:
        return False
    _tell(draft, run, task.spec.id, "running", "the time has come")
    _tell(draft, run, task.spec.id, "done", f"waited {task.spec.delay_s} s")
    return True


def _tell(draft: Draft, run: Run, task_id: str, status: f.StatusWord, message: str, **fields: Any) -> None:
    draft.emit(f.AgentStatus, run=run.id, task=task_id, status=status, message=message, **fields)


def _skip_cause(task: str) -> f.Cause:
    return f.Cause(code="dependency", message=f"depends on {task}", task=task)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


# ---- admission ------------------------------------------------------------------------------------------------------


def _admissible(draft: Draft, run: Run) -> tuple[list[str], Iterable[str]]:
    """Ready tasks that the dispatch cap lets in, in order, and those that it leaves, which mostly nobody looks at: of a
    large plan many are ready. A retry that waits for its time is neither."""
    room = draft.given.caps.dispatch - len(run.queued) - run.active
    if room <= 0 and run.overflow == "defer":
        return [], run.ready
    able = (name for name in run.ready if _due(draft, run.tasks[name]))
    admitted = list(islice(able, max(room, 0)))
    return admitted, able if run.overflow == "defer" else list(able)


def _startable(draft: Draft, run: Run, admitted: list[str]) -> list[str]:
    """In the order they were admitted, as far as permits reach: a worker each, a model permit for model tasks."""
    workers, models, starting = len(draft.workers), draft.models, list[str]()
    if draft.paused or not workers:
        return starting
    for name in chain(run.queued, admitted):
        model = run.tasks[name].spec.kind == "model"
        if model and not models:
            continue
        workers, models = workers - 1, models - model
        starting.append(name)
        if not workers:
            break
    return starting


def _within_queues(draft: Draft, run: Run, admitted: list[str], starting: list[str]) -> list[str]:
    """What is admitted and not started is queued; beyond the session's and the server's room it stays pending."""
    if not admitted:
        return admitted
    started = set(starting)
    left = len([name for name in run.queued if name not in started])
    room = min(draft.given.caps.queued_per_session - left, draft.queue_room)
    kept: list[str] = []
    for name in admitted:
        if name in started:
            kept.append(name)
        elif room > 0:
            room -= 1
            kept.append(name)
    return kept


def _waits(run: Run, starting: list[str], admitted: list[str], left: Iterable[str]) -> bool:
    """Something is ready for which there is no permit, or no place under the cap."""
    return len(run.queued) + len(admitted) > len(starting) or any(startable(run, name) for name in left)


def _droppable(run: Run, left: Iterable[str]) -> list[str]:
    """Only the dispatch cap drops, and only at a task's first admission (rulings 25)."""
    if run.overflow != "drop":
        return []
    return [name for name in left if not run.tasks[name].admitted]


def _due(draft: Draft, task: Task) -> bool:
    if task.spec.kind not in PERMIT_KINDS:
        return False
    return task.resume_at is None or task.resume_at <= draft.now


def _queued(draft: Draft, name: str, admitted: tuple[str, ...]) -> None:
    draft.emit(
        f.AgentProgress, run=name, phase="workers", status="queued", admitted=admitted,
        message=f"{len(admitted)} tasks were handed to the workers",
    )  # fmt: skip


def _start(draft: Draft, name: str, starting: list[str], admitted: tuple[str, ...]) -> None:
    """The first start tells what was admitted beside it; without a start a progress fact does."""
    if not starting and admitted:
        _queued(draft, name, admitted)
    if any(draft.run(name).tasks[task_id].spec.kind == "model" for task_id in starting):
        place_inputs(draft, name, "steer")
    for task_id in starting:
        task = draft.run(name).tasks[task_id]
        draft.models -= task.spec.kind == "model"
        draft.emit(
            f.AgentStatus, run=name, task=task_id, status="running", attempt=task.attempt + 1,
            worker=draft.workers.pop(0), message=task.spec.title, admitted=admitted,
        )  # fmt: skip
        admitted = ()


# ---- the run as a whole ---------------------------------------------------------------------------------------------


def _ready_to_answer(draft: Draft, run: Run) -> None:
    if run.state == "waiting":
        draft.emit(f.RunContinued, run=run.id, cause=f.Cause(code="decided", message="nothing is waited for any more"))
    draft.emit(
        f.AgentProgress, run=run.id, phase="workers", status="ready" if run.accepted_tasks else "skipped",
        message=f"{run.settled} of {len(run.tasks)} tasks ended",
    )  # fmt: skip


def _continue_or_wait(draft: Draft, run: Run, moves: bool) -> None:
    """`waiting` while nothing can go on without a person; what only waits for a permit or a timer goes on."""
    goes_on = moves or run.running or run.queued or any(run.tasks[name].status == "pending" for name in run.ready)
    if run.state == "waiting" and goes_on:
        draft.emit(f.RunContinued, run=run.id, cause=f.Cause(code="decided", message="a person decided"))
    elif run.state == "running" and not goes_on:
        gates, questions = needs_person(run)
        cause = f.Cause(code="person", message="waits for " + ", ".join([*gates, *questions]))
        draft.emit(f.RunWaiting, run=run.id, gates=gates, questions=questions, cause=cause)


def _good(run: Run, node: str) -> bool:
    task = run.tasks.get(node)
    return task.status == "done" if task is not None else run.gates[node].status == "approved"


def _ended(run: Run, node: str) -> bool:
    task = run.tasks.get(node)
    if task is not None:
        return task.status in TERMINAL
    return run.gates[node].status == "approved" or run.gates[node].void


def _blocker(run: Run, dep: str) -> Blocked:
    if dep in run.gates:
        return Blocked(kind="gate", id=dep)
    task = run.tasks[dep]
    if task.status == "needs_review":
        return Blocked(kind="question" if task.spec.kind == "question" else "review", id=dep)
    return Blocked(kind="task", id=dep)
