"""`agentd trace` with a real server and with files: read back equal, followed to the end, checked, refused."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentd.cli.failure import DONE, FAILED, NOT_FOUND, USAGE
from agentd.core.export import LINE_BYTES_MAX
from agentd.core.trace import PROBLEMS_MAX
from tests.cli.conftest import Command, Said
from tests.cli.served import agentd, end, served, start

SECONDS = 20
SLOW = "[[pace_ms=30]] [[chunks=40]] say it slowly"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("state")
    with served(folder):
        yield folder


@pytest.fixture
def to_server(command: Command, state: Path) -> Command:
    def do(*arguments: str) -> Said:
        return command(*arguments, "--state-dir", str(state))

    return do


def begun(to_server: Command, *arguments: str) -> str:
    """The id of a run that was accepted."""
    return to_server(*arguments, "--no-wait").out.removeprefix("accepted: ").strip()


@pytest.fixture
def trace(to_server: Command, tmp_path: Path) -> Path:
    """The trace of a goal that is done, in a file."""
    run = begun(to_server, "goal", "a; b; then c", "--session", "traced")
    to_server("chat", "hello", "--session", "traced")
    path = tmp_path / f"{run}.ndjson"
    path.write_text(to_server("trace", run).out)
    return path


def test_what_is_read_back_is_equal_in_count_and_content_and_well_formed(to_server: Command, trace: Path) -> None:
    lines = trace.read_text().splitlines()
    again = to_server("trace", trace.stem).out.splitlines()
    assert again == lines
    assert [json.loads(line)["run_seq"] for line in lines] == list(range(1, len(lines) + 1))
    for name in (str(trace), trace.stem):
        said = to_server("trace", name, "--check")
        assert (said.code, said.err) == (DONE, "")
        assert said.out == f"well formed: {len(lines)} facts of {trace.stem}, completed\n"


def test_a_run_is_followed_while_it_goes_and_equals_its_trace(to_server: Command) -> None:
    run = begun(to_server, "chat", SLOW, "--session", "followed")
    said = to_server("trace", run, "--follow")
    assert (said.code, said.err) == (DONE, "")
    assert said.out == to_server("trace", run).out
    assert json.loads(said.out.splitlines()[-1])["type"] == "run.completed"
    assert to_server("trace", run, "--follow").out == said.out


def test_a_run_that_goes_on_is_not_a_whole_trace(to_server: Command) -> None:
    run = begun(to_server, "chat", SLOW, "--session", "going")
    said = to_server("trace", run, "--check")
    assert said.code == FAILED
    assert said.err.startswith("not well formed: end: the run has no end, it is running, at line ")
    assert to_server("ctl", "cancel", "--session", "going").code == DONE
    assert to_server("trace", run, "--check").out.endswith(f"of {run}, cancelled\n")


def test_following_survives_a_kill_and_repeats_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state"
    server, _ = start(state)
    slow = agentd(state, "chat", "[[pace_ms=20]] [[chunks=60]] long", "--no-wait")
    run = slow.communicate(timeout=SECONDS)[0].removeprefix("accepted: ").strip()
    follower = agentd(state, "trace", run, "--follow")
    assert follower.stdout is not None
    first = follower.stdout.readline()
    end(server, signal.SIGKILL)
    server, _ = start(state)
    try:
        rest = follower.stdout.read()  # communicate() would lose what came with the first line
        assert (follower.communicate(timeout=SECONDS)[1], follower.returncode) == ("", DONE)
        again = agentd(state, "trace", run)
        assert first + rest == again.communicate(timeout=SECONDS)[0]
        assert json.loads(rest.splitlines()[-1])["type"] == "run.completed"
    finally:
        end(server, signal.SIGTERM)


def test_an_unknown_run_is_not_found_however_it_is_asked_for(to_server: Command) -> None:
    for flags in ((), ("--follow",), ("--check",)):
        said = to_server("trace", "run_nobody", *flags)
        assert (said.code, said.out) == (NOT_FOUND, "")
        assert "no run run_nobody" in said.err


def test_check_and_follow_do_not_go_together(to_server: Command) -> None:
    assert to_server("trace", "r", "--check", "--follow").code == USAGE


def spoiled(path: Path, kind: str) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    fact = json.loads(lines[4])
    match kind:
        case "cut":
            lines = lines[:-1]
        case "reordered":
            lines[4], lines[5] = lines[5], lines[4]
        case "doubled":
            lines.insert(5, lines[4])
        case "session":
            lines[4] = json.dumps({**fact, "session": "other"}).encode() + b"\n"
        case "version":
            lines[4] = json.dumps({**fact, "type": "agent.dream"}).encode() + b"\n"
        case "json":
            lines[4] = lines[4][:20] + b"\n"
    path.write_bytes(b"".join(lines))


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("cut", "end: the run has no end, it is running, at line 15"),
        ("reordered", "run_seq: 6 after 4, at line 5, seq "),
        ("doubled", "run_seq: 5 after 5, at line 6, seq "),
        ("session", "session: a fact of session other among those of traced, at line 5, seq "),
        ("version", "version: "),
        ("json", "json: "),
    ],
)
def test_a_spoiled_file_is_refused_and_the_place_named(command: Command, trace: Path, kind: str, told: str) -> None:
    count = len(trace.read_bytes().splitlines())
    spoiled(trace, kind)
    said = command("trace", str(trace), "--check")
    assert (said.code, said.out) == (FAILED, "")
    assert f"not well formed: {told}".replace("line 15", f"line {count - 1}") in said.err
    assert "Traceback" not in said.err


def test_an_export_is_checked_with_all_of_its_runs(to_server: Command, trace: Path, tmp_path: Path) -> None:
    path = tmp_path / "session.ndjson"
    assert to_server("export", "traced", "--out", str(path)).code == DONE
    said = to_server("trace", str(path), "--check")
    assert (said.code, said.err) == (DONE, "")
    lines = path.read_bytes().splitlines(keepends=True)
    assert said.out.startswith(f"well formed: {len(lines) - 1} facts, runs: ")
    path.write_bytes(b"".join(lines[:-1]))
    said = to_server("trace", str(path), "--check")
    assert (said.code, said.out) == (FAILED, "")
    assert said.err.startswith("not well formed: cut: ends after seq ")


def test_standard_input_is_checked_too(state: Path, trace: Path) -> None:
    check = agentd(state, "trace", "/dev/stdin", "--check", stdin=subprocess.PIPE)
    out, err = check.communicate(trace.read_text(), timeout=SECONDS)
    assert (check.returncode, err) == (DONE, "")
    assert out.startswith("well formed: ")


def test_a_file_of_any_size_is_checked_in_little_memory(tmp_path: Path) -> None:
    """A run of a hundred megabytes, made of one fact after the other; the limit is on the whole process."""
    path = tmp_path / "long.ndjson"
    accepted = {"type": "run.accepted", "session": "s", "seq": 1, "ts": 1, "run": "r", "run_seq": 1, "kind": "chat",
                "content": "x", "state": "running"}  # fmt: skip
    words = "x" * 50_000
    with path.open("w") as file:
        file.write(json.dumps(accepted) + "\n")
        for number in range(2, 2_000):
            file.write(
                f'{{"type":"warning","session":"s","seq":{number},"ts":1,"run":"r","run_seq":{number},"code":"c",'
                f'"message":"{words}","source":"s"}}\n'
            )
    assert path.stat().st_size > 99_000_000
    limited = f"ulimit -v 400000; exec {sys.executable} -m agentd trace {path} --check"
    check = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=SECONDS)
    assert (check.returncode, check.stdout) == (FAILED, "")
    assert check.stderr == "not well formed: end: the run has no end, it is queued, at line 1999\n"


def test_a_file_of_one_endless_line_is_refused_without_being_read(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "endless"
    with path.open("wb") as file:
        file.truncate(1 << 30)  # a gigabyte that takes no room on the disk
    said = command("trace", str(path), "--check")
    assert (said.code, said.out) == (FAILED, "")
    assert f"size: a line of more than {LINE_BYTES_MAX} bytes, at line 1" in said.err


def test_no_more_is_told_than_anybody_reads(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "noise"
    path.write_text("noise\n" * 10_000)
    said = command("trace", str(path), "--check")
    assert said.code == FAILED
    assert len(said.err.splitlines()) == PROBLEMS_MAX + 1
    assert said.err.endswith("looked no further\n")
