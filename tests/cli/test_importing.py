"""`agentd import DIR`: what was taken, what was left out and why, and what stands in the way (S9)."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentd.cli.failure import DENIED, FAILED, NOT_FOUND, UNREACHABLE
from agentd.clock import SystemClock
from agentd.edge.tokens import Tokens
from agentd.store.legacy import INDEX
from tests.cli.conftest import Command
from tests.cli.served import served
from tests.store.test_legacy import archive, snapshot


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("importing")
    Tokens(folder, SystemClock()).add("guest", frozenset({"operator"}))
    with served(folder):
        yield folder


def test_what_was_taken_is_told_in_a_line_and_as_json(command: Command, state: Path, tmp_path: Path) -> None:
    archive(tmp_path, snapshot("ann", 1_000, "hi", "hello"))
    said = command("import", str(tmp_path), "--state-dir", str(state))
    assert (said.code, said.err) == (0, "")
    assert said.out == "1 snapshots with 2 entries and 0 summaries; 0 were there already, 0 left out\n"
    again = command("import", str(tmp_path), "--json", "--state-dir", str(state))
    assert (again.code, json.loads(again.out)["already"]) == (0, 1)


def test_what_was_left_out_is_told_with_its_reason_and_is_exit_1(command: Command, state: Path, tmp_path: Path) -> None:
    archive(tmp_path, snapshot("bob", 1_000, "hi"), snapshot("no key!", 2_000, "x"))
    with (tmp_path / INDEX).open("a") as index:
        index.write("\x1b[31mno line\n")
    said = command("import", str(tmp_path), "--state-dir", str(state))
    assert said.code == FAILED
    assert "1 snapshots with 1 entries" in said.out
    assert "no key of a session" in said.err
    assert "\x1b" not in said.err, "nothing of a file reaches the terminal as it is"


def test_what_is_no_such_directory_a_refusal_or_no_server_is_told_apart(
    command: Command, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("import", str(tmp_path), "--state-dir", str(state)).code == NOT_FOUND
    archive(tmp_path, snapshot("eve", 1_000, "hi"))
    alone = command("import", str(tmp_path), "--state-dir", str(tmp_path / "nobody"))
    assert alone.code == UNREACHABLE
    monkeypatch.setenv("AGENTD_TOKEN", "wrong")
    denied = command("import", str(tmp_path), "--state-dir", str(state))
    assert (denied.code, denied.out) == (DENIED, "")
    monkeypatch.setenv("AGENTD_URL", "http://127.0.0.1:9")
    gone = command("import", str(tmp_path))
    assert gone.code == UNREACHABLE
    assert "hint: " in gone.err
