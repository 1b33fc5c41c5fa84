"""The doctor changes nothing, says 0, 1 or 2, and has a remedy for each finding."""

import json
import shutil
import socket
import sqlite3
from pathlib import Path

import pytest

from agentd.cli import checks
from agentd.cli.doctor import examine
from agentd.clock import SystemClock
from agentd.config import load
from agentd.store.backup import Backups
from agentd.store.lock import StateLock
from tests.cli.conftest import Command
from tests.store.making import opened, step

PORT = ("AGENTD_SERVER__PORT", "0")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(*PORT)
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    return path


def contents(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_directory_that_is_not_there_is_a_warning_and_is_not_made(command: Command, tmp_path: Path) -> None:
    said = command("doctor", "--state-dir", str(tmp_path / "none"))
    assert said.code == 1
    assert "remedy: it is made by the first `agentd serve`" in said.out
    assert not (tmp_path / "none").exists()


def test_every_finding_that_is_not_well_has_a_remedy_and_the_worst_is_the_exit_code(
    command: Command, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (state / "token").write_text("t" * 43, encoding="ascii")
    (state / "token").chmod(0o644)
    (state / "agentd.db").write_bytes(b"this is no database")
    monkeypatch.setenv("AGENTD_PROVIDER__NAME", "openai")
    before = contents(state)
    report = json.loads(command("doctor", "--state-dir", str(state), "--json").out)
    assert report["exit"] == 2
    bad = {(one["subject"], one["level"]) for one in report["findings"] if one["level"] != "ok"}
    assert {("state", "error"), ("database", "error"), ("provider", "error")} <= bad
    assert all(one["remedy"] for one in report["findings"] if one["level"] != "ok")
    assert contents(state) == before


def test_a_wrong_setting_is_a_finding_and_no_failure(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTD_LIMITS__WORKERS", "none")
    said = command("doctor")
    assert said.code == 2
    assert "AGENTD_LIMITS__WORKERS" in said.out
    assert said.err == ""


def test_a_port_in_use_is_an_error_while_no_server_runs(state: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        env = {PORT[0]: str(other.getsockname()[1])}
        found = [one for one in examine(str(state), None, env) if one.subject == "server"]
    assert [one.level for one in found] == ["error"]
    assert "stop what listens there" in found[0].remedy


def test_a_server_that_holds_the_directory_and_does_not_answer_is_named_and_its_file_left_alone(state: Path) -> None:
    (state / "agentd.db").write_bytes(b"this is no database")
    lock = StateLock.acquire(state)
    try:
        found = list(examine(str(state), None, {PORT[0]: "1"}))
    finally:
        lock.release()
    assert [one.level for one in found if one.subject == "server"] == ["error"]
    assert not [one for one in found if one.subject == "database"]


def test_a_full_disk_is_told_in_time(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, level in ((10 << 30, "ok"), (500 << 20, "warning"), (1 << 20, "error")):
        usage = type("Usage", (), {"free": free})
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        assert [one.level for one in checks.state_dir(state)][-1] == level


def test_a_password_in_an_address_is_not_shown(state: Path) -> None:
    env = {PORT[0]: "0", "AGENTD_PROVIDER__BASE_URL": "http://me:secret@example.org"}
    assert "secret" not in str(list(examine(str(state), None, env)))


async def test_a_restored_copy_and_a_log_that_is_not_its_own_are_named(state: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    async with opened(other / "agentd.db") as store:
        await store.append(step("a", 1))
        made = await Backups(other / "agentd.db", SystemClock()).make()
    shutil.copy(made.path, state / "agentd.db")
    found = [one for one in checks.offline(load({"server.port": 0}, {}, None), state) if one.subject == "database"]
    assert [one.level for one in found] == ["ok", "ok"], "that a copy has no write-ahead log is right"
    assert found[0].what.startswith("a backup made ")
    (state / "agentd.db-wal").write_bytes(b"")
    found = [one for one in checks.offline(load({"server.port": 0}, {}, None), state) if one.subject == "database"]
    assert [one.level for one in found][:2] == ["ok", "warning"]
    assert "quarantine/" in found[1].remedy
    assert [one.what for one in checks.backups(other)] == [
        f"the newest backup here is {Path(made.path).name}, 0 hours old"
    ]
    assert list(checks.backups(state)) == []


async def test_a_database_whose_write_ahead_log_was_switched_off_is_named(state: Path) -> None:
    async with opened(state / "agentd.db") as store:
        await store.append(step("a", 1))
    settings = load({"server.port": 0}, {}, None)
    assert [one.level for one in checks.offline(settings, state) if one.subject == "database"] == ["ok"]
    other = sqlite3.connect(state / "agentd.db")
    other.execute("PRAGMA journal_mode = delete")
    other.close()
    found = [one for one in checks.offline(settings, state) if one.subject == "database"]
    assert [one.level for one in found] == ["warning", "ok"]
    assert "write-ahead log off" in found[0].what
