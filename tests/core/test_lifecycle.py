"""The tables of moves: every state with every word, in `evolve` and in the document drawn from them (L7)."""

import os
from pathlib import Path
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from agentd.core import lifecycle
from agentd.core.evolve import evolve
from agentd.core.lifecycle import GATE_MOVES, RUN_MOVES, TASK_MOVES, IllegalMove
from agentd.core.state import Session
from agentd.protocol import facts as f
from tests.core.shell import Shell, gate, model

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "lifecycle.md"
RUN_STATES: tuple[f.RunState, ...] = get_args(f.RunState)
TASK_STATUSES: tuple[f.TaskStatus, ...] = get_args(f.TaskStatus)
WORDS: tuple[f.StatusWord, ...] = get_args(f.StatusWord)
GATE_STATUSES: tuple[f.GateStatus, ...] = get_args(f.GateStatus)
CAUSE = f.Cause(code="x", message="x")
COUNTS = f.Counts(total=2, done=0, failed=0, cancelled=0, skipped=0, dropped=0)
ENDED: dict[str, Any] = {"cause": CAUSE, "usage": f.Usage(), "duration_ms": 1, "counts": COUNTS}
RUN_FACTS: dict[str, f.AnyFact] = {
    "run.started": f.RunStarted(session="s", seq=0, ts=0, entry="e", parent=None),
    "run.waiting": f.RunWaiting(session="s", seq=0, ts=0, gates=(), questions=(), cause=CAUSE),
    "run.continued": f.RunContinued(session="s", seq=0, ts=0, cause=CAUSE),
    "run.cancelling": f.RunCancelling(session="s", seq=0, ts=0),
    "run.completed": f.RunCompleted(session="s", seq=0, ts=0, **ENDED),
    "run.failed": f.RunFailed(session="s", seq=0, ts=0, **ENDED),
    "run.cancelled": f.RunCancelled(session="s", seq=0, ts=0, **ENDED),
}
TERMINAL_RUNS = ("completed", "failed", "cancelled")
MEANING = {
    "queued": "accepted, waits for its turn or for the session to be resumed",
    "running": "its planning, its tasks or its answer go on, or wait for a permit or a timer",
    "waiting": "nothing of it can go on without a person",
    "cancelling": "a cancel was asked for; what runs is being ended",
    "completed": "it has its answer",
    "failed": "it names its cause, down to the task",
    "cancelled": "nothing of it runs any more",
    "pending": "has not started; shown as ready or queued when it is",
    "needs_review": "a person has to say what it is",
    "done": "it brought what it should",
    "skipped": "it will not be needed, or what it depends on did not end well",
    "dropped": "the dispatch cap left it out (`overflow: drop`)",
    "approved": "what is behind it may start",
    "blocked": "what is behind it is kept back",
}


def working() -> Session:
    """A run with two tasks and a gate, its plan just made."""
    shell = Shell()
    shell.workers = 0
    shell.plan(model("t1"), model("t2", "t1"), gates=(gate("g"),))
    return shell.state


def told(state: Session, fact: f.AnyFact) -> Session:
    run = state.run
    assert run is not None
    return evolve(state, replace(fact, seq=state.seq + 1, ts=state.ts, run=run.id, run_seq=run.run_seq + 1))


@pytest.mark.parametrize("word", RUN_FACTS)
@pytest.mark.parametrize("state", RUN_STATES)
def test_every_run_state_with_every_fact(state: f.RunState, word: str) -> None:
    session = working()
    run = session.run
    assert run is not None
    session = replace(session, runs={run.id: replace(run, state=state)})
    expected = RUN_MOVES.get((state, word))
    if expected is None:
        with pytest.raises(IllegalMove):
            told(session, RUN_FACTS[word])
        return
    after = told(session, RUN_FACTS[word])
    assert (after.runs[run.id].state == expected) if run.id in after.runs else expected in TERMINAL_RUNS


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("status", TASK_STATUSES)
def test_every_task_status_with_every_word(status: f.TaskStatus, word: f.StatusWord) -> None:
    session = working()
    run = session.run
    assert run is not None
    task = replace(run.tasks["t1"], status=status)
    session = replace(session, runs={run.id: replace(run, tasks={**run.tasks, "t1": task})})
    fact = f.AgentStatus(session="s", seq=0, ts=0, task="t1", status=word, message="")
    expected = TASK_MOVES.get((status, word))
    if expected is None:
        with pytest.raises(IllegalMove):
            told(session, fact)
    else:
        assert told(session, fact).runs[run.id].tasks["t1"].status == expected


@pytest.mark.parametrize("word", ["approved", "blocked"])
@pytest.mark.parametrize("status", GATE_STATUSES)
def test_every_gate_status_with_every_decision(status: f.GateStatus, word: str) -> None:
    session = working()
    run = session.run
    assert run is not None
    session = replace(session, runs={run.id: replace(run, gates={"g": replace(run.gates["g"], status=status)})})
    fact = f.GateDecided(session="s", seq=0, ts=0, gate="g", status="approved" if word == "approved" else "blocked")
    expected = GATE_MOVES.get((status, word))
    if expected is None:
        with pytest.raises(IllegalMove):
            told(session, fact)
    else:
        assert told(session, fact).runs[run.id].gates["g"].status == expected


def test_nothing_leads_out_of_a_run_s_end_and_out_of_done() -> None:
    assert not [move for move in RUN_MOVES if move[0] in TERMINAL_RUNS]
    assert not [move for move in TASK_MOVES if move[0] == "done"]
    assert {new for (old, word), new in TASK_MOVES.items() if word == "retrying"} == {"pending"}


def test_a_fact_of_a_run_that_is_over_or_unknown_is_damage() -> None:
    session = working()
    with pytest.raises(IllegalMove):
        evolve(session, f.RunContinued(session="s", seq=session.seq + 1, ts=0, run="nobody", run_seq=1, cause=CAUSE))
    with pytest.raises(IllegalMove):
        evolve(session, f.SessionMode(session="s", seq=session.seq + 2, ts=0, mode="paused"))


def test_the_document_says_what_the_tables_say() -> None:
    page = drawn()
    if os.environ.get("REWRITE"):
        DOCUMENT.write_text(page, encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == page


def drawn() -> str:
    """docs/lifecycle.md: a diagram, the states and the arrows of each table."""
    parts = [
        "# Lifecycles\n\nPrinted from the tables in `agentd/core/lifecycle.py`"
        " (`REWRITE=1 pytest tests/core/test_lifecycle.py`); a test keeps\nthe two together, and tries every state with"
        " every word. A move that is not here is refused.\n"
    ]
    tables: list[tuple[str, dict[tuple[str, str], str]]] = [
        ("Runs", dict(RUN_MOVES)), ("Tasks", dict(TASK_MOVES)), ("Gates", dict(GATE_MOVES))
    ]  # fmt: skip
    for title, moves in tables:
        states = list(dict.fromkeys([name for (old, _), new in moves.items() for name in (old, new)]))
        lines = [f"## {title}\n", "```mermaid", "stateDiagram-v2"]
        lines += [f"  {old} --> {new}: {word}" for (old, word), new in moves.items()]
        lines += ["```\n", "| state | means |", "|---|---|"]
        lines += [f"| `{name}` | {MEANING[name]} |" for name in states]
        lines += ["", "| from | fact or word | to |", "|---|---|---|"]
        lines += [f"| {old} | `{word}` | {new} |" for (old, word), new in moves.items()]
        parts.append("\n".join(lines) + "\n")
    parts.append(
        "`retrying` out of an end is an operator's `retry`; out of `running` it is another attempt of the same task."
        "\nDraining belongs to the process and is no state; paused is the mode of a session, no state of a run.\n"
    )
    return "\n".join(parts)


def test_the_module_says_where_the_document_is() -> None:
    assert "docs/lifecycle.md" in (lifecycle.__doc__ or "")
