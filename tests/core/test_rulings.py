"""Cases that were decided ahead (rulings 5 to 25; S15, S18, T4, T5, T6), each as the rules tell it."""

from typing import Any

import pytest

from agentd.core import intents as i
from agentd.core.session import due
from agentd.protocol import facts as f
from agentd.protocol.errors import Conflict, InvalidPayload, NoActiveRun, NotFound, Overloaded
from tests.core.shell import BY, Shell, gate, model, task


def last_of(shell: Shell, kind: type[f.AnyFact]) -> Any:
    return next(fact for fact in reversed(shell.facts) if isinstance(fact, kind))


def statuses(shell: Shell) -> dict[str, str]:
    return {fact.task: fact.status for fact in shell.facts if isinstance(fact, f.AgentStatus)}


def attempt(shell: Shell, name: str, outcome: i.Outcome = "done", result: Any = "r") -> None:
    """The running attempt of that task ends."""
    shell.end(next(work for work in due(shell.state) if work.task == name), outcome, result)


# ---- figures --------------------------------------------------------------------------------------------------------


def test_a_goal_of_five_with_a_cap_of_four_and_two_workers_reports_5_4_1_2_2() -> None:
    shell = Shell(i.Caps(dispatch=4, workers=2))
    shell.plan(*(model(f"t{n}") for n in range(5)), overflow="drop")
    told = [fact.backpressure for fact in shell.facts if isinstance(fact, f.AgentProgress) and fact.backpressure]
    figures = told[-1]
    assert (figures.total, figures.accepted, figures.dropped, figures.queued, figures.active) == (5, 4, 1, 2, 2)
    shell.heal()
    end = [fact.backpressure for fact in shell.facts if isinstance(fact, f.AgentProgress) and fact.backpressure][-1]
    assert (end.pending, end.queued, end.active) == (0, 0, 0)
    assert last_of(shell, f.RunCompleted).counts == f.Counts(
        total=5, done=4, failed=0, cancelled=0, skipped=0, dropped=1
    )


def test_prolonged_saturation_is_told_once_per_episode_and_not_while_paused() -> None:
    shell = Shell(i.Caps(workers=1, warning_s=10))
    shell.plan(*(model(f"t{n}") for n in range(3)))

    def told() -> int:
        return sum(
            isinstance(fact, f.AgentProgress) and fact.status == "prolonged_saturation" for fact in shell.facts
        )  # fmt: skip

    shell.tell(i.SetMode(by=BY, mode="paused"))
    shell.wake(seconds=20)
    assert told() == 0
    shell.tell(i.SetMode(by=BY, mode="running"))
    shell.wake(seconds=20)
    shell.wake(seconds=20)
    assert told() == 1


def test_a_run_too_many_is_refused_with_its_cap_and_figures() -> None:
    shell = Shell(i.Caps(runs_per_session=1))
    shell.chat()
    shell.chat()
    before = len(shell.facts)
    with pytest.raises(Overloaded) as refused:
        shell.chat()
    assert refused.value.details is not None
    assert (refused.value.details["cap"], refused.value.details["used"]) == ("runs_per_session", 1)
    assert len(shell.facts) == before, "a refusal writes nothing"


# ---- what becomes of a failure --------------------------------------------------------------------------------------


def test_stop_all_cancels_the_siblings_and_then_fails_the_run() -> None:
    shell = Shell()
    shell.plan(model("a"), model("b"), model("c", "a"))
    attempt(shell, "a", "failed")
    assert not isinstance(shell.facts[-1], f.RunFailed), "siblings first (rulings 13)"
    shell.heal()
    assert statuses(shell) == {"a": "failed", "b": "cancelled", "c": "cancelled"}
    assert last_of(shell, f.RunFailed).cause.task == "a"
    assert not [fact for fact in shell.facts if isinstance(fact, f.SessionReceive)], "a failed run has no answer"


def test_continue_skips_what_depends_on_it_and_fails_after_the_answer() -> None:
    shell = Shell()
    shell.plan(model("a"), model("b"), model("c", "a"), task("join", "j", "b", "c"), fail_policy="continue")
    attempt(shell, "a", "failed")
    shell.heal()
    assert statuses(shell) == {
        "a": "failed",
        "b": "done",
        "c": "skipped",
        "j": "done",
    }
    assert last_of(shell, f.SessionReceive).seq < last_of(shell, f.RunFailed).seq
    assert last_of(shell, f.RunFailed).cause.task == "a"


def test_retry_repeats_after_its_waits_and_then_counts_as_stop_all() -> None:
    shell = Shell()
    shell.plan(model("a"), fail_policy="retry")
    for wait_s in (1, 4):
        attempt(shell, "a", "failed")
        assert last_of(shell, f.AgentStatus).status == "retrying"
        assert last_of(shell, f.AgentStatus).resume_at == shell.now + wait_s * 1000
        shell.wake(seconds=wait_s - 0.1)
        assert not due(shell.state)
        shell.wake(seconds=0.1)
    attempt(shell, "a", "failed")
    assert isinstance(shell.facts[-1], f.RunFailed)


@pytest.mark.parametrize(
    ("own", "group", "plan", "fails"),
    [
        ("continue", None, "stop_all", False),
        (None, "continue", "stop_all", False),
        (None, None, "continue", False),
        ("stop_all", "continue", "continue", True),
        (None, "stop_all", "continue", True),
    ],
)
def test_the_policy_of_a_task_is_before_its_group_s_and_that_before_the_plan_s(
    own: f.FailPolicy | None, group: f.FailPolicy | None, plan: f.FailPolicy, fails: bool
) -> None:
    shell = Shell()
    shell.plan(
        model("a", group="g", fail_policy=own), model("b"), groups=(f.PlanGroup(id="g", fail_policy=group),),
        fail_policy=plan,
    )  # fmt: skip
    attempt(shell, "a", "failed")
    run = shell.state.run
    assert run is not None
    assert (run.failing is not None) == fails


def test_what_is_not_required_never_fails_a_run() -> None:
    shell = Shell()
    shell.plan(model("a", required=False), model("b"))
    attempt(shell, "a", "failed")
    shell.heal()
    assert isinstance(shell.facts[-1], f.RunCompleted)


def test_cancelling_one_task_is_no_failure() -> None:
    shell = Shell()
    shell.plan(model("a"), model("b", "a"), model("c"))
    answer = shell.tell(i.Cancel(by=BY, task="a"))
    assert answer == i.Cancelling(queued=0, attempts=((shell.state.current or "", "a", 1),))
    shell.heal()
    assert statuses(shell) == {"a": "cancelled", "b": "skipped", "c": "done"}
    assert isinstance(shell.facts[-1], f.RunCompleted)


# ---- shapes ---------------------------------------------------------------------------------------------------------


def fusion(need: int) -> tuple[f.PlanTask, ...]:
    """Candidates, a join that needs so many of them, a synthesis."""
    names = ["c1", "c2", "c3"]
    candidates = [model(name, fail_policy="continue", required=False) for name in names]
    return (*candidates, task("join", "pick", *names, need=need), model("synthesis", "pick"))


def test_fusion_gives_the_synthesis_every_candidate_in_declared_order() -> None:
    shell = Shell()
    shell.plan(*fusion(2))
    for name in ("c3", "c1"):
        attempt(shell, name, "done", f"by {name}")
    attempt(shell, "c2", "failed")
    joined = [fact.result for fact in shell.facts if isinstance(fact, f.AgentStatus) and fact.task == "pick"]
    assert joined[-1] == {"inputs": ["c1", "c3"]}, "which of them, in declared order; the prompt brings their words"
    shell.heal()
    assert statuses(shell)["synthesis"] == "done"


def test_fusion_with_too_few_candidates_fails_with_its_cause() -> None:
    shell = Shell()
    shell.plan(*fusion(2))
    for name in ("c3", "c1"):
        attempt(shell, name, "failed")
    attempt(shell, "c2", "done")
    shell.heal()
    assert last_of(shell, f.RunFailed).cause.task == "pick"


def test_a_switch_takes_one_way_and_skips_the_others() -> None:
    shell = Shell()
    shell.plan(
        model("a"),
        task("switch", "s", "a", cases=(f.Case(match="yes", then=("l",)),), otherwise=("m",)),
        model("l", "s"), model("m", "s"), model("n", "m"), task("join", "j", "l", "n"),
    )  # fmt: skip
    attempt(shell, "a", "done", "Yes, of course")
    shell.heal()
    assert statuses(shell) == {"a": "done", "s": "done", "l": "done", "m": "skipped", "n": "skipped", "j": "done"}


def test_a_delay_waits_without_a_permit_until_it_is_due() -> None:
    shell = Shell()
    shell.plan(task("delay", "d", delay_s=5.0), model("a", "d"))
    run = shell.state.run
    assert run is not None
    assert run.attempts == 0
    shell.wake(seconds=4.9)
    assert not due(shell.state)
    shell.wake(seconds=0.1)
    assert [work.task for work in due(shell.state)] == ["a"]


# ---- gates, questions, reviews --------------------------------------------------------------------------------------


def test_a_task_behind_a_gate_starts_when_it_is_approved_and_not_before() -> None:
    shell = Shell()
    shell.plan(model("a"), model("b", "g"), gates=(gate("g", "a"),))
    with pytest.raises(Conflict) as early:
        shell.tell(i.DecideGate(by=BY, approve=True, gate="g"))
    assert early.value.details == {"reason": "not_ready"}
    attempt(shell, "a")
    assert isinstance(last_of(shell, f.RunWaiting), f.RunWaiting)
    shell.tell(i.DecideGate(by=BY, approve=False, gate="g", note="not yet"))
    assert not due(shell.state), "blocked keeps it"
    assert shell.tell(i.DecideGate(by=BY, approve=False, gate="g")) == i.Done(action="block", already=True)
    shell.tell(i.DecideGate(by=BY, approve=True, gate="g"))
    assert [work.task for work in due(shell.state)] == ["b"]
    decided = [fact for fact in shell.facts if isinstance(fact, f.GateDecided)]
    assert [(fact.status, fact.note, fact.by) for fact in decided] == [
        ("blocked", "not yet", BY),
        ("approved", None, BY),
    ]
    with pytest.raises(Conflict) as contrary:
        shell.tell(i.DecideGate(by=BY, approve=False, gate="g"))
    assert contrary.value.details is not None
    assert contrary.value.details["by"] == "local"


def test_a_gate_that_can_not_be_reached_holds_no_run() -> None:
    shell = Shell()
    shell.plan(model("a", required=False), model("b", "g"), gates=(gate("g", "a"),))
    attempt(shell, "a", "failed")
    assert [work.task for work in due(shell.state)] == ["answer"]
    assert statuses(shell)["b"] == "skipped"


def test_a_question_is_answered_by_a_value_of_its_schema() -> None:
    shell = Shell()
    shell.plan(task("question", "q", question="how many?", schema={"type": "integer"}), model("a", "q"))
    with pytest.raises(InvalidPayload) as wrong:
        shell.tell(i.AnswerQuestion(by=BY, task="q", value="many"))
    assert wrong.value.details == {"path": "$.value"}
    shell.tell(i.AnswerQuestion(by=BY, task="q", value=3))
    assert last_of(shell, f.RunContinued)
    assert [work.task for work in due(shell.state)] == ["a"]
    with pytest.raises(Conflict):
        shell.tell(i.AnswerQuestion(by=BY, task="q", value=4))


def test_control_for_what_is_not_there() -> None:
    shell = Shell()
    for intent in (
        i.Cancel(by=BY, run="nobody"),
        i.DecideGate(by=BY, approve=True, gate="g"),
        i.RetryTask(by=BY, task="t", run="nobody"),
    ):
        with pytest.raises(NotFound):
            shell.tell(intent)
    with pytest.raises(NoActiveRun):
        shell.tell(i.AddInput(by=BY, mode="steer", content="x"))
    assert shell.tell(i.Cancel(by=BY)) == i.Cancelling()
    shell.plan(model("a"))
    with pytest.raises(NotFound):
        shell.tell(i.Cancel(by=BY, task="nobody"))
    shell.heal()
    assert shell.tell(i.Cancel(by=BY, run="run_0001")) == i.Cancelling(), "an ended run: zeros"


# ---- recovery -------------------------------------------------------------------------------------------------------


def test_an_interrupted_attempt_is_repeated_and_one_that_may_not_be_is_reviewed() -> None:
    shell = Shell()
    shell.plan(model("a"), task("tool", "b", tool="send", effect="once"))
    shell.crash()
    assert statuses(shell) == {"a": "running", "b": "needs_review"}
    review = next(fact for fact in shell.facts if isinstance(fact, f.AgentStatus) and fact.status == "needs_review")
    assert review.cause is not None
    assert review.cause.code == "lost"
    assert [fact.attempt for fact in shell.facts if isinstance(fact, f.AgentStatus) and fact.task == "a"] == [1, 1, 2]
    shell.heal()


def test_the_fourth_crash_without_progress_fails_the_run_and_a_drained_stop_is_not_charged() -> None:
    shell = Shell()
    shell.plan(model("a"))
    for _ in range(5):
        shell.crash(drained=True)
    for _ in range(3):
        shell.crash()
        assert shell.state.run is not None
    shell.crash()
    assert last_of(shell, f.RunFailed).cause.code == "no_progress"


def test_progress_between_crashes_keeps_a_run_alive() -> None:
    shell = Shell()
    shell.plan(*(model(f"t{n}") for n in range(9)))
    for _ in range(8):
        shell.end(due(shell.state)[0])
        shell.wake()
        shell.crash()
        shell.wake()
    assert shell.state.run is not None
    shell.heal()


def test_a_run_that_is_cancelling_ends_in_the_recovery_s_step() -> None:
    shell = Shell()
    shell.plan(model("a"), task("tool", "b", tool="send", effect="once"))
    shell.tell(i.Cancel(by=BY))
    shell.crash()
    assert isinstance(shell.facts[-1], f.RunCancelled)
    assert statuses(shell) == {"a": "cancelled", "b": "cancelled"}


# ---- the queue ------------------------------------------------------------------------------------------------------


def test_interrupt_cancels_the_run_in_progress_and_goes_to_the_head_of_the_queue() -> None:
    shell = Shell()
    first, second = shell.chat(), shell.chat()
    third = shell.chat(mode="interrupt")
    assert shell.state.queue == (third, second)
    assert shell.state.runs[first].state == "cancelling"


def test_reject_on_a_busy_session_is_a_retryable_conflict() -> None:
    shell = Shell()
    shell.chat()
    with pytest.raises(Conflict) as busy:
        shell.chat(mode="reject")
    assert busy.value.details == {"reason": "busy"}
    assert busy.value.may_retry


def test_clear_saturation_drops_the_backlog_with_a_record_and_starts_afresh() -> None:
    shell = Shell(i.Caps(workers=1))
    shell.plan(*(model(f"t{n}") for n in range(3)))
    waiting = shell.chat()
    assert shell.tell(i.ClearSaturation(by=BY)) == i.Done(action="clear_saturation")
    assert statuses(shell) == {"t0": "running", "t1": "dropped", "t2": "dropped"}
    assert last_of(shell, f.RunCancelled).run == waiting
    assert last_of(shell, f.RunCancelled).cause.code == "cleared"
    assert last_of(shell, f.SessionEpoch).epoch == 1
    shell.heal()
    assert isinstance(shell.facts[-1], f.RunCompleted), "what ran goes on"
