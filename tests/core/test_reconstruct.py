"""The command behind facts, where they do not show one; where they do, the sessions in tests/replay say so."""

from agentd.core.intents import Caps, Wake
from agentd.core.reconstruct import commands, given
from agentd.core.state import Session
from agentd.protocol import facts as f
from tests.core.shell import BY

STATE = Session(key="s", agent="default", owner="local", seq=3)


def test_a_summary_of_the_first_release_does_not_say_how_it_was_made() -> None:
    fact = f.MemoryEvent(
        session="s", seq=4, ts=1, by=BY, event="summarize", count=1, bytes_before=1, bytes_after=0, range=("a", "a"),
        recall={},
    )  # fmt: skip
    assert list(commands(STATE, (fact,))) == [Wake(by=BY)]


def test_outcomes_of_a_run_that_is_not_unfinished_name_no_command() -> None:
    """Damage: the rules then lead to other facts, which is what is told."""
    fact = f.AgentStatus(session="s", seq=4, ts=1, run="gone", run_seq=2, task="planning", status="failed", message="")
    answer = f.AgentStatus(session="s", seq=5, ts=1, run="gone", run_seq=3, task="answer", status="failed", message="")
    assert {type(found) for found in commands(STATE, (fact, answer))} == {Wake}


def test_a_window_without_a_leaf_is_no_path_that_was_read() -> None:
    started = f.RunStarted(session="s", seq=4, ts=7, run="r", run_seq=2, entry="r.u", parent=None, window=())
    found = given(STATE, (started,), Caps(), {}, {})
    assert (found.now, found.paths, found.path_summaries) == (7, {}, {})
