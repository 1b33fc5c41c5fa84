"""The plan while it runs: how a status moves a task, and what that opens and closes behind it.

Every count here is kept as facts come, never recounted, so that a fact costs the same in a plan of 10 and of 200
tasks: `open_deps` on each node, `ready` (pending, all dependencies ended, not admitted), `watched` (of these, what
waits for more than a permit), `queued` (admitted, no permit), `running`, `settled`. Only an operator's retry of
something that had ended recounts (`_reopened`).
"""

from collections.abc import Iterable

from msgspec.structs import replace

from agentd.core.lifecycle import gate_moved, task_moved
from agentd.core.state import PERMIT_KINDS, SETTLED, TERMINAL, Call, Gate, Run, Task
from agentd.protocol.facts import (
    AgentPlan,
    AgentStatus,
    FailPolicy,
    GateDecided,
    PlanGate,
    PlanTask,
    ToolCalled,
    ToolFailed,
    ToolResult,
    Usage,
)


def planned(run: Run, fact: AgentPlan) -> Run:
    """The plan arrives: nodes, who waits for whom, and what is ready at once."""
    nodes: list[PlanTask | PlanGate] = [*fact.tasks, *fact.gates]
    dependents: dict[str, list[str]] = {}
    for node in nodes:
        for dep in node.depends_on:
            dependents.setdefault(dep, []).append(node.id)
    tasks = {
        spec.id: Task(
            spec=spec, open_deps=len(spec.depends_on), resume_at=None if spec.depends_on else _due(spec, fact.ts)
        )
        for spec in fact.tasks
    }
    return replace(
        run,
        plan=fact.plan,
        revision=fact.revision,
        goal=fact.goal,
        fail_policy=fact.fail_policy,
        groups=fact.groups,
        tasks=tasks,
        gates={spec.id: Gate(spec=spec, open_deps=len(spec.depends_on)) for spec in fact.gates},
        dependents={key: tuple(value) for key, value in dependents.items()},
        ready=tuple(task.spec.id for task in tasks.values() if not task.open_deps),
        watched=tuple(
            task.spec.id for task in tasks.values() if not task.open_deps and task.spec.kind not in PERMIT_KINDS
        ),
        planning=replace(run.planning, active=False),
        phase="working",
    )


def admitted(run: Run, ids: tuple[str, ...]) -> Run:
    """These ready tasks are queued now."""
    if not ids:
        return run
    tasks = dict(run.tasks)
    fresh = 0
    for task_id in ids:
        task = tasks[task_id]
        fresh += not task.admitted
        tasks[task_id] = replace(task, admitted=True, resume_at=None)
    return replace(
        run,
        tasks=tasks,
        ready=_beyond(run.ready, ids),
        watched=_beyond(run.watched, ids) if run.watched else run.watched,
        queued=run.queued + ids,
        accepted_tasks=run.accepted_tasks + fresh,
    )


def status_told(run: Run, fact: AgentStatus) -> Run:
    """A task moved; the counts, its dependents and the run's cause of failure follow."""
    if fact.admitted:
        run = admitted(run, fact.admitted)
    old = run.tasks[fact.task]
    status = task_moved(old.status, fact.status)
    fresh = status == "running" and old.spec.kind in PERMIT_KINDS and not old.admitted
    task = replace(
        old,
        status=status,
        attempt=fact.attempt if fact.attempt is not None else old.attempt,
        worker=fact.worker if status == "running" else None,
        resume_at=_resumes(old, fact) if status == "pending" else None,
        calls=(),
        once=False,
        admitted=old.admitted or fresh,
        reviewed=_reviewed(old, fact),
    )
    pending = old.status == "pending"
    admitted_before = pending and fact.task in run.queued
    run = replace(
        run,
        tasks={**run.tasks, fact.task: task},
        ready=_without(run.ready, fact.task) if pending and not admitted_before else run.ready,
        watched=_without(run.watched, fact.task) if run.watched else run.watched,
        queued=_without(run.queued, fact.task) if admitted_before else run.queued,
        running=_running(run.running, fact.task, old.status, status),
        accepted_tasks=run.accepted_tasks + fresh,
        settled=run.settled + (status in SETTLED) - (old.status in SETTLED),
        dropped_ids=_dropped(run.dropped_ids, fact.task, old.status, status),
        usage=added(run.usage, fact.usage),
        recoveries=_recoveries(run, fact),
    )
    if status in TERMINAL:
        run = _closed(run, [(fact.task, status == "done")], fact.ts)
    elif status == "pending":
        run = _reopened(run) if old.status in TERMINAL else _again(run, task)
    if status == "failed" and run.failing is None and fact.cause is not None and policy_of(run, task) != "continue":
        run = replace(run, failing=replace(fact.cause, task=fact.task))
    return _calmed(run)


def gate_told(run: Run, fact: GateDecided) -> Run:
    old = run.gates[fact.gate]
    status = gate_moved(old.status, fact.status)
    gate = replace(old, status=status, by=fact.by.principal if fact.by else None, ts=fact.ts)
    run = replace(run, gates={**run.gates, fact.gate: gate})
    return _closed_behind(run, fact.gate, True, fact.ts) if status == "approved" else run


def call_told(run: Run, fact: ToolCalled | ToolResult | ToolFailed) -> Run:
    """Open tool calls of a running attempt; a call that may not be repeated marks the attempt."""
    task = run.tasks[fact.task]
    if isinstance(fact, ToolCalled):
        calls = (*task.calls, Call(call=fact.call, tool=fact.tool, effect=fact.effect))
        task = replace(task, calls=calls, once=task.once or fact.effect == "once")
    else:
        task = replace(task, calls=tuple(call for call in task.calls if call.call != fact.call))
    return replace(run, tasks={**run.tasks, fact.task: task})


def policy_of(run: Run, task: Task) -> FailPolicy:
    """Task before group before plan; what is not required never fails the run."""
    if not task.spec.required:
        return "continue"
    if task.spec.fail_policy is not None:
        return task.spec.fail_policy
    for group in run.groups:
        if group.id == task.spec.group and group.fail_policy is not None:
            return group.fail_policy
    return run.fail_policy


def added(total: Usage, more: Usage | None) -> Usage:
    """Usage over several calls: sums, the newest model, the first time to a token."""
    if more is None:
        return total
    return Usage(
        model=more.model or total.model,
        input_tokens=total.input_tokens + more.input_tokens,
        output_tokens=total.output_tokens + more.output_tokens,
        ttft_ms=total.ttft_ms if total.ttft_ms is not None else more.ttft_ms,
        calls=total.calls + more.calls,
        estimated=total.estimated or more.estimated,
    )


def may_start(run: Run, task: Task) -> bool:
    """All its dependencies ended as it needs them; a join is content with any end."""
    return task.spec.kind == "join" or all(_good(run, dep) for dep in task.spec.depends_on)


def startable(run: Run, task_id: str) -> bool:
    """Ready, wants a permit, and waits for no timer: what keeps a run saturated."""
    task = run.tasks[task_id]
    return task.spec.kind in PERMIT_KINDS and task.resume_at is None


def _good(run: Run, node: str) -> bool:
    task = run.tasks.get(node)
    return task.status == "done" if task is not None else run.gates[node].status == "approved"


def _due(spec: PlanTask, ts: int) -> int | None:
    return ts + round(spec.delay_s * 1000) if spec.kind == "delay" and spec.delay_s is not None else None


def _resumes(task: Task, fact: AgentStatus) -> int | None:
    """A delay that is retried waits anew."""
    return fact.resume_at if fact.resume_at is not None else _due(task.spec, fact.ts)


def _again(run: Run, task: Task) -> Run:
    """Back among the ready: another attempt follows."""
    name, watched = task.spec.id, run.watched
    if watched is not None and (task.resume_at is not None or task.spec.kind not in PERMIT_KINDS):
        watched = (*watched, name)
    return replace(run, ready=(*run.ready, name), watched=watched)


def _beyond(ready: tuple[str, ...], ids: tuple[str, ...]) -> tuple[str, ...]:
    """`ready` without `ids`, which mostly are its first: then what is left is not looked at one by one."""
    if ready[: len(ids)] == ids:
        return ready[len(ids) :]
    gone = set(ids)
    return tuple([task_id for task_id in ready if task_id not in gone])


def _without(ids: tuple[str, ...], gone: str) -> tuple[str, ...]:
    if gone not in ids:
        return ids
    place = ids.index(gone)
    return ids[:place] + ids[place + 1 :]


def _running(ids: tuple[str, ...], task: str, old: str, new: str) -> tuple[str, ...]:
    if new == "running":
        return (*ids, task)
    return _without(ids, task) if old == "running" else ids


def _dropped(ids: tuple[str, ...], task: str, old: str, new: str) -> tuple[str, ...]:
    if new == "dropped":
        return (*ids, task)
    return _without(ids, task) if old == "dropped" else ids


def _reviewed(old: Task, fact: AgentStatus) -> str | None:
    decided = old.status == "needs_review" and fact.status in ("done", "failed") and fact.by is not None
    return fact.status if decided else None


def _recoveries(run: Run, fact: AgentStatus) -> int:
    """An attempt that ended by itself is progress; one that ended because of the recovery is none (rulings 5)."""
    if fact.recovery is not None:
        return fact.recovery
    ended = fact.attempt is not None and fact.status != "running"
    return 0 if ended else run.recoveries


def _closed(run: Run, ended: Iterable[tuple[str, bool]], ts: int) -> Run:
    for node, good in ended:
        run = _closed_behind(run, node, good, ts)
    return run


def _closed_behind(run: Run, node: str, good: bool, ts: int) -> Run:
    """`node` has ended: one dependency less for all behind it. A gate that can't be reached any more ends too."""
    behind = run.dependents.get(node, ())
    if not behind:
        return run
    tasks, gates, ready, watched, void = dict(run.tasks), dict(run.gates), list(run.ready), list[str](), []
    for name in behind:
        if name in tasks:
            task = tasks[name]
            left = task.open_deps - 1
            tasks[name] = replace(task, open_deps=left, resume_at=_due(task.spec, ts) if not left else task.resume_at)
            if not left and task.status == "pending" and name not in ready:
                ready.append(name)
                if task.spec.kind not in PERMIT_KINDS or not may_start(run, task):
                    watched.append(name)
        else:
            gate = gates[name]
            gates[name] = replace(gate, open_deps=gate.open_deps - 1, void=gate.void or not good)
            if gates[name].void and gates[name].open_deps == 0:
                void.append((name, False))
    run = replace(
        run, tasks=tasks, gates=gates, ready=tuple(ready),
        watched=(*run.watched, *watched) if run.watched is not None else None,
    )  # fmt: skip
    return _closed(run, void, ts)


def _reopened(run: Run) -> Run:
    """Something that had ended is pending again: count all open dependencies anew, in declared order. Gates may stand
    behind gates, so they are looked at again until none changes; there are no cycles, so that ends."""
    while True:
        gates = {name: _recounted(run, gate) for name, gate in run.gates.items()}
        if gates == run.gates:
            break
        run = replace(run, gates=gates)
    tasks = {name: replace(task, open_deps=_open_deps(run, task.spec.depends_on)) for name, task in run.tasks.items()}
    ready = tuple(
        name for name, task in tasks.items()
        if task.status == "pending" and not task.open_deps and name not in run.queued
    )  # fmt: skip
    watched = tuple(
        name for name in ready
        if tasks[name].spec.kind not in PERMIT_KINDS or tasks[name].resume_at is not None
        or not may_start(run, tasks[name])
    )  # fmt: skip
    return replace(run, tasks=tasks, ready=ready, watched=watched)


def _recounted(run: Run, gate: Gate) -> Gate:
    void = any(_ended(run, dep) and not _good(run, dep) for dep in gate.spec.depends_on)
    return replace(gate, open_deps=_open_deps(run, gate.spec.depends_on), void=void)


def _open_deps(run: Run, depends_on: tuple[str, ...]) -> int:
    return sum(not _ended(run, dep) for dep in depends_on)


def _ended(run: Run, node: str) -> bool:
    task = run.tasks.get(node)
    if task is not None:
        return task.status in TERMINAL
    gate = run.gates[node]
    return gate.status == "approved" or (gate.void and gate.open_deps == 0)


def _calmed(run: Run) -> Run:
    """The episode of saturation ends when no task that could start waits (rulings 24)."""
    if run.saturated_since is None or run.queued or any(startable(run, task_id) for task_id in run.ready):
        return run
    return replace(run, saturated_since=None, prolonged=False)
