"""How a session's state is shown: `agent.state`, heartbeats, and the replies that `decide` left as values."""

from typing import Literal

from agentd.actors.caller import Caller
from agentd.actors.shared import Shared
from agentd.core import intents as i
from agentd.core.admission import session_figures
from agentd.core.schedule import blocked_by
from agentd.core.state import Run, Session
from agentd.protocol.facts import Mode
from agentd.protocol.replies import (
    BranchedReply,
    ControlDone,
    LeafReply,
    MemoryDone,
    MemoryEvictDone,
    MemoryForgetDone,
    MemoryLoadDone,
    MemorySummarizeDone,
    MemoryUpdateDone,
    RunAcceptedAgain,
    SessionNewDone,
    SessionResetDone,
)
from agentd.protocol.signals import AgentState, RunShown, TaskShown

PausedBy = tuple[Literal["session", "server"], ...]


def effective_mode(state: Session, shared: Shared) -> tuple[Mode, PausedBy]:
    """The mode that counts, and who set it (rulings 19)."""
    by: list[Literal["session", "server"]] = []
    if state.mode == "paused":
        by.append("session")
    if shared.load.server_paused:
        by.append("server")
    return ("paused" if by else "running"), tuple(by)


def state_shown(state: Session, shared: Shared, request: str | None = None) -> AgentState:
    """The answer to `state`: made from the published state, at once."""
    mode, paused_by = effective_mode(state, shared)
    ahead = 1 if state.current is not None else 0
    places = {name: max(ahead + place, 1) for place, name in enumerate(state.queue)}
    return AgentState(
        session=state.key,
        ts=shared.clock.now_ms(),
        request=request,
        mode=mode,
        paused_by=paused_by or None,
        runs=tuple([_run_shown(run, places, shared, mode == "paused") for run in state.runs.values()]),
        last_goal=state.last_goal,
        backpressure=session_figures(state, shared.caps, shared.load.retry_after_ms(mode == "paused")),
        loop_lag_ms=round(shared.loop_lag_s() * 1000, 1),
        runs_unfinished=shared.load.unfinished,
    )


def _run_shown(run: Run, places: dict[str, int], shared: Shared, paused: bool) -> RunShown:
    """A session may have 32 that wait, and tells of them four times a second."""
    queued = run.state == "queued"
    return RunShown(
        run=run.id,
        kind=run.kind,
        state=run.state,
        position=places[run.id] if queued else None,
        held="paused" if paused and queued else None,
        tasks=_tasks_shown(run, shared, paused) if run.tasks else None,
    )


def _tasks_shown(run: Run, shared: Shared, paused: bool) -> tuple[TaskShown, ...]:
    return tuple(
        TaskShown(
            id=name,
            status=task.status,
            attempt=task.attempt or None,
            blocked_by=blocked_by(run, task, paused, shared.caps.dispatch) or None,
        )
        for name, task in run.tasks.items()
    )


_MEMORY: dict[str, type[MemoryDone]] = {
    "memory.load": MemoryLoadDone,
    "memory.update": MemoryUpdateDone,
    "memory.evict": MemoryEvictDone,
    "memory.forget": MemoryForgetDone,
}


def memory_done(key: str, ts: int, answer: i.MemoryChanged) -> MemoryDone:
    """What an act on working memory is answered with."""
    if answer.kind == "memory.summarize":
        return MemorySummarizeDone(
            session=key, ts=ts, memory_ids=answer.ids, bytes_before=answer.bytes_before,
            bytes_after=answer.bytes_after, summary=answer.summary,
        )  # fmt: skip
    return _MEMORY[answer.kind](
        session=key, ts=ts, memory_ids=answer.ids, bytes_before=answer.bytes_before, bytes_after=answer.bytes_after,
        already=answer.already or None,
    )  # fmt: skip


def answer_with(state: Session, shared: Shared, caller: Caller, answer: i.Answer, seq: int) -> None:
    """The reply that a decision asked for, made from the state that it left."""
    key, ts = state.key, shared.clock.now_ms()
    match answer:
        case i.Done():
            caller.done(key, seq, ControlDone(session=key, ts=ts, action=answer.action, already=answer.already or None))
        case i.StateShown():
            caller.done(key, seq, state_shown(state, shared))
        case i.EpochBegun():
            kind = SessionNewDone if answer.request_type == "session.new" else SessionResetDone
            caller.done(key, seq, kind(session=key, ts=ts, archived=answer.archived, epoch=answer.epoch))
        case i.Repeated():
            run = state.runs.get(answer.run)
            if run is None:
                caller.repeated(key, answer.run)
            else:
                again = RunAcceptedAgain(session=key, ts=ts, run=answer.run, state=run.state, repeated=True)
                caller.done(key, seq, again)
        case i.MemoryChanged():
            caller.done(key, seq, memory_done(key, ts, answer))
        case i.LeafSet():
            caller.done(key, seq, LeafReply(session=key, ts=ts, leaf=answer.leaf))
        case i.Branched():
            caller.done(key, seq, BranchedReply(session=key, ts=ts, new_session=key, leaf=answer.leaf))
        case i.Imported():
            caller.done(key, seq, ControlDone(session=key, ts=ts, action="import", already=answer.already or None))
        case _:
            raise TypeError(f"no reply for {type(answer).__name__}")
