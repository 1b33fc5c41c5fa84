"""evolve(state, fact): what a stored fact does, and which one is damage; the tables of moves are in test_lifecycle."""

from typing import Any

import pytest
from msgspec.structs import replace

from agentd.core import intents as i
from agentd.core.evolve import evolve
from agentd.core.lifecycle import IllegalMove
from agentd.core.state import Session
from agentd.protocol import facts as f
from tests.core.shell import BY, Shell, model


def after(state: Session, kind: Any, **fields: Any) -> Session:
    return evolve(state, kind(session="s", seq=state.seq + 1, ts=9, **fields))


def test_a_fact_that_only_tells_moves_nothing_but_the_numbers() -> None:
    shell = Shell()
    run = shell.chat()
    number = shell.state.runs[run].run_seq
    state = after(shell.state, f.Warned, run=run, run_seq=number + 1, code="c", message="m", source="s")
    assert (state.seq, state.ts) == (shell.state.seq + 1, 9)
    assert state.runs[run].run_seq == number + 1
    back = replace(state, seq=shell.state.seq, ts=shell.state.ts, runs=shell.state.runs)
    assert back == shell.state


@pytest.mark.parametrize("task", ["nobody", ""])
def test_a_status_of_a_task_that_is_not_in_the_plan_is_damage(task: str) -> None:
    shell = Shell()
    run = shell.plan(model("a"))
    with pytest.raises(IllegalMove, match="not in the plan"):
        after(shell.state, f.AgentStatus, run=run, run_seq=99, task=task, status="running", message="")


def test_a_call_of_the_answer_is_no_task_s() -> None:
    """Only tasks have open calls in the state; a fact of another release that names something else is no damage."""
    shell = Shell()
    run = shell.chat()
    state = after(shell.state, f.ToolCalled, run=run, run_seq=9, task="answer", attempt=1, call="c", tool="t", input={})
    assert state.runs[run].tasks == {}


def test_the_path_of_a_run_of_an_epoch_that_is_over_does_not_come_into_the_new_memory() -> None:
    """Rulings 21."""
    item = f.WindowItem(id="old", role="user", kind="message", bytes=1)
    shell = Shell()
    shell.tell(i.SetMode(by=BY, mode="paused"))
    run = shell.chat()
    fresh = replace(shell.state, epoch=shell.state.epoch + 1)
    told: dict[str, Any] = {"run": run, "run_seq": 2, "entry": "e", "parent": "old", "window": (item,)}
    assert [one.id for one in after(shell.state, f.RunStarted, **told).window] == ["old", "e"]
    state = after(fresh, f.RunStarted, **told)
    assert (state.window, state.leaf, state.runs[run].tip) == ((), None, "e")


def test_usage_adds_up_over_attempts() -> None:
    shell = Shell()
    run = shell.plan(model("a"))
    one = f.Usage(model="first", input_tokens=1, output_tokens=2, ttft_ms=30, calls=1)
    two = f.Usage(model="second", input_tokens=10, output_tokens=20, ttft_ms=5, calls=2, estimated=True)
    told: dict[str, Any] = {"run": run, "run_seq": 50, "task": "a", "message": "", "attempt": 1}
    state = after(shell.state, f.AgentStatus, status="retrying", usage=one, **told)
    state = after(state, f.AgentStatus, status="running", **told)
    state = after(state, f.AgentStatus, status="done", usage=two, **told)
    assert state.runs[run].usage == f.Usage(
        model="second", input_tokens=11, output_tokens=22, ttft_ms=30, calls=3, estimated=True
    )


def test_a_wave_that_admits_nothing_leaves_the_queues_as_they_are() -> None:
    shell = Shell(i.Caps(workers=1))
    run = shell.plan(model("a"), model("b"))
    told: dict[str, Any] = {"run": run, "run_seq": 50, "phase": "workers", "status": "queued", "message": ""}
    after_it = after(shell.state, f.AgentProgress, admitted=(), **told).runs[run]
    assert (after_it.queued, after_it.ready, after_it.accepted_tasks) == (("b",), (), 2)
