"""`agentd replay` with a real server and with files: the same, another, spoiled, cut off, as it was at a fact."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentd.cli.failure import DONE, FAILED, NOT_FOUND, USAGE
from tests.cli.conftest import Command, Said
from tests.cli.served import served

CORPUS = Path(__file__).parents[1] / "replay" / "corpus"
WORKED = CORPUS / "second-worked.ndjson"


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


def test_a_session_of_a_server_is_verified_as_it_stands(to_server: Command, tmp_path: Path) -> None:
    to_server("goal", "a; b; then c", "--session", "again")
    to_server("chat", "thanks", "--session", "again")
    said = to_server("replay", "again", "--verify")
    assert (said.code, said.err) == (DONE, "")
    assert said.out.startswith("the same: ")
    path = tmp_path / "again.ndjson"
    to_server("export", "again", "--out", str(path))
    assert to_server("replay", str(path), "--verify").out == said.out
    assert json.loads(to_server("replay", "again", "--verify", "--json").out)["same"] is True
    assert to_server("replay", "nobody", "--verify").code == NOT_FOUND
    assert "no rules decide" in to_server("replay", "_server", "--verify").err


def test_the_first_difference_is_shown_with_both_sides(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "other.ndjson"
    path.write_text(WORKED.read_text().replace('"duration_ms":', '"duration_ms":9', 1))
    said = command("replay", str(path), "--verify")
    assert said.code == FAILED
    first, log, rules = said.out.splitlines()
    assert first.startswith("not the same: seq ")
    assert first.endswith("(duration_ms)")
    assert '"duration_ms":9' in log
    assert '"type":"run.completed"' in rules
    shown = json.loads(command("replay", str(path), "--verify", "--json").out)
    assert (shown["same"], shown["difference"]["fields"]) == (False, ["duration_ms"])


def test_what_was_is_shown_up_to_a_fact_or_the_end_of_a_run(command: Command) -> None:
    facts = [json.loads(line)["fact"] for line in WORKED.read_text().splitlines()[1:]]
    plan = next(fact for fact in facts if fact["type"] == "agent.plan")
    said = command("replay", str(WORKED), "--until", str(plan["seq"] - 1))
    assert said.code == DONE
    assert f"worked at seq {plan['seq'] - 1} of {len(facts)}" in said.out
    assert f"{plan['run']}  goal  running" in said.out
    assert "t1" not in said.out
    assert "  t1  " in command("replay", str(WORKED), "--until", str(plan["seq"])).out
    end = next(fact for fact in facts if fact["type"] == "run.completed")
    said = command("replay", str(WORKED), "--run", end["run"], "--json")
    assert json.loads(said.out)["seq"] == end["seq"]
    assert command("replay", str(WORKED), "--run", end["run"], "--verify").code == DONE
    assert command("replay", str(WORKED), "--run", "run_none").code == NOT_FOUND
    assert command("replay", str(WORKED), "--until", "0").code == USAGE


@pytest.mark.parametrize("until", range(1, 60))
def test_a_verification_ends_with_a_whole_command(command: Command, until: int) -> None:
    said = command("replay", str(WORKED), "--verify", "--until", str(until), "--json")
    assert said.code == DONE
    shown = json.loads(said.out)
    assert until <= shown["facts"] < until + 25
    assert shown["same"]


LINES = WORKED.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize(
    ("name", "lines", "told"),
    [
        ("cut", LINES[:-1], "cut"),
        ("empty", [], "json"),
        ("other", [b"hello\n"], "json"),
        ("newer", [LINES[0].replace(b'"version":1', b'"version":2'), *LINES[1:]], "newer agentd"),
        ("unknown", [*LINES[:4], LINES[4].replace(b'"type":"', b'"type":"x.'), *LINES[5:]], "version"),
        ("doubled", [*LINES[:9], LINES[8], *LINES[9:]], "seq"),
        ("moved", [*LINES[:9], LINES[10], LINES[9], *LINES[11:]], "seq"),
        ("session", [*LINES[:9], LINES[9].replace(b'"session":"worked"', b'"session":"w"'), *LINES[10:]], "session"),
    ],
)
def test_a_spoiled_file_is_named_by_rule_and_line(
    command: Command, tmp_path: Path, name: str, lines: list[bytes], told: str
) -> None:
    path = tmp_path / f"{name}.ndjson"
    path.write_bytes(b"".join(lines))
    said = command("replay", str(path), "--verify")
    assert said.code == FAILED
    assert said.out == ""
    assert "is spoiled" in said.err
    assert told in said.err


def test_the_trace_of_a_run_is_no_session(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "run.ndjson"
    facts = [json.loads(line)["fact"] for line in LINES[1:]]
    run = facts[1]["run"]
    path.write_text("".join(json.dumps(fact, separators=(",", ":")) + "\n" for fact in facts if fact.get("run") == run))
    said = command("replay", str(path), "--verify")
    assert said.code == USAGE
    assert "trace FILE --check" in said.err


def test_a_snapshot_of_a_newer_version_says_why_not(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "snapshot.ndjson"
    header = json.loads(LINES[0]) | {"first": 5}
    snapshot = {"type": "snapshot", "seq": 4, "version": 99, "state": {}}
    before = [json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in (header, snapshot)]
    path.write_bytes(b"".join(before + LINES[5:]))
    said = command("replay", str(path), "--verify")
    assert said.code == FAILED
    assert "version 99" in said.err
