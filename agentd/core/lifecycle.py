"""Which moves exist: the lifecycle of runs, tasks and gates as tables, and one function that applies each.

Everything that changes a state word goes through these tables; a missing key is an illegal move. The diagrams in
`docs/lifecycle.md` are printed from here, and a test tries every state with every word. Terminal states of runs never
change; a task comes back from an end only by an operator's `retry` (told as `retrying`).
"""

from agentd.protocol.facts import GateStatus, RunState, TaskStatus


class IllegalMove(Exception):
    """A fact that may not follow; in a stored fact this is damage, in a rule it is a bug of the rule."""


RUN_MOVES: dict[tuple[str, str], RunState] = {
    ("queued", "run.started"): "running",
    ("queued", "run.cancelled"): "cancelled",
    ("queued", "run.failed"): "failed",
    ("running", "run.waiting"): "waiting",
    ("running", "run.cancelling"): "cancelling",
    ("running", "run.completed"): "completed",
    ("running", "run.failed"): "failed",
    ("waiting", "run.continued"): "running",
    ("waiting", "run.cancelling"): "cancelling",
    ("waiting", "run.failed"): "failed",
    ("cancelling", "run.cancelled"): "cancelled",
}

TASK_MOVES: dict[tuple[str, str], TaskStatus] = {
    ("pending", "running"): "running",
    ("pending", "skipped"): "skipped",
    ("pending", "dropped"): "dropped",
    ("pending", "cancelled"): "cancelled",
    ("running", "done"): "done",
    ("running", "failed"): "failed",
    ("running", "cancelled"): "cancelled",
    ("running", "needs_review"): "needs_review",
    ("running", "retrying"): "pending",
    ("needs_review", "done"): "done",
    ("needs_review", "failed"): "failed",
    ("needs_review", "skipped"): "skipped",
    ("needs_review", "retrying"): "pending",
    ("failed", "retrying"): "pending",
    ("dropped", "retrying"): "pending",
    ("cancelled", "retrying"): "pending",
    ("skipped", "retrying"): "pending",
}

GATE_MOVES: dict[tuple[str, str], GateStatus] = {
    ("pending", "approved"): "approved",
    ("pending", "blocked"): "blocked",
    ("blocked", "approved"): "approved",
}


def run_moved(state: str, fact: str) -> RunState:
    """Raises IllegalMove when a run in `state` cannot have that fact."""
    found = RUN_MOVES.get((state, fact))
    if found is None:
        raise IllegalMove(f"a run that is {state} cannot have {fact}")
    return found


def task_moved(status: str, word: str) -> TaskStatus:
    """Raises IllegalMove when a task in `status` cannot be told `word`."""
    found = TASK_MOVES.get((status, word))
    if found is None:
        raise IllegalMove(f"a task that is {status} cannot be told {word}")
    return found


def gate_moved(status: str, word: str) -> GateStatus:
    """Raises IllegalMove when a gate in `status` cannot be told `word`."""
    found = GATE_MOVES.get((status, word))
    if found is None:
        raise IllegalMove(f"a gate that is {status} cannot be told {word}")
    return found
