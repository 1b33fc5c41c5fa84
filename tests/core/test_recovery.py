"""Attempts whose process is gone: what is charged, and how a run that was ending ends (rulings 5 to 7; L8, T13)."""

import pytest

from agentd.core import intents as i
from agentd.core.session import due
from agentd.core.trace import problems
from agentd.protocol import facts as f
from tests.core.shell import AGENT, BY, RECOVERY, Shell, gate, model


@pytest.mark.parametrize("begin", ["goal", "chat"])
def test_planning_and_the_answer_begin_again_and_the_fourth_crash_ends_the_run(begin: str) -> None:
    shell = Shell()
    run = getattr(shell, begin)()
    first = due(shell.state)[0]
    for crashes in range(1, 4):
        shell.crash()
        assert due(shell.state)[0].attempt == first.attempt + crashes
    shell.crash()
    end = shell.facts[-1]
    assert isinstance(end, f.RunFailed)
    assert end.cause is not None
    assert end.cause.code == "no_progress"
    assert problems([fact for fact in shell.facts if fact.run == run], ended=True) == []


@pytest.mark.parametrize("begin", ["goal", "chat"])
def test_a_run_that_was_being_cancelled_is_cancelled_and_nothing_is_repeated(begin: str) -> None:
    shell = Shell()
    getattr(shell, begin)()
    shell.tell(i.Cancel(by=BY))
    shell.crash()
    assert isinstance(shell.facts[-1], f.RunCancelled)
    assert shell.state.runs == {}


def test_a_run_that_was_failing_fails_with_its_cause_and_names_the_call_in_doubt() -> None:
    shell = Shell()
    run = shell.plan(model("a"), model("b"))
    shell.tell(i.CallBegan(by=AGENT, run=run, task="b", attempt=1, call="c", tool="send_mail", input={}, effect="once"))
    shell.end(next(work for work in due(shell.state) if work.task == "a"), "failed")
    shell.crash()
    status = next(fact for fact in reversed(shell.facts) if isinstance(fact, f.AgentStatus))
    assert (status.task, status.status) == ("b", "cancelled")
    assert "send_mail may have been done" in status.message
    end = shell.facts[-1]
    assert isinstance(end, f.RunFailed)
    assert end.cause is not None
    assert end.cause.task == "a"


def test_what_queued_or_waited_is_not_charged() -> None:
    shell = Shell()
    shell.plan(model("a", "g"), gates=(gate("g"),))
    shell.chat()
    before = len(shell.facts)
    for _ in range(5):
        shell.crash()
    assert len(shell.facts) == before
    empty = Shell()
    empty.tell(i.Recovered(by=RECOVERY))
    assert empty.facts == []
