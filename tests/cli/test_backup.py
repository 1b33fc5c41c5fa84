"""The command moves a copy to where it is wanted, and says where it is when it can't."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentd.cli.failure import DENIED, FAILED, UNREACHABLE, USAGE
from tests.cli.conftest import Command
from tests.cli.served import served


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    state = tmp_path_factory.mktemp("served") / "state"
    with served(state):
        yield state


def test_a_copy_is_named_or_moved(command: Command, state: Path, tmp_path: Path) -> None:
    left = command("backup", "--state-dir", str(state))
    assert left.code == 0, left.err
    assert Path(left.out.strip()).parent == state / "backups"
    assert "facts" in left.err
    wanted = tmp_path / "copy.db"
    moved = command("backup", str(wanted), "--state-dir", str(state), "--json")
    assert json.loads(moved.out)["path"] == str(wanted)
    assert wanted.stat().st_mode & 0o777 == 0o600
    assert list((state / "backups").iterdir()) == [Path(left.out.strip())]


def test_no_file_is_written_over_and_none_is_lost(command: Command, state: Path, tmp_path: Path) -> None:
    there = tmp_path / "there.db"
    there.write_bytes(b"precious")
    assert command("backup", str(there), "--state-dir", str(state)).code == USAGE
    assert there.read_bytes() == b"precious"
    said = command("backup", str(tmp_path / "no" / "folder.db"), "--state-dir", str(state))
    assert said.code == FAILED
    assert Path(said.err.rsplit("The backup is in ", 1)[1].strip().rstrip(".")).exists()


def test_who_may_not_and_who_is_not_there_are_told(
    command: Command, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = command("token", "add", "guest", "--scope", "operator", "--state-dir", str(state)).out.split()[0]
    before = set(os.listdir(state / "backups")) if (state / "backups").exists() else set()
    monkeypatch.setenv("AGENTD_TOKEN", token)
    said = command("backup", "--state-dir", str(state), "--json")
    assert said.code == DENIED
    assert json.loads(said.out)["code"] == "forbidden"
    assert set(os.listdir(state / "backups")) == before
    assert command("backup", "--url", "http://127.0.0.1:1").code == UNREACHABLE
