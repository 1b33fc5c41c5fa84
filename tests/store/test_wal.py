"""What a write-ahead log tells before SQLite reads it, compared with what SQLite then makes of it."""

import sqlite3
from pathlib import Path

import pytest

from agentd.store.wal import FRAME_HEADER, HEADER, WalReport, examine

FRAME = FRAME_HEADER + 4096


@pytest.fixture
def wal(tmp_path: Path) -> bytes:
    """A log of ten commits, each of one page or two."""
    path = tmp_path / "made.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE t (a)")
    for i in range(9):
        connection.execute("INSERT INTO t VALUES (?)", (f"row {i}",))
    data = path.with_name("made.db-wal").read_bytes()
    connection.close()
    return data


def look(tmp_path: Path, data: bytes) -> WalReport:
    path = tmp_path / "looked-at-wal"
    path.write_bytes(data)
    return examine(path)


def test_a_sound_log_is_read_to_its_end(tmp_path: Path, wal: bytes) -> None:
    report = look(tmp_path, wal)
    assert not report.lost
    assert set(report.pages) == {1, 2}
    assert report.pages[2] == len(wal) - 4096


def test_no_log_and_a_stump_hold_nothing(tmp_path: Path, wal: bytes) -> None:
    assert examine(tmp_path / "none") == WalReport()
    assert look(tmp_path, b"") == look(tmp_path, wal[:40]) == WalReport()


@pytest.mark.parametrize("frame", range(7))
def test_a_bad_frame_before_acknowledged_commits_is_a_loss(tmp_path: Path, wal: bytes, frame: int) -> None:
    data = bytearray(wal)
    data[HEADER + frame * FRAME + 2000] ^= 0xFF
    assert look(tmp_path, bytes(data)).lost


def test_a_bad_last_frame_and_an_early_end_read_as_a_crash(tmp_path: Path, wal: bytes) -> None:
    data = bytearray(wal)
    data[-10] ^= 0xFF
    assert not look(tmp_path, bytes(data)).lost
    for cut in (1, 4096, 5000, 20_000):
        assert not look(tmp_path, wal[:-cut]).lost


def test_frames_of_an_older_log_behind_the_end_are_no_loss(tmp_path: Path, wal: bytes) -> None:
    data = bytearray(wal)
    for frame in range(5, (len(wal) - HEADER) // FRAME):
        data[HEADER + frame * FRAME + 8] ^= 0xFF
    assert not look(tmp_path, bytes(data)).lost


def test_a_log_too_long_to_be_read_whole_says_so(tmp_path: Path, wal: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(tmp_path, wal).whole
    monkeypatch.setattr("agentd.store.wal.SCAN_BYTES_MAX", len(wal) - 1)
    report = look(tmp_path, wal)
    assert (report.whole, report.lost, set(report.pages)) == (False, False, {1, 2})


@pytest.mark.parametrize("at", [0, 9, 17, 25])
def test_a_spoiled_header_before_commits_is_a_loss(tmp_path: Path, wal: bytes, at: int) -> None:
    data = bytearray(wal)
    data[at] ^= 0xFF
    assert look(tmp_path, bytes(data)).lost
