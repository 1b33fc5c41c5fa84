"""One task: attempts that end late, results over the limit, calls, reviews, retries (rulings 7, 9, 12; N2, F11)."""

from typing import Any

import msgspec
import pytest

from agentd.core import intents as i
from agentd.core.session import due
from agentd.core.state import Run
from agentd.protocol import facts as f
from agentd.protocol.errors import Conflict, NoActiveRun, NotFound
from tests.core.shell import AGENT, BY, Shell, gate, model, task


def run_of(shell: Shell) -> Run:
    assert shell.state.run is not None
    return shell.state.run


def attempt(shell: Shell, name: str, outcome: i.Outcome = "done", result: Any = "r") -> None:
    shell.end(next(work for work in due(shell.state) if work.task == name), outcome, result)


def told(shell: Shell, name: str) -> list[f.AgentStatus]:
    return [fact for fact in shell.facts if isinstance(fact, f.AgentStatus) and fact.task == name]


# ---- outcomes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["done", "failed", "cancelled", "needs_review"])
@pytest.mark.parametrize(
    ("run", "name", "number", "step"),
    [
        ("run_9999", "a", 1, 0), ("run_0001", "nobody", 1, 0), ("run_0001", "a", 2, 0), ("run_0001", "b", 0, 0),
        ("run_0001", "answer", 1, 0), ("run_0001", "planning", 1, 0),
    ],
)  # fmt: skip
def test_an_outcome_of_anything_but_the_running_attempt_leaves_no_fact(
    run: str, name: str, number: int, step: int, outcome: i.Outcome
) -> None:
    shell = Shell()
    shell.plan(model("a"), model("b", "a"))
    before = len(shell.facts)
    shell.tell(i.AttemptEnded(by=AGENT, run=run, task=name, attempt=number, step=step, outcome=outcome, result="late"))
    assert len(shell.facts) == before


def test_an_outcome_of_an_earlier_step_of_the_answer_is_late() -> None:
    shell = Shell()
    run = shell.chat()
    shell.tell(i.AddInput(by=BY, mode="steer", content="also"))
    first = due(shell.state)[0]
    shell.end(first, result="one")
    assert due(shell.state)[0].step == 1
    before = len(shell.facts)
    shell.end(first, result="one again")
    assert len(shell.facts) == before
    shell.heal()
    assert shell.ended == {run}


@pytest.mark.parametrize("result", ["ü" * 100, {"text": "ü" * 100}])
def test_a_result_over_the_limit_is_cut_on_a_code_point_and_told(result: Any) -> None:
    shell = Shell(i.Caps(fact_bytes=51))
    shell.plan(model("a"))
    attempt(shell, "a", "done", result)
    whole = result.encode() if isinstance(result, str) else msgspec.json.encode(result)
    kept = told(shell, "a")[-1].result
    assert whole.decode().startswith(kept)
    assert 49 <= len(kept.encode()) <= 51
    warned = next(fact for fact in shell.facts if isinstance(fact, f.Warned))
    assert (warned.code, warned.details) == ("result_cut", {"task": "a", "bytes": len(whole), "limit": 51})


def test_a_result_within_the_limit_is_kept_as_it_is() -> None:
    shell = Shell(i.Caps(fact_bytes=51))
    shell.plan(model("a"))
    attempt(shell, "a", "done", {"n": [1, None]})
    assert told(shell, "a")[-1].result == {"n": [1, None]}


@pytest.mark.parametrize(
    ("waits", "expected"), [((), [0, 0, 0]), ((2.0,), [2, 2, 2]), ((1.0, 3.0), [1, 3, 3])]
)  # fmt: skip
def test_the_last_wait_is_used_for_all_further_attempts(waits: tuple[float, ...], expected: list[int]) -> None:
    shell = Shell()
    shell.plan(model("a", retry=f.Retry(attempts=4, waits_s=waits)))
    found = []
    for _ in expected:
        attempt(shell, "a", "failed")
        resume_at = next(fact for fact in reversed(told(shell, "a")) if fact.status == "retrying").resume_at
        assert resume_at is not None
        found.append((resume_at - shell.now) // 1000)
        shell.wake(seconds=found[-1])
    assert found == expected
    attempt(shell, "a", "failed")
    assert told(shell, "a")[-1].status == "failed", "the ceiling"


# ---- calls (N2, rulings 7, 41) --------------------------------------------------------------------------------------


CALLS: list[Any] = [
    lambda run, name, number: i.CallBegan(by=AGENT, run=run, task=name, attempt=number, call="c", tool="t", input={}),
    lambda run, name, number: i.CallEnded(by=AGENT, run=run, task=name, attempt=number, call="c", tool="t"),
    lambda run, name, number: i.CallSkipped(by=AGENT, run=run, task=name, attempt=number, call="c", tool="t", input={}),
    lambda run, name, number: i.PlaceInputs(by=AGENT, run=run, task=name, attempt=number),
]


@pytest.mark.parametrize("call", CALLS, ids=["began", "ended", "skipped", "inputs"])
def test_nothing_is_called_for_an_attempt_that_does_not_run(call: Any) -> None:
    shell = Shell()
    run = shell.plan(model("a"), model("b", "a"))
    shell.tell(call(run, "a", 1))
    for named in ((run, "a", 2), (run, "b", 0), (run, "nobody", 1), ("run_9999", "a", 1)):
        with pytest.raises(Conflict) as refused:
            shell.tell(call(*named))
        assert refused.value.details == {"reason": "attempt"}
    shell.tell(i.Cancel(by=BY))
    with pytest.raises(Conflict):
        shell.tell(call(run, "a", 1))


def test_a_call_is_told_with_its_outcome() -> None:
    shell = Shell()
    run = shell.plan(model("a"))
    named: dict[str, Any] = {"by": AGENT, "run": run, "task": "a", "attempt": 1, "tool": "t"}
    shell.tell(i.CallBegan(call="c1", input={"x": 1}, effect="once", **named))
    shell.tell(i.CallEnded(call="c1", output="o", **named))
    shell.tell(i.CallBegan(call="c2", input={}, **named))
    shell.tell(i.CallEnded(call="c2", error=f.Cause(code="timeout", kind="timeout", message="slow"), **named))
    shell.tell(i.CallSkipped(call="c3", input={"y": 2}, **named))
    told = [fact for fact in shell.facts if isinstance(fact, f.ToolCalled | f.ToolResult | f.ToolFailed)]
    assert [(type(fact).__name__, fact.call) for fact in told] == [
        ("ToolCalled", "c1"), ("ToolResult", "c1"), ("ToolCalled", "c2"), ("ToolFailed", "c2"),
        ("ToolCalled", "c3"), ("ToolFailed", "c3"),
    ]  # fmt: skip
    assert [fact.error.kind for fact in told if isinstance(fact, f.ToolFailed)] == ["timeout", "skipped"]
    assert [fact.input for fact in told if isinstance(fact, f.ToolCalled)] == [{"x": 1}, {}, {"y": 2}]
    assert run_of(shell).tasks["a"].calls == (), "none is open"
    assert run_of(shell).tasks["a"].once, "and a crash now would leave a doubt"
    shell.heal()


def test_steering_words_are_placed_before_the_next_step_of_a_running_task() -> None:
    shell = Shell()
    run = shell.plan(model("a"))
    shell.tell(i.AddInput(by=BY, mode="steer", content="shorter"))
    shell.tell(i.PlaceInputs(by=AGENT, run=run, task="a", attempt=1))
    placed = shell.facts[-1]
    assert isinstance(placed, f.RunInput)
    assert (placed.content, placed.entry, placed.parent) == ("shorter", f"{run}.i1", f"{run}.u")
    before = len(shell.facts)
    shell.tell(i.PlaceInputs(by=AGENT, run=run, task="a", attempt=1))
    assert len(shell.facts) == before, "once"
    shell.heal()


# ---- what a person decides ------------------------------------------------------------------------------------------


def test_an_input_is_for_the_run_that_is_named() -> None:
    shell = Shell()
    with pytest.raises(NoActiveRun):
        shell.tell(i.AddInput(by=BY, mode="follow_up", content="x"))
    shell.chat()
    later = shell.chat()
    with pytest.raises(NotFound):
        shell.tell(i.AddInput(by=BY, mode="follow_up", content="x", run="run_9999"))
    shell.tell(i.AddInput(by=BY, mode="follow_up", content="x", run=later))
    assert [item.content for item in shell.state.runs[later].inputs] == ["x"]
    shell.heal()
    placed = [fact for fact in shell.facts if isinstance(fact, f.RunInput) and fact.entry is not None]
    assert [(fact.run, fact.content) for fact in placed] == [(later, "x")]


def test_a_review_is_decided_once_and_a_retry_takes_it_back() -> None:
    shell = Shell()
    shell.plan(model("a"), model("b"), model("c", "a"))
    with pytest.raises(Conflict) as early:
        shell.tell(i.DecideGate(by=BY, approve=True, task="a"))
    assert early.value.details == {"status": "running"}
    with pytest.raises(NotFound):
        shell.tell(i.DecideGate(by=BY, approve=True, task="nobody"))
    attempt(shell, "a", "needs_review")
    shell.tell(i.RetryTask(by=BY, task="a"))
    assert told(shell, "a")[-1].attempt == 2, "a retry is a new attempt"
    attempt(shell, "a", "needs_review")
    shell.tell(i.DecideGate(by=BY, approve=True, task="a", note="fine"))
    assert (told(shell, "a")[-1].status, told(shell, "a")[-1].message) == ("done", "fine")
    assert shell.tell(i.DecideGate(by=BY, approve=True, task="a")) == i.Done(action="approve", already=True)
    with pytest.raises(Conflict) as contrary:
        shell.tell(i.DecideGate(by=BY, approve=False, task="a"))
    assert contrary.value.details == {"status": "done"}


def test_a_review_that_is_blocked_fails_its_task_with_the_cause() -> None:
    shell = Shell()
    shell.plan(model("a"))
    attempt(shell, "a", "needs_review")
    shell.tell(i.DecideGate(by=BY, approve=False, task="a"))
    end = shell.facts[-1]
    assert isinstance(end, f.RunFailed)
    assert end.cause is not None
    assert (end.cause.code, end.cause.task) == ("blocked", "a")


def test_a_question_is_answered_and_not_reviewed_and_only_a_question_is() -> None:
    shell = Shell()
    shell.plan(task("question", "q", question="sure?"), model("a"))
    with pytest.raises(Conflict):
        shell.tell(i.DecideGate(by=BY, approve=True, task="q"))
    with pytest.raises(Conflict) as refused:
        shell.tell(i.AnswerQuestion(by=BY, task="a", value="yes"))
    assert refused.value.details == {"status": "running"}


def test_a_gate_behind_what_did_not_end_well_can_not_be_decided() -> None:
    shell = Shell()
    shell.plan(model("a", required=False), model("b"), model("c", "g"), gates=(gate("g", "a"),))
    attempt(shell, "a", "failed")
    with pytest.raises(Conflict) as refused:
        shell.tell(i.DecideGate(by=BY, approve=True, gate="g"))
    assert refused.value.details == {"reason": "not_ready"}
    with pytest.raises(NotFound):
        shell.tell(i.DecideGate(by=BY, approve=True, gate="nobody"))


# ---- retry (rulings 9) ----------------------------------------------------------------------------------------------


def test_a_retry_takes_back_what_was_skipped_because_of_it_through_gates_too() -> None:
    shell = Shell()
    shell.plan(
        model("a", required=False), model("b", "g"), model("c", "b"), model("d", "c", "b"), model("x"),
        gates=(gate("g", "a"),),
    )  # fmt: skip
    attempt(shell, "a", "failed")
    assert [run_of(shell).tasks[name].status for name in "bcd"] == ["skipped"] * 3
    shell.tell(i.RetryTask(by=BY, task="a"))
    assert [run_of(shell).tasks[name].status for name in "abcd"] == ["running", "pending", "pending", "pending"]
    attempt(shell, "a")
    assert run_of(shell).gates["g"].void is False
    shell.heal()
    assert {name: told(shell, name)[-1].status for name in "abcdx"} == dict.fromkeys("abcdx", "done")


def test_a_retry_is_refused_where_nothing_would_come_of_it() -> None:
    shell = Shell()
    with pytest.raises(NotFound):
        shell.tell(i.RetryTask(by=BY, task="a"))
    shell.plan(model("a"), model("b"), model("c", "b"))
    attempt(shell, "a")
    for name, details in (
        ("a", {"reason": "status", "status": "done"}),
        ("c", {"reason": "status", "status": "pending"}),
    ):
        with pytest.raises(Conflict) as refused:
            shell.tell(i.RetryTask(by=BY, task=name))
        assert refused.value.details == details
    attempt(shell, "b")
    attempt(shell, "c")
    with pytest.raises(Conflict) as refused:
        shell.tell(i.RetryTask(by=BY, task="c"))
    assert refused.value.details == {"reason": "answering"}
    shell.tell(i.Cancel(by=BY))
    with pytest.raises(Conflict) as refused:
        shell.tell(i.RetryTask(by=BY, task="c"))
    assert refused.value.details == {"reason": "cancelling"}


def test_a_retry_in_a_run_that_is_failing_is_refused() -> None:
    shell = Shell()
    shell.plan(model("a"), model("b"))
    attempt(shell, "a", "failed")
    with pytest.raises(Conflict) as refused:
        shell.tell(i.RetryTask(by=BY, task="a"))
    assert refused.value.details == {"reason": "failing"}


def test_a_delay_that_is_retried_waits_anew() -> None:
    shell = Shell()
    shell.plan(task("delay", "d", delay_s=5.0), model("c"))
    shell.tell(i.Cancel(by=BY, task="d"))
    shell.wake(seconds=60)
    shell.tell(i.RetryTask(by=BY, task="d"))
    shell.wake(seconds=4.9)
    assert run_of(shell).tasks["d"].status == "pending"
    shell.wake(seconds=0.1)
    assert run_of(shell).tasks["d"].status == "done"
