"""What to say of a session's liveness, from its state alone: no model call, no clock (S17; protocol.md, 5a).

`blocked`: there is unfinished work and nothing of it can go on without somebody. `watching`: work goes on, or waits
for a permit or a timer. `idle`: nothing is unfinished.
"""

from typing import Any, Literal

import msgspec

from agentd.core.schedule import needs_person
from agentd.core.state import Run, Session
from agentd.protocol.facts import Suggestion

Status = Literal["idle", "watching", "blocked"]


class Beat(msgspec.Struct, frozen=True):
    status: Status
    message: str
    suggestions: tuple[Suggestion, ...]


def beat(state: Session, server_paused: bool) -> Beat:
    """The beat of a session now."""
    if not state.runs:
        return Beat("idle", "nothing is unfinished", (Suggestion(kind="start", reason="a chat or a goal starts work"),))
    paused = server_paused or state.mode == "paused"
    current = state.run
    if paused and (current is None or not current.attempts):
        return Beat("blocked", f"paused with {len(state.runs)} unfinished runs", (_resume(state, server_paused),))
    if current is not None and current.state == "waiting":
        gates, tasks = needs_person(current)
        return Beat("blocked", "waits for " + ", ".join((*gates, *tasks)), _decisions(current, gates, tasks))
    saturated = current is not None and current.saturated_since is not None
    suggestions = (_clear(),) if saturated else ()
    return Beat("watching", _doing(state), suggestions)


def _doing(state: Session) -> str:
    current = state.run
    if current is None:
        return f"{len(state.queue)} runs queued"
    waiting = f"{len(current.queued)} tasks and {len(state.queue)} runs queued"
    return f"{current.phase}: {current.attempts} attempts run, {waiting}"


def _resume(state: Session, server_paused: bool) -> Suggestion:
    action: dict[str, Any] = {"type": "agent.control", "action": "resume"}
    if server_paused:
        action["session"] = "*"
        return Suggestion(kind="resume", reason="the server is paused", action=action)
    return Suggestion(kind="resume", reason="the session is paused", action=action)


def _clear() -> Suggestion:
    action = {"type": "agent.control", "action": "clear_saturation"}
    return Suggestion(kind="clear", reason="more is ready than may run now; this drops the backlog", action=action)


def _decisions(run: Run, gates: tuple[str, ...], tasks: tuple[str, ...]) -> tuple[Suggestion, ...]:
    found = [
        Suggestion(
            kind="approve", reason=run.gates[gate].spec.title,
            action={"type": "agent.control", "action": "approve", "run": run.id, "gate": gate},
        )
        for gate in gates
    ]  # fmt: skip
    for name in tasks:
        task = run.tasks[name]
        if task.spec.kind == "question":
            found.append(Suggestion(kind="answer", reason=task.spec.question or task.spec.title))
        else:
            action = {"type": "agent.control", "action": "approve", "run": run.id, "task": name}
            found.append(Suggestion(kind="review", reason=task.spec.title, action=action))
    return tuple(found)


def permitted(suggestions: tuple[Suggestion, ...], operator: bool) -> tuple[Suggestion, ...]:
    """For a reader who may not decide, a suggestion has no action (rulings 22)."""
    if operator:
        return suggestions
    return tuple(
        Suggestion(kind=one.kind, reason=one.reason) if _needs_operator(one.action) else one for one in suggestions
    )


def _needs_operator(action: dict[str, Any] | None) -> bool:
    return action is not None and (action.get("action") in ("approve", "block") or action.get("session") == "*")
