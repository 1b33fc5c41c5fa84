"""`agentd memory` and `agentd sessions`: what is printed, with which exit code (S8, N5, rulings 29)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentd.cli.failure import FAILED, NOT_FOUND, USAGE
from tests.cli.conftest import Command, Said
from tests.cli.served import served


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("remembered")
    with served(folder):
        yield folder


@pytest.fixture
def to_server(command: Command, state: Path) -> Command:
    def do(*arguments: str) -> Said:
        return command(*arguments, "--state-dir", str(state))

    return do


def entries(to_server: Command, session: str) -> list[dict[str, Any]]:
    said = to_server("memory", "show", "--session", session, "--json", "--archived")
    return list(json.loads(said.out)["items"])


def test_what_was_said_is_found_shown_and_exported(to_server: Command) -> None:
    to_server("chat", "the harbour is " + "very " * 120 + "old", "--session", "m")
    to_server("chat", "and the lighthouse is new", "--session", "m")
    found = to_server("memory", "search", "lighthouse", "--session", "m", "--kind", "entry")
    assert found.code == 0
    assert "lighthouse" in found.out
    assert "(ram)" in found.out
    shown = to_server("memory", "show", "--session", "m")
    assert shown.out.count("\n    ") >= 4, "an id and a line for each"
    assert "truncated" in shown.out
    assert "truncated" not in to_server("memory", "show", "--session", "m", "--full").out
    exported = to_server("memory", "export", "--session", "m", "--kind", "entry")
    items = [json.loads(line) for line in exported.out.splitlines()]
    assert exported.err == f"{len(items)} items\n"
    assert items[-1]["content"].endswith("old")
    assert [item["id"] for item in items] == [item["id"] for item in reversed(entries(to_server, "m"))]


def test_what_is_not_found_is_4_and_what_is_missing_is_2(to_server: Command) -> None:
    to_server("chat", "hello", "--session", "n")
    nothing = to_server("memory", "search", "zeppelin", "--session", "n")
    assert (nothing.code, nothing.out) == (NOT_FOUND, "")
    for arguments in (("search",), ("forget",), ("forget", "an-id")):
        said = to_server("memory", *arguments, "--session", "n")
        assert (said.code, said.out) == (USAGE, "")
        assert "hint: " in said.err
    assert "--yes" in to_server("memory", "forget", "an-id", "--session", "n").err
    assert to_server("memory", "forget", "an-id", "--yes", "--session", "n").code == NOT_FOUND


def test_what_is_forgotten_is_gone_and_said_so(to_server: Command) -> None:
    to_server("chat", "my secret word is xylophone", "--session", "f")
    ids = [item["id"] for item in entries(to_server, "f")]
    said = to_server("memory", "forget", *ids, "--yes", "--session", "f")
    assert said.code == 0, said.err
    assert said.out.startswith(f"forgotten: {len(ids)} entries in f; ")
    assert "xylophone" not in to_server("memory", "export", "--session", "f").out
    assert to_server("memory", "search", "xylophone", "--session", "f").code == NOT_FOUND
    again = json.loads(to_server("memory", "forget", ids[0], "--yes", "--json", "--session", "f").out)
    assert again["memory_ids"] == [ids[0]]
    assert "forgotten" in to_server("memory", "show", "--session", "f").out


def test_a_session_is_branched_and_goes_on_from_another_entry(to_server: Command) -> None:
    for words in ("one", "two"):
        to_server("chat", words, "--session", "b")
    ids = [item["id"] for item in entries(to_server, "b")]
    moved = to_server("sessions", "checkout", ids[1], "--session", "b")
    assert moved.out == f"goes on from {ids[1]}\n"
    to_server("chat", "other two", "--session", "b")
    drawn = to_server("sessions", "tree", "--session", "b").out.splitlines()
    assert [line.split("  ")[0] for line in drawn].count("*") == 1, "one leaf is active"
    assert drawn[-1].startswith("* "), "the branch that was gone on with is the newest"
    assert {line.index("run_") for line in drawn} == {2, 4}, "both ways stand one step to the right"
    made = to_server("sessions", "branch", ids[1], "fork", "--session", "b")
    assert made.out == f"fork goes on from {ids[1]}\n"
    assert to_server("sessions", "branch", ids[1], "fork", "--session", "b").code == FAILED
    assert json.loads(to_server("sessions", "tree", "--session", "b", "--json", "--limit", "2").out)["next"]
    assert "there are older ones" in to_server("sessions", "tree", "--session", "b", "--limit", "2").err
    assert to_server("sessions", "checkout", "nobody", "--session", "b").code == NOT_FOUND


def test_sessions_are_listed_as_lines_and_as_json_in_pages(to_server: Command) -> None:
    for name in ("l1", "l2"):
        to_server("chat", "hello", "--session", name)
    lines = to_server("sessions").out.splitlines()
    assert lines[0].split("\t") == ["key", "agent", "owner", "mode", "unfinished", "facts", "updated"]
    rows = {line.split("\t")[0]: line.split("\t") for line in lines[1:]}
    assert rows["l1"][1:5] == ["default", "local", "running", "0"]
    first = to_server("sessions", "list", "--limit", "1", "--json")
    told = json.loads(first.out)
    assert (len(told["sessions"]), told["more"]) == (1, True)
    assert "there are more" in to_server("sessions", "list", "--limit", "1").err
