"""What may start now and why the rest may not (rulings 10, 11, 24, 25, 39)."""

import msgspec
import pytest

from agentd.core import intents as i
from agentd.core.schedule import blocked_by
from agentd.core.session import decide, due
from agentd.core.state import Run
from agentd.protocol import facts as f
from agentd.protocol.signals import Blocked
from tests.core.shell import BY, Shell, gate, model, task


def run_of(shell: Shell) -> Run:
    assert shell.state.run is not None
    return shell.state.run


def why(shell: Shell, name: str, *, paused: bool = False) -> list[tuple[str, str | None]]:
    run = run_of(shell)
    found: tuple[Blocked, ...] = blocked_by(run, run.tasks[name], paused, shell.caps.dispatch)
    return [(one.kind, one.id) for one in found]


def attempt(shell: Shell, name: str, outcome: i.Outcome = "done", result: object = "r") -> None:
    shell.end(next(work for work in due(shell.state) if work.task == name), outcome, result)


def test_each_dependency_that_is_open_is_named_by_its_kind() -> None:
    shell = Shell(i.Caps(dispatch=8, workers=8))
    shell.plan(
        model("a"), model("r"), model("over"), task("question", "q"), model("x", required=False),
        model("z", "a", "r", "q", "g", "over", "dead", "fine"),
        gates=(gate("g"), gate("dead", "x"), gate("fine")),
    )  # fmt: skip
    attempt(shell, "r", "needs_review")
    attempt(shell, "over")
    attempt(shell, "x", "failed")
    shell.tell(i.DecideGate(by=BY, approve=True, gate="fine"))
    assert why(shell, "z") == [("task", "a"), ("review", "r"), ("question", "q"), ("gate", "g")]
    assert why(shell, "r") == [("review", "r")]
    assert why(shell, "q") == [("question", "q")]
    assert why(shell, "a") == why(shell, "over") == [], "it runs, it has ended"


def test_what_could_start_says_whether_permit_cap_timer_or_pause_holds_it() -> None:
    shell = Shell(i.Caps(dispatch=2, workers=1))
    shell.plan(model("a"), model("b"), model("c"), task("delay", "d", delay_s=5.0))
    assert why(shell, "b") == [("permit", None)], "admitted, no worker is free"
    assert why(shell, "c") == [("cap", None)], "as many as the run may have are admitted"
    assert why(shell, "d") == [("timer", None)]
    assert why(shell, "b", paused=True) == why(shell, "c", paused=True) == [("pause", None)]
    assert why(shell, "d", paused=True) == [("timer", None)], "which goes on while paused"


def test_what_waits_for_the_next_wave_waits_for_a_permit_and_no_cap() -> None:
    shell = Shell(i.Caps(dispatch=8, workers=1))
    shell.plan(model("a"), model("b"), task("question", "q"), model("c", "q"))
    shell.tell(i.AnswerQuestion(by=BY, task="q", value="yes"))
    assert run_of(shell).queued == ("b",)
    assert why(shell, "c") == [("permit", None)]


def test_a_task_without_a_model_permit_lets_one_that_needs_none_by() -> None:
    shell = Shell()
    shell.models = 1
    shell.goal()
    run = run_of(shell)
    shell.models = 0
    shell.tell(
        i.PlanProposed(by=BY, run=run.id, attempt=1, goal="g", tasks=(model("m"), task("tool", "t", tool="text")))
    )
    assert [work.task for work in due(shell.state)] == ["t"]
    assert run_of(shell).queued == ("m",)


@pytest.mark.parametrize(("per_session", "queued"), [(2, ("t1", "t2")), (0, ())])
def test_beyond_the_session_s_queue_a_task_stays_pending_and_is_not_dropped(
    per_session: int, queued: tuple[str, ...]
) -> None:
    """Only the dispatch cap drops; the session's cap defers, whatever `overflow` says (rulings 25)."""
    shell = Shell(i.Caps(dispatch=5, workers=1, queued_per_session=per_session))
    shell.plan(*(model(f"t{n}") for n in range(5)), overflow="drop")
    run = run_of(shell)
    assert (run.running, run.queued, run.dropped_ids) == (("t0",), queued, ())
    assert run.accepted_tasks == 1 + len(queued)
    shell.heal()
    assert isinstance(shell.facts[-1], f.RunCompleted)
    assert shell.facts[-1].counts.done == 5


def test_the_room_of_the_whole_server_is_not_overdrawn() -> None:
    shell = Shell(i.Caps(dispatch=8, workers=1))
    given = shell.given
    shell.given = lambda: i.Given(  # type: ignore[method-assign]
        now=given().now, workers=given().workers, models=4, queue_room=1, caps=shell.caps
    )
    shell.plan(*(model(f"t{n}") for n in range(4)))
    run = run_of(shell)
    assert (run.running, run.queued, run.ready) == (("t0",), ("t1",), ("t2", "t3"))


def test_a_switch_reads_the_input_it_was_told_and_takes_the_other_way_when_nothing_matches() -> None:
    case = (f.Case(match="yes", then=("l",)),)
    shell = Shell()
    shell.plan(
        model("a"), model("b"),
        task("switch", "s", "a", "b", input={"from": "b"}, cases=case, otherwise=("m",)),
        model("l", "s"), model("m", "s"),
    )  # fmt: skip
    attempt(shell, "a", result="yes")
    attempt(shell, "b", result={"said": "no"})
    decided = [fact for fact in shell.facts if isinstance(fact, f.AgentStatus) and fact.task == "s"][-1]
    assert decided.result == {"taken": ["m"], "match": None}
    assert run_of(shell).tasks["l"].status == "skipped"
    shell.heal()


def test_a_switch_that_takes_nothing_says_so_and_holds_no_run() -> None:
    shell = Shell()
    shell.plan(model("a"), task("switch", "s", "a", cases=(f.Case(match="yes", then=("l",)),)), model("l", "s"))
    attempt(shell, "a", result=None)
    decided = [fact for fact in shell.facts if isinstance(fact, f.AgentStatus) and fact.task == "s"][-1]
    assert decided.message == "took nothing"
    assert [work.task for work in due(shell.state)] == ["answer"]


@pytest.mark.parametrize("result", ["yes", "no"])
def test_a_run_from_a_snapshot_of_an_older_release_settles_the_same(result: str) -> None:
    """It does not say which ready tasks are to be watched; that is found anew."""
    shells = []
    for older in (False, True):
        shell = Shell()
        shell.workers = 2
        shell.plan(
            model("a"), model("b"),
            task("switch", "s", "a", cases=(f.Case(match="yes", then=("l",)),), otherwise=("m",)),
            model("l", "s"), model("m", "s"), task("join", "j", "l", "m", "b"), task("delay", "w", delay_s=3.0),
        )  # fmt: skip
        if older:
            run = msgspec.structs.replace(run_of(shell), watched=None)
            shell.state = msgspec.structs.replace(shell.state, runs={run.id: run})
            intent = i.AttemptEnded(by=BY, run=run.id, task="a", attempt=1, outcome="done", result=result)
            decided = decide(shell.state, intent, shell.given())
            shells.append((run_of(shell).id, [(type(fact), getattr(fact, "task", None)) for fact in decided.facts]))
        else:
            known = len(shell.facts)
            attempt(shell, "a", result=result)
            shells.append(
                (run_of(shell).id, [(type(fact), getattr(fact, "task", None)) for fact in shell.facts[known:]])
            )
    assert shells[0] == shells[1]
