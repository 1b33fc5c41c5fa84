"""`agentd export` with a real server: whole, in its form, and never half a file under its name."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentd.cli.failure import DONE, FAILED, NOT_FOUND, UNREACHABLE, USAGE
from agentd.core.export import Reader
from tests.cli.conftest import Command, Said
from tests.cli.fake_http import answering
from tests.cli.served import served


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


def test_an_export_holds_what_the_log_holds_with_its_steps(to_server: Command, state: Path, tmp_path: Path) -> None:
    to_server("goal", "a; b; then c", "--session", "out")
    path = tmp_path / "out.ndjson"
    said = to_server("export", "out", "--out", str(path))
    assert (said.code, said.out) == (DONE, "")
    database = sqlite3.connect(f"file:{state / 'agentd.db'}?mode=ro", uri=True)
    rows = database.execute(
        "SELECT e.step, e.body FROM events e JOIN sessions s ON s.id = e.session WHERE s.key = 'out' ORDER BY seq"
    ).fetchall()
    database.close()
    assert said.err == f"{len(rows)} facts in {path}\n"
    reader = Reader()
    lines = path.read_bytes().splitlines(keepends=True)
    header = reader.header(lines[0])
    stored = [found for line in lines[1:] if (found := reader.fact(line)) is not None]
    reader.end()
    assert [(found.step, found.body) for found in stored] == rows
    assert (header.session, header.agent, header.owner, header.first) == ("out", "default", "local", 1)
    assert header.caps.workers == 8
    body = to_server("export", "out").out
    assert [json.loads(line) for line in body.splitlines()[1:]] == [json.loads(line) for line in lines[1:]]


def test_the_servers_own_session_is_exported_too(to_server: Command) -> None:
    lines = to_server("export", "_server").out.splitlines()
    assert json.loads(lines[1])["fact"]["type"] == "server.started"


def test_an_unknown_session_is_not_found_and_no_file_is_made(to_server: Command, tmp_path: Path) -> None:
    path = tmp_path / "none"
    said = to_server("export", "nobody", "--out", str(path))
    assert (said.code, said.out) == (NOT_FOUND, "")
    assert list(tmp_path.iterdir()) == []
    assert to_server("export", "not a key").code == USAGE


def test_a_place_that_can_not_be_written_is_told(to_server: Command, tmp_path: Path) -> None:
    to_server("chat", "hello", "--session", "out")
    said = to_server("export", "out", "--out", str(tmp_path / "no" / "file"))
    assert said.code == USAGE
    assert "can't be written" in said.err


HEADER = (
    b'{"type":"export","version":1,"log":"l","session":"s","agent":"a","owner":"o","first":1,"seq":3,"exported":1,'
    b'"server":"0","caps":{}}\n'
)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ((HEADER + b'{"step":1}\n', None), "broke off"),
        ((HEADER + b'{"step":1}\n',), "1 lines of 3"),
        ((b"nonsense\n",), "no header"),
    ],
)
def test_what_broke_off_is_no_export(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: tuple[bytes | None, ...], told: str
) -> None:
    """`None`: the connection ends there, before the response does."""
    monkeypatch.setenv("AGENTD_TOKEN", "t")
    path = tmp_path / "half"
    with answering(body) as url:
        said = command("export", "s", "--out", str(path), "--url", url)
        assert said.code == FAILED
        assert told in said.err
        assert list(tmp_path.iterdir()) == []
        assert command("export", "s", "--url", url).code == FAILED


def test_without_a_server_that_is_said(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTD_TOKEN", "t")
    said = command("export", "s", "--url", "http://127.0.0.1:1")
    assert said.code == UNREACHABLE
