"""evolve(state, fact) -> state: the only thing that ever changes a session's state, live and when rebuilding.

One function for each fact that means something to the state, in one of two tables: what changes only a run, and what
changes the session. Facts that only tell are in neither. Nothing here decides: what is checked is that the fact may
follow (numbers and lifecycle tables), because a stored fact that may not is damage that has to be seen.
"""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from agentd.core import graph, window
from agentd.core.intents import Caps, goal_of
from agentd.core.lifecycle import IllegalMove, run_moved
from agentd.core.state import Attempt, Input, Run, Session
from agentd.protocol import facts as f


def evolve(state: Session, fact: f.AnyFact) -> Session:
    """The state after `fact`.

    Raises:
        IllegalMove: the fact does not follow from this state.
    """
    if fact.seq != state.seq + 1:
        raise IllegalMove(f"{state.key}: fact {fact.seq} after {state.seq}")
    kind = type(fact)
    if (of_session := _OF_SESSION.get(kind)) is not None:
        state = of_session(state, fact)
    if fact.grounds is not None and fact.grounds.caps is not None:
        state = replace(state, caps=known_caps(state.caps or Caps(), fact.grounds.caps))
    run = state.runs.get(fact.run) if fact.run is not None else None
    if (of_run := _OF_RUN.get(kind)) is not None:
        run = of_run(_run_of(state, fact), fact)
    if run is None:
        return replace(state, seq=fact.seq, ts=fact.ts)
    if fact.run_seq is not None and run.run_seq != fact.run_seq:
        run = replace(run, run_seq=fact.run_seq)
    # One new state a fact: half of what rules cost is making values that the next line takes apart again.
    return replace(state, runs={**state.runs, run.id: run}, seq=fact.seq, ts=fact.ts)


def known_caps(before: Caps, told: dict[str, int | float | bool]) -> Caps:
    """The limits as they are told anew; those that this version does not know are passed over."""
    return replace(before, **{name: told[name] for name in Caps.__struct_fields__ if name in told})


def _with(state: Session, run: Run) -> Session:
    return replace(state, runs={**state.runs, run.id: run})


def _run_of(state: Session, fact: f.Fact) -> Run:
    run = state.runs.get(fact.run or "")
    if run is None:
        raise IllegalMove(f"{state.key}: fact {fact.seq} names run {fact.run}, which is not unfinished")
    return run


# ---- session ----------------------------------------------------------------------------------------------------


def _created(state: Session, fact: f.SessionCreated) -> Session:
    state = replace(state, agent=fact.agent, owner=fact.owner, created=fact.ts)
    if fact.branched_from is None:
        return state
    return replace(window.jumped(state, fact.branched_from.entry, fact.window, fact.summaries), branched=True)


def _mode(state: Session, fact: f.SessionMode) -> Session:
    return replace(state, mode=fact.mode)


def _epoch(state: Session, fact: f.SessionEpoch) -> Session:
    runs = {name: _kept_leaf(run, state.leaf) for name, run in state.runs.items()}
    return replace(window.jumped(state, None, (), ()), epoch=fact.epoch, runs=runs)


def _kept_leaf(run: Run, leaf: str | None) -> Run:
    """What was accepted before goes on from where the session was then (rulings 21)."""
    return replace(run, leaf_id=leaf) if run.state == "queued" and run.leaf_id is None else run


def _leaf(state: Session, fact: f.SessionLeaf) -> Session:
    return window.jumped(state, fact.leaf, fact.window, fact.summaries)


def _received(state: Session, fact: f.SessionReceive) -> Session:
    run = _run_of(state, fact)
    size = window.size_of(fact.content, fact.bytes, fact.held)
    state = window.entered(state, run.tip, fact.entry, fact.role, size)
    return _with(
        state,
        replace(
            run,
            tip=fact.entry,
            answers=run.answers + 1,
            answer=replace(run.answer, step=run.answer.step + 1),
            usage=graph.added(run.usage, fact.usage),
            recoveries=0,
        ),
    )


# ---- run --------------------------------------------------------------------------------------------------------


def _accepted(state: Session, fact: f.RunAccepted) -> Session:
    run = Run(
        id=fact.run or "",
        kind=fact.kind,
        state="queued",
        content=fact.content,
        bytes=fact.bytes,
        accepted=fact.ts,
        epoch=fact.epoch,
        principal=fact.by.principal if fact.by else "",
        overflow=fact.overflow,
        key=fact.key,
        body_hash=fact.body_hash,
        leaf_id=fact.leaf_id,
        phase="planning" if fact.kind == "goal" else "answering",
    )
    return replace(
        state,
        runs={**state.runs, run.id: run},
        queue=(run.id, *state.queue) if fact.front else (*state.queue, run.id),
        last_goal=goal_of(fact.content) if fact.kind == "goal" else state.last_goal,
        last_goal_run=run.id if fact.kind == "goal" else state.last_goal_run,
    )


def _started(state: Session, fact: f.RunStarted) -> Session:
    run = _run_of(state, fact)
    moved = run_moved(run.state, "run.started")
    if fact.window is not None and run.epoch == state.epoch:
        state = window.jumped(state, fact.parent, fact.window, fact.summaries)
    if run.epoch == state.epoch:
        size = window.size_of(run.content, run.bytes, fact.held)
        state = window.entered(state, fact.parent, fact.entry, "user", size)
    run = replace(run, state=moved, started=fact.ts, tip=fact.entry)
    queue = tuple(name for name in state.queue if name != run.id)
    return _with(replace(state, current=run.id, queue=queue), run)


def _input(state: Session, fact: f.RunInput) -> Session:
    run = _run_of(state, fact)
    if fact.entry is None:
        added = Input(number=fact.input, mode=fact.mode, content=fact.content)
        return _with(state, replace(run, inputs=(*run.inputs, added), inputs_seen=max(run.inputs_seen, fact.input)))
    size = window.size_of(fact.content, fact.bytes, fact.held)
    state = window.entered(state, run.tip, fact.entry, "user", size)
    left = tuple(item for item in run.inputs if item.number != fact.input)
    return _with(state, replace(run, inputs=left, tip=fact.entry))


def _ended(state: Session, fact: f.RunEnded) -> Session:
    run = _run_of(state, fact)
    run_moved(run.state, str(fact.__struct_config__.tag))
    if fact.memory is not None:
        state = window.related(state, fact.memory, run.tip)
    return replace(
        state,
        runs={name: other for name, other in state.runs.items() if name != run.id},
        queue=tuple(name for name in state.queue if name != run.id),
        current=None if state.current == run.id else state.current,
    )


# ---- what changes only a run ------------------------------------------------------------------------------------


def _moved(run: Run, fact: f.RunWaiting | f.RunContinued | f.RunCancelling) -> Run:
    return replace(run, state=run_moved(run.state, fact.__struct_config__.tag))  # type: ignore[arg-type]


def _progress(run: Run, fact: f.AgentProgress) -> Run:
    match fact.phase, fact.status:
        case "planner", "received":
            return replace(run, planning=Attempt(number=run.planning.number + 1, active=True))
        case "planner", "failed":
            return replace(run, planning=replace(run.planning, active=False))
        case "planner", "saturated":
            return replace(run, saturated_since=fact.ts, prolonged=False)
        case "planner", "prolonged_saturation":
            return replace(run, prolonged=True)
        case "workers", "queued":
            return graph.admitted(run, fact.admitted)
        case "workers", "ready" | "skipped":
            return replace(run, phase="answering")
        case "execution", "started":
            return replace(run, answer=Attempt(number=run.answer.number + 1, active=True))
        case "execution", "complete" | "failed":
            return replace(run, answer=replace(run.answer, active=False))
    return run


def _status(run: Run, fact: f.AgentStatus) -> Run:
    if fact.task in run.tasks:
        return graph.status_told(run, fact)
    recoveries = fact.recovery if fact.recovery is not None else 0
    usage = graph.added(run.usage, fact.usage)
    if fact.task == "answer":
        return replace(run, answer=replace(run.answer, active=False), recoveries=recoveries, usage=usage)
    if fact.task == "planning":
        return replace(run, planning=replace(run.planning, active=False), recoveries=recoveries, usage=usage)
    raise IllegalMove(f"{fact.session}: fact {fact.seq} names task {fact.task}, which is not in the plan")


def _call(run: Run, fact: f.ToolCalled | f.ToolResult | f.ToolFailed) -> Run:
    return graph.call_told(run, fact) if fact.task in run.tasks else run


_OF_SESSION: dict[type, Callable[[Session, Any], Session]] = {
    f.SessionCreated: _created,
    f.SessionMode: _mode,
    f.SessionEpoch: _epoch,
    f.SessionLeaf: _leaf,
    f.SessionReceive: _received,
    f.MemoryEvent: window.told,
    f.MemoryImported: window.imported,
    f.RunAccepted: _accepted,
    f.RunStarted: _started,
    f.RunInput: _input,
    f.RunCompleted: _ended,
    f.RunFailed: _ended,
    f.RunCancelled: _ended,
}

_OF_RUN: dict[type, Callable[[Run, Any], Run]] = {
    f.RunWaiting: _moved,
    f.RunContinued: _moved,
    f.RunCancelling: _moved,
    f.AgentProgress: _progress,
    f.AgentStatus: _status,
    f.AgentPlan: graph.planned,
    f.GateDecided: graph.gate_told,
    f.ToolCalled: _call,
    f.ToolResult: _call,
    f.ToolFailed: _call,
}
