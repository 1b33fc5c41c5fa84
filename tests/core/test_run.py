"""One run: what planning and the answer lead to, and its one end (rulings 13, 15, 34, 48; F10)."""

import pytest

from agentd.core import intents as i
from agentd.core.session import due
from agentd.protocol import facts as f
from tests.core.shell import AGENT, BY, Shell, gate, model, task

FAILURE = f.Cause(code="provider_error", kind="auth", message="no key")


def last(shell: Shell, kind: type[f.AnyFact]) -> f.AnyFact:
    return next(fact for fact in reversed(shell.facts) if isinstance(fact, kind))


def kinds(shell: Shell, run: str) -> list[str]:
    return [str(fact.__struct_config__.tag) for fact in shell.facts if fact.run == run]


# ---- planning -------------------------------------------------------------------------------------------------------


def test_a_plan_is_taken_once_and_only_from_the_attempt_that_plans() -> None:
    shell = Shell()
    run = shell.goal()
    before = len(shell.facts)
    for name, attempt in (("run_9999", 1), (run, 2)):
        shell.tell(i.PlanProposed(by=AGENT, run=name, attempt=attempt, tasks=(model("late"),)))
    assert len(shell.facts) == before
    shell.tell(i.PlanProposed(by=AGENT, run=run, attempt=1, tasks=(model("a"),)))
    before = len(shell.facts)
    shell.tell(i.PlanProposed(by=AGENT, run=run, attempt=1, tasks=(model("late"),)))
    assert len(shell.facts) == before, "it does not plan any more"
    plan = last(shell, f.AgentPlan)
    assert isinstance(plan, f.AgentPlan)
    assert (plan.by, plan.goal) == (f.By(principal="local", via="planner"), f"goal {run}"), "rulings 48"


def test_what_the_planner_warns_of_is_in_the_run() -> None:
    shell = Shell()
    run = shell.goal()
    told = (("planner_fallback", "the model gave no plan"), ("plan_cut", "two parts are one"))
    shell.tell(i.PlanProposed(by=AGENT, run=run, attempt=1, tasks=(model("a"),), told=told))
    warned = [fact for fact in shell.facts if isinstance(fact, f.Warned)]
    assert [((fact.code, fact.message), fact.run, fact.source) for fact in warned] == [
        (one, run, "planner") for one in told
    ]


def test_a_planning_that_fails_ends_its_run_with_the_cause_and_the_next_one_begins() -> None:
    shell = Shell()
    run, following = shell.goal(), shell.chat()
    shell.tell(i.PlanProposed(by=AGENT, run=run, attempt=1, failure=FAILURE, usage=f.Usage(model="m", calls=4)))
    assert kinds(shell, run)[-3:] == ["agent.status", "agent.progress", "run.failed"]
    end = last(shell, f.RunFailed)
    assert isinstance(end, f.RunFailed)
    assert (end.cause, end.usage.calls, end.plan) == (FAILURE, 4, None), "there was no plan to keep"
    status = last(shell, f.AgentStatus)
    assert isinstance(status, f.AgentStatus)
    assert (status.task, status.status) == ("planning", "failed"), "rulings 14"
    assert [work.run for work in due(shell.state)] == [following], "in the same step"
    shell.heal()


def test_a_planning_that_ends_while_it_is_cancelled_ends_its_run_whatever_it_brings() -> None:
    for proposed in (True, False):
        shell = Shell()
        run = shell.goal()
        shell.tell(i.Cancel(by=BY))
        if proposed:
            shell.tell(i.PlanProposed(by=AGENT, run=run, attempt=1, tasks=(model("a"),)))
        else:
            shell.tell(i.AttemptEnded(by=AGENT, run=run, task="planning", attempt=1, outcome="cancelled"))
        assert kinds(shell, run)[-2:] == ["run.cancelling", "run.cancelled"]
        assert shell.state.runs == {}


# ---- the answer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "shown", "said"), [("done", "wh", "whole"), ("cancelled", "wh", "wh"), ("cancelled", "", None)]
)
def test_a_cancelled_answer_is_kept_as_far_as_it_was_shown(outcome: i.Outcome, shown: str, said: str | None) -> None:
    """Rulings 48: `session.receive` with finish_reason cancelled if something was shown, then `run.cancelled`."""
    shell = Shell()
    run = shell.chat()
    work = due(shell.state)[0]
    shell.tell(i.Cancel(by=BY))
    shell.end(work, outcome, "whole", shown=shown)
    received = [fact for fact in shell.facts if isinstance(fact, f.SessionReceive)]
    assert [(fact.content, fact.finish_reason) for fact in received] == ([(said, "cancelled")] if said else [])
    assert kinds(shell, run)[-1] == "run.cancelled"


@pytest.mark.parametrize("shown", ["", "what was shown"])
def test_an_answer_that_fails_keeps_what_was_shown_and_counts_its_usage_once(shown: str) -> None:
    shell = Shell()
    run = shell.chat()
    usage = f.Usage(model="m", input_tokens=3, output_tokens=2, calls=1)
    shell.end(due(shell.state)[0], "failed", shown=shown, usage=usage)
    received = [fact.content for fact in shell.facts if isinstance(fact, f.SessionReceive)]
    assert received == ([shown] if shown else [])
    end = shell.facts[-1]
    assert isinstance(end, f.RunFailed)
    assert end.cause is not None
    assert (end.cause.code, end.usage.calls, end.usage.input_tokens) == ("x", 1, 3)
    assert kinds(shell, run)[-3:] == ["agent.status", "agent.progress", "run.failed"]


def test_an_answer_that_ends_badly_without_a_cause_is_our_fault() -> None:
    shell = Shell()
    run = shell.chat()
    shell.tell(i.AttemptEnded(by=AGENT, run=run, task="answer", attempt=1, outcome="needs_review"))
    end = shell.facts[-1]
    assert isinstance(end, f.RunFailed)
    assert end.cause is not None
    assert end.cause.code == "internal"


def test_steering_goes_before_a_follow_up_and_follow_ups_one_at_a_time() -> None:
    """Rulings 15 and 36: all steering words at once, each follow-up with a step of its own."""
    shell = Shell()
    run = shell.chat()
    for mode, content in (("follow_up", "f1"), ("steer", "s1"), ("follow_up", "f2"), ("steer", "s2")):
        shell.tell(i.AddInput(by=BY, mode=mode, content=content))  # type: ignore[arg-type]
    shell.heal()
    order = [
        fact.content if isinstance(fact, f.RunInput) else "answer"
        for fact in shell.facts
        if isinstance(fact, f.SessionReceive) or (isinstance(fact, f.RunInput) and fact.entry is not None)
    ]
    assert order == ["answer", "s1", "s2", "answer", "f1", "answer", "f2", "answer"]
    end = shell.facts[-1]
    assert isinstance(end, f.RunCompleted)
    assert (end.run, end.unplaced) == (run, ())


def test_a_run_that_ends_otherwise_lists_what_was_not_placed() -> None:
    shell = Shell()
    shell.chat()
    shell.tell(i.AddInput(by=BY, mode="steer", content="too late"))
    shell.end(due(shell.state)[0], "failed")
    end = shell.facts[-1]
    assert isinstance(end, f.RunFailed)
    assert end.unplaced == ("too late",)


# ---- waiting --------------------------------------------------------------------------------------------------------


def test_a_run_waits_for_persons_by_name_and_goes_on_when_they_decided() -> None:
    shell = Shell()
    shell.plan(task("question", "q", question="sure?"), model("a", "q", "g"), gates=(gate("g"),))
    waiting = last(shell, f.RunWaiting)
    assert isinstance(waiting, f.RunWaiting)
    assert (waiting.gates, waiting.questions) == (("g",), ("q",))
    shell.tell(i.AnswerQuestion(by=BY, task="q", value="yes"))
    assert shell.state.run is not None
    assert shell.state.run.state == "waiting", "the gate is still to be decided"
    shell.tell(i.DecideGate(by=BY, approve=True, gate="g"))
    assert [work.task for work in due(shell.state)] == ["a"]
    assert sum(isinstance(fact, f.RunContinued) for fact in shell.facts) == 1
    shell.heal()


def test_a_last_decision_leads_from_waiting_to_the_answer() -> None:
    shell = Shell()
    run = shell.plan(model("a"), gates=(gate("lone"),))
    shell.end(due(shell.state)[0])
    assert kinds(shell, run)[-1] == "run.waiting"
    shell.tell(i.DecideGate(by=BY, approve=True, gate="lone"))
    assert kinds(shell, run)[-4:] == ["gate.decided", "run.continued", "agent.progress", "agent.progress"]
    assert [work.task for work in due(shell.state)] == ["answer"]
    shell.heal()
