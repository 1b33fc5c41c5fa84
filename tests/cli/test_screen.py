"""What a person sees: the answer on stdout, the rest on stderr, and no text that commands the terminal."""

import json
from typing import Any

import pytest

from agentd.cli.client import Frame
from agentd.cli.failure import Failure
from agentd.cli.screen import Screen, errors_as, one_line, visible

Out = pytest.CaptureFixture[str]


def show(screen: Screen, **fields: Any) -> None:
    screen.show(Frame(json.dumps({"session": "s", "run": "r", **fields}).encode()))


def test_a_plan_and_its_tasks_are_told_on_stderr(capsys: Out) -> None:
    screen = Screen(json=False)
    tasks = [{"id": "t1", "title": "look", "depends_on": []}, {"id": "t2", "title": "tell", "depends_on": ["t1"]}]
    show(screen, type="agent.plan", tasks=tasks, gates=[])
    show(screen, type="agent.status", task="t1", status="done")
    show(screen, type="agent.status", task="t2", status="failed", cause={"message": "no\nvoice"})
    out, err = capsys.readouterr()
    assert out == ""
    assert err == ("plan: 2 tasks\n  t1 look\n  t2 tell (after t1)\n  ✓ t1 done look\n  ✗ t2 failed tell: no voice\n")


def test_what_a_run_waits_for_is_told_with_the_command_that_decides_it(capsys: Out) -> None:
    show(Screen(json=False), type="run.waiting", gates=["g"], questions=["t"], cause={"message": "a gate is open"})
    err = capsys.readouterr().err
    assert "agentd ctl approve --session s --gate g" in err
    assert "agentd ctl answer VALUE --session s --task t" in err


def test_control_characters_are_shown_and_not_obeyed_on_a_terminal(
    capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "a\x1b]0;title\x07\x9b2Jb\tc\n"
    assert visible(text) == "a\\x1b]0;title\\x07\\x9b2Jb\tc\n"
    assert one_line("  two\n\x1blines  ") == "  two \\x1blines"
    screen = Screen(json=False)
    show(screen, type="session.receive", message="m", content=text)
    assert capsys.readouterr().out == text + "\n", "a pipe gets the text as it is"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    show(Screen(json=False), type="session.receive", message="m", content=text)
    assert capsys.readouterr().out == visible(text) + "\n"


def test_a_type_that_is_not_known_is_passed_over(capsys: Out) -> None:
    show(Screen(json=False), type="something.new", message=1)
    assert capsys.readouterr() == ("", "")


def test_long_lines_are_cut() -> None:
    assert len(one_line("x" * 10_000)) == 200


def test_as_json_the_servers_error_goes_to_stdout_too(capsys: Out) -> None:
    with pytest.raises(Failure), errors_as(True):
        raise Failure("no", frame={"type": "error", "code": "conflict"})
    assert json.loads(capsys.readouterr().out) == {"type": "error", "code": "conflict"}
