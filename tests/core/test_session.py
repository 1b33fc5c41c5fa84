"""A session's rules beside the runs': what has to be alive, what time alone moves, keys, leaves, cancels, warnings."""

import msgspec
import pytest

from agentd.core import intents as i
from agentd.core.session import begun, decide, due, next_timer, wants
from agentd.core.state import Session
from agentd.protocol import facts as f
from agentd.protocol.errors import Conflict, NotFound
from tests.core.shell import AGENT, BY, Shell, gate, model, task

FRESH = Session(key="s", agent="default", owner="local")
WARNING_S = 30.0


def names(shell: Shell) -> list[str]:
    return [work.task for work in due(shell.state)]


# ---- what has to be alive (design 1.2) ------------------------------------------------------------------------------


def test_nothing_is_due_or_begun_where_nothing_was_said() -> None:
    assert due(FRESH) == begun(FRESH) == ()


def test_a_run_that_is_ending_has_begun_what_is_no_longer_due() -> None:
    """`due` ends it, `begun` says whose end is still to be stored: tasks, the planning, the answer."""
    shell = Shell()
    shell.plan(model("a"))
    shell.tell(i.Cancel(by=BY))
    assert (names(shell), [work.task for work in begun(shell.state)]) == ([], ["a"])
    for begin, name in (("goal", "planning"), ("chat", "answer")):
        shell = Shell()
        getattr(shell, begin)()
        assert names(shell) == [name]
        shell.tell(i.Cancel(by=BY))
        assert (names(shell), [work.task for work in begun(shell.state)]) == ([], [name])


# ---- what time alone moves ------------------------------------------------------------------------------------------


def test_a_delay_and_a_warning_are_timers_and_the_nearest_is_told() -> None:
    shell = Shell(i.Caps(workers=1))
    shell.plan(task("delay", "d", delay_s=5.0), model("a"), model("b"))
    assert next_timer(shell.state, False, 2.0) == shell.now + 2_000, "the warning of the saturation"
    assert next_timer(shell.state, False, WARNING_S) == shell.now + 5_000, "the delay"
    assert next_timer(shell.state, False, WARNING_S, after=shell.now + 5_000) == shell.now + 30_000
    assert next_timer(shell.state, True, WARNING_S, after=shell.now + 5_000) is None, "no warning while held"
    shell.wake(seconds=40)
    assert next_timer(shell.state, False, WARNING_S) is None, "both have been"


def test_no_timer_moves_what_plans_answers_or_is_cancelled() -> None:
    assert next_timer(FRESH, False, WARNING_S) is None
    for begin in ("chat", "goal"):
        shell = Shell()
        getattr(shell, begin)()
        assert next_timer(shell.state, False, WARNING_S) is None
    shell = Shell()
    shell.plan(model("a"), task("delay", "d", delay_s=5.0))
    shell.tell(i.Cancel(by=BY))
    assert next_timer(shell.state, False, WARNING_S) is None


# ---- what one more permit would start -------------------------------------------------------------------------------


def test_who_waits_for_which_permit() -> None:
    """(one more worker, one more model permit); planning and the answer take no worker (protocol.md, 5)."""
    assert wants(FRESH, False, 4) == (False, False)
    shell = Shell()
    shell.models = 0
    shell.goal()
    assert wants(shell.state, False, 4) == (False, True), "planning"
    assert wants(shell.state, True, 4) == (False, False), "held by the server"
    shell = Shell()
    shell.models = 0
    shell.chat()
    assert wants(shell.state, False, 4) == (False, True), "the answer"
    shell.models = 4
    shell.wake()
    assert wants(shell.state, False, 4) == (False, False), "it has one"
    shell.tell(i.Cancel(by=BY))
    assert wants(shell.state, False, 4) == (False, False), "a run that is cancelling wants nothing"


def test_a_plan_waits_for_a_worker_and_only_its_model_tasks_for_a_model() -> None:
    shell = Shell(i.Caps(workers=1, dispatch=2))
    shell.plan(model("a"), task("tool", "t", tool="text"), model("late"), task("delay", "d", delay_s=9.0))
    assert shell.state.run is not None
    assert shell.state.run.queued == ("t",)
    assert wants(shell.state, False, 2) == (True, False), "the queued one is no model task, and the cap holds the other"
    assert wants(shell.state, False, 3) == (True, False), "a worker alone would do, whatever else waits"
    shell = Shell(i.Caps(workers=2))
    shell.plan(model("a"), model("b"), model("c"))
    shell.end(due(shell.state)[0], "failed")
    assert wants(shell.state, False, 3) == (False, False), "a run that is failing wants nothing"


# ---- keys and leaves ------------------------------------------------------------------------------------------------


def test_the_same_key_again_is_one_run_and_with_another_body_a_conflict() -> None:
    """F9, rulings 23."""
    used = i.UsedKey(run="run_1", body_hash="same")
    start = i.StartRun(by=BY, run="run_2", kind="chat", content="x", key="k", body_hash="same")
    again = decide(FRESH, start, i.Given(now=1, used_key=used))
    assert (again.facts, again.answer) == ((), i.Repeated(run="run_1"))
    with pytest.raises(Conflict) as other:
        decide(FRESH, start, i.Given(now=1, used_key=i.UsedKey(run="run_1", body_hash="other")))
    assert other.value.details == {"reason": "idempotency_key", "run": "run_1"}
    first = decide(FRESH, start, i.Given(now=1))
    assert first.answer == i.Accepted(run="run_2", seq=2)
    accepted = first.facts[1]
    assert isinstance(accepted, f.RunAccepted)
    assert (accepted.key, accepted.body_hash) == ("k", "same"), "the key is in the fact (rulings 44)"


def test_a_run_at_an_unknown_leaf_is_refused_and_at_a_known_one_the_window_moves_there() -> None:
    """N5: the new user entry's parent is the leaf; the list of the path comes with the fact (rulings 1)."""
    start = i.StartRun(by=BY, run="run_2", kind="chat", content="x", leaf_id="e")
    with pytest.raises(NotFound):
        decide(FRESH, start, i.Given(now=1))
    path = tuple(f.WindowItem(id=name, role="user", kind="message", bytes=1) for name in ("d", "e"))
    summary = f.SummaryItem(id="sum", first="a", last="c", entries=3, bytes=4, origin="user")
    given = i.Given(now=1, models=1, paths={"e": path}, path_summaries={"e": (summary,)})
    state = decide(FRESH, start, given).state
    assert [item.id for item in state.window] == ["d", "e", "run_2.u"]
    assert (state.leaf, state.summaries) == ("run_2.u", (summary,))


def test_a_run_keeps_the_epoch_it_was_accepted_in_also_when_another_began_before_it() -> None:
    """Rulings 21: what was said in the new epoch is not before words of the old one."""
    shell = Shell()
    shell.tell(i.SetMode(by=BY, mode="paused"))
    old = shell.chat()
    shell.tell(i.NewEpoch(by=BY))
    new = shell.chat(mode="interrupt")
    shell.heal()
    started = {fact.run: fact.parent for fact in shell.facts if isinstance(fact, f.RunStarted)}
    assert list(started) == [new, old]
    assert started == {new: None, old: None}
    assert shell.state.leaf == f"{new}.a1", "and the old run's entries are not in the new window"


# ---- the queue ------------------------------------------------------------------------------------------------------


def test_a_run_behind_one_that_waits_says_what_it_waits_for() -> None:
    """Rulings 20."""
    shell = Shell()
    shell.plan(model("a", "g"), gates=(gate("g"),))
    shell.chat()
    accepted = shell.facts[-1]
    assert isinstance(accepted, f.RunAccepted)
    assert (accepted.state, accepted.position, accepted.held, accepted.held_by) == ("queued", 1, "waiting", "g")
    shell.tell(i.SetMode(by=BY, mode="paused"))
    shell.chat()
    accepted = shell.facts[-1]
    assert isinstance(accepted, f.RunAccepted)
    assert (accepted.position, accepted.held, accepted.held_by) == (2, "paused", None)


def test_words_for_a_run_that_is_being_cancelled_are_refused() -> None:
    shell = Shell()
    shell.chat()
    shell.tell(i.Cancel(by=BY))
    with pytest.raises(Conflict) as refused:
        shell.tell(i.AddInput(by=BY, mode="steer", content="more"))
    assert refused.value.details == {"reason": "cancelling"}


# ---- cancel (rulings 17) --------------------------------------------------------------------------------------------


def test_cancel_counts_what_ran_and_what_had_not_started() -> None:
    shell = Shell()
    run = shell.plan(model("a"), model("b", "a"), model("c", "a"))
    queued = shell.chat()
    assert shell.tell(i.Cancel(by=BY, run=queued)) == i.Cancelling(queued=1)
    assert shell.tell(i.Cancel(by=BY)) == i.Cancelling(queued=2, attempts=((run, "a", 1),))
    assert shell.tell(i.Cancel(by=BY)) == i.Cancelling(queued=0, attempts=((run, "a", 1),)), "a second time"
    shell.heal()
    assert shell.tell(i.Cancel(by=BY)) == i.Cancelling(), "nothing to do: zeros"


@pytest.mark.parametrize(("begin", "name"), [("goal", "planning"), ("chat", "answer")])
def test_planning_and_the_answer_are_active_ones(begin: str, name: str) -> None:
    shell = Shell()
    run = getattr(shell, begin)()
    assert shell.tell(i.Cancel(by=BY)) == i.Cancelling(queued=0, attempts=((run, name, 1),))
    shell.heal()
    assert shell.ended == {run}


def test_cancel_of_one_task_is_of_the_run_in_progress_and_of_what_has_not_ended() -> None:
    shell = Shell()
    with pytest.raises(NotFound):
        shell.tell(i.Cancel(by=BY, task="a"))
    run = shell.plan(model("a"), model("b"))
    shell.tell(i.CallBegan(by=AGENT, run=run, task="a", attempt=1, call="c", tool="t", input={}))
    assert shell.tell(i.Cancel(by=BY, task="a")) == i.Cancelling(queued=0, attempts=((run, "a", 1),))
    failed = next(fact for fact in shell.facts if isinstance(fact, f.ToolFailed))
    assert (failed.call, failed.error.kind) == ("c", "cancelled"), "its open call is closed first (rulings 7)"
    assert shell.tell(i.Cancel(by=BY, task="a")) == i.Cancelling(), "it has ended: zeros"
    shell.end(due(shell.state)[0], "needs_review")
    assert shell.tell(i.Cancel(by=BY, task="b")) == i.Cancelling(queued=1)
    last = [fact for fact in shell.facts if isinstance(fact, f.AgentStatus) and fact.task == "b"][-1]
    assert last.status == "skipped", "a review that nobody will make (rulings 9)"


# ---- what is told beside ---------------------------------------------------------------------------------------------


def test_a_warning_names_its_run_while_that_lasts() -> None:
    shell = Shell()
    run = shell.chat()
    shell.tell(i.Warn(by=AGENT, run=run, code="provider_retry", message="again", source="provider", details={"n": 1}))
    shell.heal()
    shell.tell(i.Warn(by=AGENT, run=run, code="late", message="x", source="provider"))
    told = [(fact.code, fact.run, fact.details) for fact in shell.facts if isinstance(fact, f.Warned)]
    assert told == [("provider_retry", run, {"n": 1}), ("late", None, None)]


def test_what_was_scrubbed_is_told_by_its_rule_and_only_when_something_was_stored() -> None:
    """L14; a repeated mode is no fact, so there is nothing that a secret could have been in."""
    shell = Shell()
    run = shell.chat(scrubbed=("bearer",))
    told = [fact for fact in shell.facts if isinstance(fact, f.Warned)]
    assert [(fact.code, fact.run, fact.details) for fact in told] == [("scrubbed", run, {"rules": ["bearer"]})]
    shell.tell(i.SetMode(by=BY, mode="running", scrubbed=("bearer",)))
    assert len([fact for fact in shell.facts if isinstance(fact, f.Warned)]) == 1
    shell.tell(i.SetMode(by=BY, mode="paused", reason="[scrubbed]", scrubbed=("bearer",)))
    assert [fact.run for fact in shell.facts if isinstance(fact, f.Warned)] == [run, None]


def test_clear_saturation_leaves_an_answer_that_is_being_made() -> None:
    """Rulings 21: running attempts finish; there is no task to drop."""
    shell = Shell()
    run = shell.chat()
    shell.tell(i.ClearSaturation(by=BY))
    assert names(shell) == ["answer"]
    shell.heal()
    end = [fact for fact in shell.facts if isinstance(fact, f.RUN_ENDS)]
    assert [(fact.run, type(fact)) for fact in end] == [(run, f.RunCompleted)]
    assert shell.state.leaf is None, "the answer is of the epoch before"


def test_what_a_plan_would_need_to_go_on_is_the_least_of_what_is_ready() -> None:
    """A task without a model needs a worker alone; a model task both; beyond the cap nothing helps."""
    shell = Shell(i.Caps(workers=3, dispatch=3))
    shell.workers = 0
    shell.plan(model("a"), task("question", "q"), task("tool", "t", "q", tool="text"), model("m", "q"))
    assert shell.state.run is not None
    assert shell.state.run.queued == ("a",)
    assert wants(shell.state, False, 3) == (True, True), "the model task that is queued"
    shell.tell(i.AnswerQuestion(by=BY, task="q", value="yes"))
    assert set(shell.state.run.ready) == {"t", "m"}
    assert wants(shell.state, False, 3) == (True, False), "the tool's task would go"
    assert wants(shell.state, False, 1) == (True, True), "but for the cap"


def test_ready_model_tasks_want_both_and_a_queued_tool_wants_a_worker() -> None:
    shell = Shell(i.Caps(workers=3, dispatch=4))
    shell.workers = 0
    shell.plan(task("tool", "t", tool="text"), task("question", "q"), model("m", "q"))
    assert wants(shell.state, False, 4) == (True, False)
    shell = Shell(i.Caps(workers=1, dispatch=4))
    shell.plan(model("a"), task("delay", "d", delay_s=9.0), model("b"))
    run = shell.state.run
    assert run is not None
    waiting = msgspec.structs.replace(run, queued=(), ready=("d", "b"))
    state = msgspec.structs.replace(shell.state, runs={run.id: waiting})
    assert wants(state, False, 4) == (True, True), "the model task, not the delay"
    delayed = msgspec.structs.replace(run, queued=(), ready=("d",))
    state = msgspec.structs.replace(shell.state, runs={run.id: delayed})
    assert wants(state, False, 4) == (False, False), "a timer waits for no permit"
