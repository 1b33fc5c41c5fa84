"""What a heartbeat says of a session, from its state alone; each suggestion can be sent as it stands (S17)."""

import msgspec

from agentd.core import intents as i
from agentd.core.heartbeat import beat, permitted
from agentd.core.session import due
from agentd.protocol.codec import decode_command
from tests.core.shell import BY, Shell, gate, model, task


def suggestions(shell: Shell, server_paused: bool = False) -> list[str]:
    found = beat(shell.state, server_paused).suggestions
    for one in found:
        if one.action is not None:
            decode_command(msgspec.json.encode(one.action))
    return [one.kind for one in found]


def test_nothing_unfinished_is_idle() -> None:
    shell = Shell()
    assert beat(shell.state, False).status == "idle"
    assert suggestions(shell) == ["start"]


def test_work_that_goes_on_is_watched_and_a_backlog_may_be_cleared() -> None:
    shell = Shell(i.Caps(workers=1))
    shell.plan(model("a"), model("b"))
    assert beat(shell.state, False).status == "watching"
    assert suggestions(shell) == ["clear"]


def test_a_paused_session_is_blocked_and_so_is_a_paused_server() -> None:
    shell = Shell()
    shell.tell(i.SetMode(by=BY, mode="paused"))
    shell.chat()
    assert beat(shell.state, False).status == "blocked"
    assert suggestions(shell) == ["resume"]
    found = beat(shell.state, True).suggestions[0]
    assert found.action is not None
    assert found.action["session"] == "*"


def test_what_runs_while_paused_is_still_watched() -> None:
    shell = Shell()
    shell.plan(model("a"))
    shell.tell(i.SetMode(by=BY, mode="paused"))
    assert beat(shell.state, False).status == "watching"


def test_gates_questions_and_reviews_block_and_say_what_decides_them() -> None:
    shell = Shell()
    shell.plan(task("question", "q", question="sure?"), model("a", "g"), model("b"), gates=(gate("g"),))
    shell.end(next(work for work in due(shell.state) if work.task == "b"), "needs_review")
    assert beat(shell.state, False).status == "blocked"
    assert suggestions(shell) == ["approve", "answer", "review"]


def test_who_is_no_operator_gets_no_action_that_needs_one() -> None:
    shell = Shell()
    shell.plan(model("a", "g"), gates=(gate("g"),))
    everything = beat(shell.state, False).suggestions
    assert everything[0].action is not None
    reduced = permitted(everything, False)
    assert [one.kind for one in reduced] == [one.kind for one in everything]
    assert reduced[0].action is None


def test_a_run_that_waits_for_a_permit_is_watched() -> None:
    shell = Shell()
    shell.models = 0
    shell.chat()
    shell.chat()
    assert beat(shell.state, False).status == "watching"


def test_who_may_decide_keeps_every_action() -> None:
    shell = Shell()
    shell.plan(model("a", "g"), gates=(gate("g"),))
    everything = beat(shell.state, False).suggestions
    assert permitted(everything, True) == everything


def test_a_session_resumes_itself_and_only_the_server_s_pause_needs_an_operator() -> None:
    """Rulings 16, 22: chat may resume its own session, `*` is the operator's."""
    shell = Shell()
    shell.tell(i.SetMode(by=BY, mode="paused"))
    shell.chat()
    for server_paused in (False, True):
        (found,) = permitted(beat(shell.state, server_paused).suggestions, False)
        assert (found.action is None) == server_paused


def test_runs_that_were_held_and_may_begin_now_are_watched() -> None:
    """Between a resume of the server and the session's own next step nothing is in progress."""
    shell = Shell()
    shell.server_paused = True
    shell.chat()
    shell.chat()
    assert beat(shell.state, True).status == "blocked"
    found = beat(shell.state, False)
    assert (found.status, found.message) == ("watching", "2 runs queued")
