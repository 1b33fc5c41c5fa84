"""What stored facts add to the metrics: runs and attempts as they begin and end (L17).

Called once for a step, after it is stored; facts that count nothing cost one look into a table.
"""

from collections.abc import Sequence

from agentd.core.state import Session
from agentd.protocol import facts as f
from agentd.telemetry import Metrics

ENDS: dict[type, str] = {f.RunCompleted: "completed", f.RunFailed: "failed", f.RunCancelled: "cancelled"}
COUNTED = frozenset({f.RunAccepted, f.RunStarted, f.AgentStatus, *ENDS})
NO_TASKS = frozenset({"answer", "planning"})


def count(metrics: Metrics, facts: Sequence[f.AnyFact], before: Session) -> None:
    """`before`: the state that the step was decided on."""
    for fact in facts:
        if type(fact) in COUNTED:
            _one(metrics, fact, before)


def _one(metrics: Metrics, fact: f.AnyFact, before: Session) -> None:
    if isinstance(fact, f.RunAccepted):
        metrics.runs_accepted.labels(fact.kind).inc()
    elif isinstance(fact, f.RunStarted):
        metrics.runs_started.inc()
    elif isinstance(fact, f.AgentStatus):
        if fact.attempt is not None and fact.status != "running" and fact.task not in NO_TASKS:
            metrics.tasks_ended.labels(fact.status).inc()
    else:
        word = ENDS[type(fact)]
        run = before.runs.get(fact.run or "")
        metrics.runs_ended.labels(word).inc()
        metrics.run_seconds.labels(word).observe((fact.ts - (run.accepted if run is not None else fact.ts)) / 1000)
