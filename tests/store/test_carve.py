"""Rows read from pages alone, compared with what SQLite reads through its trees."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from agentd.clock import SystemClock
from agentd.store import schema
from agentd.store.carve import carve
from agentd.store.opening import prepare
from agentd.store.store import Append, Record
from tests.store.making import body_of, entry_row, key_row, opened, run_row, session_row, snapshot_row, step

TABLES = ("events", "sessions", "runs", "entries", "keys", "snapshots")


def tables_of(connection: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    return {name: connection.execute(f"SELECT * FROM {name} ORDER BY id").fetchall() for name in TABLES}


def carved(path: Path) -> dict[str, list[tuple[object, ...]]]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        carve(path, connection)
        return tables_of(connection)
    finally:
        connection.close()


@pytest.fixture
async def copy(tmp_path: Path) -> Path:
    """What a kill would leave of rows of all kinds and sizes: some in the file, some in its log only."""
    path, copy = tmp_path / "agentd.db", tmp_path / "copy" / "agentd.db"
    copy.parent.mkdir()
    async with opened(path) as store:
        for seq in range(1, 61):
            rows = (
                session_row("a", unfinished=seq % 3, leaf=f"e{seq}"),
                run_row(f"r{seq}", "a", accepted=-seq, ended=1 << 45),
                entry_row(f"e{seq}", "a", None if seq == 1 else f"e{seq - 1}", seq=seq, content="ä🙂\0" * seq * 40),
                key_row("a", f"k{seq}", f"r{seq}", ts=seq * 10**9),
                snapshot_row("a", seq),
            )
            record = Record(seq, seq, seq << 33, "run.completed", body_of("a", seq, "w" * seq * 300), f"r{seq}", 1)
            await store.append(Append("a", 1, (record,), rows))
            if seq == 30:
                await store._backend.truncate()
        shutil.copy(path, copy)
        shutil.copy(path.with_name("agentd.db-wal"), copy.with_name("agentd.db-wal"))
    return copy


def test_every_row_of_every_table_comes_out_as_sqlite_reads_it(copy: Path) -> None:
    found = carved(copy)
    connection = sqlite3.connect(copy)
    assert found == tables_of(connection)
    connection.close()
    assert len(found["events"]) == 60
    assert len(found["snapshots"]) == 2, "what was deleted does not come back"


@pytest.mark.parametrize("spoiled", [100, 4096])
def test_without_header_and_schema_all_is_saved_with_what_lay_in_the_log(copy: Path, spoiled: int) -> None:
    with copy.open("r+b") as file:
        file.write(b"\xa5" * spoiled)
    wal = copy.with_name("agentd.db-wal")
    assert wal.stat().st_size > 100_000
    found = prepare(copy, SystemClock())
    assert (found.recovered_sessions, found.recovered_facts) == (1, 60)


@pytest.mark.parametrize("seed", range(12))
def test_random_bytes_in_a_page_never_break_the_carving(copy: Path, seed: int) -> None:
    data = bytearray(copy.read_bytes())
    page = seed * 7919 % (len(data) // 4096)
    for i in range(0, 4096, 3):
        data[page * 4096 + i] = (seed * 31 + i * 17) % 256
    copy.write_bytes(data)
    found = carved(copy)
    assert len(found["events"]) >= 60 - 8, "the other pages give their rows"
    assert all(isinstance(row[9], bytes) for row in found["events"])


def test_tables_are_told_apart_by_their_columns_alone() -> None:
    """A later migration that makes two tables alike must teach the carver another way."""
    connection = sqlite3.connect(":memory:")
    for sql in schema.migrations():
        connection.executescript(sql)
    shapes = {}
    for table in TABLES:
        columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
        assert columns[0][1:3] == ("id", "INTEGER")
        shapes[table] = (len(columns), tuple(kind for _, _, kind, required, _, _ in columns if required))
    connection.close()
    assert len(set(shapes.values())) == len(TABLES)


async def test_a_store_goes_on_after_its_database_was_carved(copy: Path) -> None:
    with copy.open("r+b") as file:
        file.write(b"\xa5" * 4096)
    async with opened(copy) as store:
        loaded = await store.load("a")
        assert loaded is not None
        assert (loaded.last, loaded.snapshot, loaded.row.leaf) == (60, snapshot_row("a", 60), "e60")
        assert [entry.id for entry in await store.path("e60")] == [f"e{i}" for i in range(60, 0, -1)]
        await store.append(step("a", 61))
