"""The commands against a real server: what a person types, what comes out, with which exit code."""

import json
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentd.cli.failure import DENIED, FAILED, INTERRUPTED, NOT_FOUND, USAGE
from agentd.clock import SystemClock
from agentd.edge.tokens import Tokens
from tests.cli.conftest import Command, Said
from tests.cli.served import agentd, end, rest, served, start

SLOW = "tell me [[chunks=400]] [[pace_ms=20]]"
SECONDS = 20


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module", autouse=True)
def start_text(state: Path, guest: str) -> Iterator[str]:
    assert guest
    with served(state) as said:
        yield said


@pytest.fixture
def to_server(command: Command, state: Path) -> Command:
    def do(*arguments: str) -> Said:
        return command(*arguments, "--state-dir", str(state))

    return do


@pytest.fixture(scope="module")
def guest(state: Path) -> str:
    """The token of somebody who may only chat, made before the server starts, which looks for new ones each second."""
    return Tokens(state, SystemClock()).add("guest", frozenset({"chat"}))


def test_the_start_says_where_it_listens_who_thinks_what_was_merged_and_what_to_try(start_text: str) -> None:
    assert "listens on http://127.0.0.1:" in start_text
    for word in ("offline", "SOUL", "AGENT", "IDENTITY", "USER", "Try:  agentd chat"):
        assert word in start_text


def test_a_chat_prints_the_answer_and_nothing_else(to_server: Command) -> None:
    said = to_server("chat", "What is 12 * 7?")
    assert (said.code, said.err) == (0, "")
    assert "84" in said.out
    assert said.out.endswith("\n")


def test_a_chat_as_json_is_the_frames_of_its_run(to_server: Command) -> None:
    frames = [json.loads(line) for line in to_server("chat", "hello", "--json").out.splitlines()]
    assert {frame["run"] for frame in frames} == {frames[0]["run"]}
    assert frames[0]["type"] == "run.accepted"
    assert frames[-1]["type"] == "run.completed"
    content = next(frame["content"] for frame in frames if frame["type"] == "session.receive")
    assert "".join(frame["text"] for frame in frames if frame["type"] == "session.delta") == content


def test_a_goal_shows_its_plan_its_tasks_and_its_answer(to_server: Command) -> None:
    said = to_server("goal", "list three colours; name a fruit for each")
    assert said.code == 0
    assert "plan: 2 tasks" in said.err
    assert "✓ t1 done" in said.err
    assert "2 of 2" in said.out


def test_a_failed_run_exits_1_with_its_cause_on_stderr(to_server: Command) -> None:
    said = to_server("chat", "[[fail=auth]] hello")
    assert (said.code, said.out) == (FAILED, "")
    assert said.err.startswith("error: ")
    assert "(auth)" in said.err


def test_a_refused_request_is_a_sentence_and_as_json_its_error_object(to_server: Command) -> None:
    said = to_server("chat", "x" * 70_000, "--json")
    assert said.code == FAILED
    assert json.loads(said.out)["code"] == "too_large"
    assert said.err.startswith("error: ")
    assert to_server("chat", "hello", "--session", "no good").code == USAGE


def test_a_talk_takes_line_after_line_until_the_input_ends(state: Path) -> None:
    talk = agentd(state, "chat", "--session", "talk", stdin=subprocess.PIPE)
    out, err = talk.communicate("What is 2 + 3?\n\n/new\nWhat is 4 * 5?\n/quit\nnever said\n", timeout=SECONDS)
    assert (talk.returncode, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 3
    assert "5" in lines[0]
    assert lines[1] == "session.new: done"
    assert "20" in lines[2]


def test_text_from_standard_input_is_one_message(state: Path) -> None:
    chat = agentd(state, "chat", "--stdin", "--json", stdin=subprocess.PIPE)
    out, _ = chat.communicate("two\nlines\n", timeout=SECONDS)
    assert json.loads(out.splitlines()[0])["content"] == "two\nlines\n"


def test_a_text_may_begin_with_a_hyphen_behind_two(state: Path, command: Command) -> None:
    said = command("chat", "--json", "--state-dir", str(state), "--", "- one")
    assert json.loads(said.out.splitlines()[0])["content"] == "- one"


def test_two_texts_and_none_are_refused(to_server: Command) -> None:
    for arguments in (["chat", "x", "--stdin"], ["chat", " "], ["goal", ""]):
        assert to_server(*arguments).code == USAGE


def test_a_trace_is_what_the_log_holds_byte_for_byte(to_server: Command, state: Path) -> None:
    run = to_server("goal", "a; b", "--no-wait").out.removeprefix("accepted: ").strip()
    to_server("chat", "the goal before is done when this one is answered")
    said = to_server("trace", run)
    database = sqlite3.connect(f"file:{state / 'agentd.db'}?mode=ro", uri=True)
    rows = database.execute(
        "SELECT e.body FROM events e JOIN runs r ON r.id = e.run WHERE r.run = ? ORDER BY e.run_seq", (run,)
    ).fetchall()
    database.close()
    assert said.out.encode() == b"".join(row[0] + b"\n" for row in rows)
    assert json.loads(said.out.splitlines()[-1])["type"] == "run.completed"
    assert (said.code, said.err) == (0, "")
    assert to_server("trace", "run_nobody").code == NOT_FOUND


def test_pause_and_resume_show_in_the_state(to_server: Command) -> None:
    to_server("chat", "hello", "--session", "mode")
    assert "mode: paused (by session)" in to_server("ctl", "pause", "--session", "mode").out
    state = json.loads(to_server("ctl", "state", "--session", "mode", "--json").out)
    assert (state["mode"], state["paused_by"]) == ("paused", ["session"])
    assert "mode: running" in to_server("ctl", "resume", "--session", "mode").out
    assert "paused (by server)" in to_server("ctl", "pause", "--session", "*").out
    assert "_server: running" in to_server("ctl", "resume", "--session", "*").out


def test_a_run_is_cancelled_by_its_id_alone(to_server: Command) -> None:
    run = to_server("chat", SLOW, "--session", "slow", "--no-wait").out.removeprefix("accepted: ").strip()
    said = to_server("ctl", "cancel", "--run", run)
    assert (said.code, said.out) == (0, "cancelled: 0 that waited, 1 that ran; 0 still running\n")
    last = json.loads(to_server("trace", run).out.splitlines()[-1])
    assert last["type"] == "run.cancelled"


def test_words_for_a_run_in_progress_are_taken(to_server: Command) -> None:
    run = to_server("chat", SLOW, "--session", "steered", "--no-wait").out.removeprefix("accepted: ").strip()
    assert to_server("ctl", "steer", "shorter", "--session", "steered").out == f"steer: run.input {run}\n"
    to_server("ctl", "cancel", "--session", "steered")
    assert to_server("ctl", "steer", "too late", "--session", "steered").code == FAILED


@pytest.mark.parametrize(
    "arguments",
    [["steer"], ["follow-up"], ["retry"], ["approve"], ["answer", "x"], ["answer", "--task", "t"], ["pause", "x"]],
)
def test_what_an_act_lacks_is_told_before_anything_is_sent(arguments: list[str], to_server: Command) -> None:
    said = to_server("ctl", *arguments)
    assert said.code == USAGE
    assert said.err.startswith("error: ")


def test_a_session_that_does_not_exist_is_not_found_and_not_made(to_server: Command) -> None:
    assert to_server("ctl", "pause", "--session", "mistyped").code == NOT_FOUND
    keys = [one["key"] for one in json.loads(to_server("sessions", "--json").out)["sessions"]]
    assert "mistyped" not in keys


def test_sessions_are_listed_page_by_page(to_server: Command) -> None:
    for name in ("page-1", "page-2", "page-3"):
        to_server("chat", "hello", "--session", name)
    everything = json.loads(to_server("sessions", "list", "--json").out)
    assert {"page-1", "page-2", "page-3"} <= {one["key"] for one in everything["sessions"]}
    assert not everything["more"]
    few = to_server("sessions", "--limit", "2")
    assert len(few.out.splitlines()) == 3
    assert "there are more" in few.err


def test_the_status_tells_version_provider_sessions_and_figures(to_server: Command) -> None:
    said = to_server("status")
    assert said.code == 0
    assert ": ready" in said.out
    assert "offline" in said.out
    status = json.loads(to_server("status", "--json").out)
    assert status["ready"]
    assert status["sessions"] >= 1
    assert status["figures"]["facts_total"] > 0
    assert status["provider"]["offline"]


def test_a_doctor_asks_the_running_server_and_leaves_its_file_alone(to_server: Command) -> None:
    report = json.loads(to_server("doctor", "--json").out)
    subjects = {one["subject"] for one in report["findings"]}
    assert "database" not in subjects
    assert any("answers at http://127.0.0.1:" in one["what"] for one in report["findings"])
    assert [one for one in report["findings"] if one["level"] == "error"] == []


def test_somebody_who_may_chat_works_in_a_session_of_their_own_and_nowhere_else(
    to_server: Command, guest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTD_TOKEN", guest)
    assert to_server("chat", "hello").code == 0
    assert ": running" in to_server("ctl", "state").out
    assert to_server("status").code == 0
    for arguments in (["chat", "x", "--session", "cli"], ["ctl", "pause", "--session", "*"], ["sessions"]):
        said = to_server(*arguments)
        assert (said.code, said.out) == (DENIED, "")


def test_a_wrong_token_is_denied(to_server: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTD_TOKEN", "wrong")
    assert to_server("chat", "hello").code == DENIED


def test_a_second_server_on_the_same_state_is_refused_with_a_sentence(to_server: Command) -> None:
    said = to_server("serve", "--port", "0")
    assert (said.code, said.out) == (FAILED, "")
    assert "in use by another agentd" in said.err
    assert "hint: " in said.err


def test_ctrl_c_cancels_the_run_and_a_second_one_leaves(state: Path) -> None:
    chat = agentd(state, "chat", SLOW, "--session", "interrupted")
    assert chat.stdout is not None
    assert chat.stdout.read(4)
    chat.send_signal(signal.SIGINT)
    out, err = rest(chat, SECONDS)
    assert chat.returncode == FAILED
    assert out.endswith("\n")
    assert err == "cancelling; Ctrl-C again to leave\ncancelled\n"


def test_ctrl_c_where_nothing_runs_leaves_at_once(state: Path) -> None:
    talk = agentd(state, "chat", "--session", "idle", stdin=subprocess.PIPE)
    assert talk.stdin is not None
    assert talk.stdout is not None
    assert talk.stderr is not None
    talk.stdin.write("hello\n/help\n")
    talk.stdin.flush()
    assert talk.stderr.readline().startswith("/quit leaves"), "the run has ended when the next line is taken"
    talk.send_signal(signal.SIGINT)
    assert talk.wait(SECONDS) == INTERRUPTED
    assert talk.stderr.read() == ""
    for stream in (talk.stdin, talk.stdout, talk.stderr):
        stream.close()


def test_a_reader_that_leaves_in_the_middle_is_no_traceback(state: Path, to_server: Command) -> None:
    chat = agentd(state, "chat", SLOW, "--session", "piped")
    assert chat.stdout is not None
    assert chat.stderr is not None
    chat.stdout.read(1)
    chat.stdout.close()
    assert chat.wait(SECONDS) == FAILED
    assert chat.stderr.read() == ""
    chat.stderr.close()
    assert to_server("ctl", "cancel", "--session", "piped").code == 0


def test_a_server_killed_in_mid_answer_costs_the_reader_nothing(tmp_path: Path) -> None:
    server, _ = start(tmp_path)
    chat = agentd(tmp_path, "chat", "count [[chunks=60]] [[pace_ms=20]]")
    assert chat.stdout is not None
    first = chat.stdout.read(10)
    end(server, signal.SIGKILL)
    with served(tmp_path):
        out, err = rest(chat, SECONDS)
        trace = _receive(tmp_path)
    assert chat.returncode == 0
    assert first + out == trace + "\n"
    assert err.startswith("connected again\n")


def _receive(state: Path) -> str:
    """The final text that the log holds."""
    database = sqlite3.connect(f"file:{state / 'agentd.db'}?mode=ro", uri=True)
    facts = [json.loads(row[0]) for row in database.execute("SELECT body FROM events ORDER BY id")]
    database.close()
    return str(next(fact["content"] for fact in facts if fact["type"] == "session.receive"))
