"""The store on a real file: durability, faults of the disk, settings, query plans."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agentd.clock import SystemClock
from agentd.protocol.errors import StorageUnavailable
from agentd.store import connection, reading, sqlite
from agentd.store.connection import in_thread
from agentd.store.errors import StoreError
from agentd.store.sqlite import SqliteStore
from agentd.supervisor import Supervisor
from tests.store.making import body_of, entry_row, opened, session_row, snapshot_row, step

CHILD = """
import asyncio, sys
from pathlib import Path
from tests.store.making import opened, step

async def producer(store, key):
    seq = 1
    while True:
        await store.append(step(key, seq, 3, run=key, run_seq=seq))
        sys.stdout.write(f"{key} {seq + 2}\\n")
        sys.stdout.flush()
        seq += 3

async def main():
    async with opened(Path(sys.argv[1])) as store:
        await asyncio.gather(*(producer(store, f"s{i}") for i in range(8)))

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agentd.db"


async def raw(store: SqliteStore, work: Callable[[sqlite3.Connection], object]) -> object:
    return await in_thread(store._backend._connection, work)


def _killed_after(acknowledged: int, path: Path) -> list[str]:
    """What a child process told of its appends until it was killed."""
    with subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(acknowledged)]
        child.kill()
        return lines + child.stdout.readlines()


@pytest.mark.parametrize("acknowledged", [1, 40, 200])
async def test_nothing_acknowledged_is_lost_when_the_process_is_killed(path: Path, acknowledged: int) -> None:
    lines = await asyncio.to_thread(_killed_after, acknowledged, path)
    told: dict[str, int] = {}
    for line in lines:
        if line.endswith("\n"):
            key, last = line.split()
            told[key] = int(last)
    async with opened(path) as store:
        assert store.opening.quarantined is None
        for key, seq in told.items():
            page = await store.read(key, 0, limit=1000)
            assert len(page.bodies) >= seq
            assert len(page.bodies) % 3 == 0, "a step is there as a whole or not at all"
            assert page.bodies == tuple(body_of(key, i + 1) for i in range(len(page.bodies)))
            assert len((await store.read_run(key, limit=1000)).bodies) == len(page.bodies)


async def test_everything_is_there_after_a_restart(path: Path) -> None:
    async with opened(path) as store:
        assert store.opening.created
        rows = (session_row("a", unfinished=1), snapshot_row("a", 1), entry_row("e", "a"))
        await store.append(step("a", 1, 3, rows=rows, run="r", term=4))
        log_id = store.opening.log_id
        before = await store.load("a")
    assert [item.name for item in sorted(path.parent.iterdir())] == ["agentd.db", "lock"], "checkpointed into one file"
    async with opened(path) as store:
        assert store.opening == msgspec.structs.replace(store.opening, log_id=log_id, created=False)
        assert await store.load("a") == before
        with pytest.raises(Exception, match="newer owner"):
            await store.append(step("a", 4, term=3))
        await store.append(step("a", 4, term=4, run="r", run_seq=4))


async def test_a_full_disk_fails_the_batch_by_name_and_the_next_append_is_tried_anew(path: Path) -> None:
    async with opened(path) as store:
        await store.append(step("a", 1))
        await raw(store, lambda c: c.execute("PRAGMA max_page_count = 1").fetchone())
        outcome = await asyncio.gather(
            *(store.append(step(key, seq, words="x" * 9000)) for key, seq in (("a", 2), ("b", 1))),
            return_exceptions=True,
        )
        for error in outcome:
            assert isinstance(error, StorageUnavailable)
            assert "the disk is full" in error.message
            assert error.hint is not None
            assert error.may_retry
        assert store.figures.failed_commits == 1
        await raw(store, lambda c: c.execute("PRAGMA max_page_count = 100000").fetchone())
        await asyncio.gather(store.append(step("a", 2)), store.append(step("b", 1)))
        assert len((await store.read("a", 0)).bodies) == 2


async def test_a_database_that_turned_read_only_is_told_and_heals(path: Path) -> None:
    async with opened(path) as store:
        await raw(store, lambda c: c.execute("PRAGMA query_only = 1"))
        with pytest.raises(StorageUnavailable, match="read-only"):
            await store.append(step("a", 1))
        await raw(store, lambda c: c.execute("PRAGMA query_only = 0"))
        await store.append(step("a", 1))


@pytest.mark.parametrize(
    ("code", "reason"),
    [(sqlite3.SQLITE_IOERR_FSYNC, "input/output"), (sqlite3.SQLITE_CORRUPT, "damaged")],
)
async def test_a_failed_sync_or_a_malformed_file_stops_the_log_and_says_so_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int, reason: str
) -> None:
    def failing(*_: object) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = code
        raise error

    fatal: list[str] = []
    async with opened(path, fatal) as store:
        monkeypatch.setattr(store._backend._writer, "_facts", failing)
        for _ in range(2):
            with pytest.raises(StorageUnavailable, match=reason) as caught:
                await store.append(step("a", 1))
            assert not caught.value.may_retry
        with pytest.raises(StorageUnavailable, match="stopped"):
            await store.prune_keys(1)
    assert len(fatal) == 1
    assert reason in fatal[0]


async def test_a_damaged_page_met_by_a_reader_is_told_and_remembered_for_the_next_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    fatal: list[str] = []
    async with opened(path, fatal) as store:
        monkeypatch.setattr(reading, "unfinished", failing)
        with pytest.raises(StorageUnavailable, match="damaged"):
            await store.unfinished()
        assert path.with_name("agentd.db.damaged").exists()
        await store.append(step("a", 1))
    async with opened(path) as store:
        assert store.opening.quarantined is None, "read as a whole and found sound"
    assert not path.with_name("agentd.db.damaged").exists()
    assert fatal == []


async def test_text_that_is_no_unicode_fails_alone(path: Path) -> None:
    async with opened(path) as store:
        outcome = await asyncio.gather(
            store.append(step("a", 1, rows=(entry_row("e1", "a", content="lone \ud800"),))),
            store.append(step("b", 1, rows=(entry_row("e2", "b"),))),
            return_exceptions=True,
        )
        assert outcome[1] is None
        assert "can't be stored" in str(outcome[0])
        await store.append(step("a", 1))


@pytest.mark.parametrize("gone", [1, 3])
async def test_a_gap_in_the_log_is_told_and_never_skipped(path: Path, gone: int) -> None:
    async with opened(path) as store:
        await store.append(step("a", 1, 5))
        await raw(store, lambda c: c.execute("DELETE FROM events WHERE seq = ?", (gone,)))
        with pytest.raises(StorageUnavailable, match=f"missing after {0 if gone == 1 else 1}") as caught:
            await store.load("a")
        assert not caught.value.may_retry
        if gone == 3:
            with pytest.raises(StorageUnavailable, match="missing"):
                await store.read("a", 0)


async def test_only_the_two_newest_snapshots_are_kept(path: Path) -> None:
    async with opened(path) as store:
        for seq in range(1, 6):
            await store.append(step("a", seq, rows=(snapshot_row("a", seq),)))
            await store.append(step("b", seq, rows=(snapshot_row("b", seq),)))
        kept = await raw(store, lambda c: c.execute("SELECT session, seq FROM snapshots ORDER BY 1, 2").fetchall())
        assert kept == [(1, 4), (1, 5), (2, 4), (2, 5)]


async def test_the_writing_connection_is_durable_and_the_readers_can_not_write(path: Path) -> None:
    async with opened(path) as store:
        told = {
            name: await raw(store, lambda c, name=name: c.execute(f"PRAGMA {name}").fetchone()[0])  # type: ignore[misc]
            for name in ("journal_mode", "synchronous", "secure_delete", "wal_autocheckpoint")
        }
        assert told == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1, "wal_autocheckpoint": 0}
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await store._readers.run(lambda c: c.execute("DELETE FROM events"))


async def test_a_writer_whose_settings_do_not_take_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_set", lambda raw, settings: {**settings, "journal_mode": "memory"})
    clock = SystemClock()
    with pytest.raises(StoreError, match="journal_mode") as caught:
        await SqliteStore.open(path, clock=clock, supervisor=Supervisor(clock, print), on_fatal=print)
    assert "local disk" in caught.value.hint


async def test_the_write_ahead_log_is_brought_in_between_commits_and_stays_small(path: Path) -> None:
    async with opened(path) as store:
        for seq in range(1, 400):
            await store.append(step("a", seq, words="x" * 20_000))
        figures = store.figures
        assert figures.checkpoints >= 3
        assert path.with_name("agentd.db-wal").stat().st_size < 3 * sqlite.CHECKPOINT_PAGES * 4096


async def test_a_log_that_a_reader_holds_too_long_is_asked_to_begin_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[str] = []
    real = sqlite._checkpoint

    def spying(connection: sqlite3.Connection, mode: str) -> tuple[int, int]:
        modes.append(mode)
        return real(connection, mode)

    monkeypatch.setattr(sqlite, "_checkpoint", spying)
    monkeypatch.setattr(sqlite, "CHECKPOINT_PAGES", 10)
    monkeypatch.setattr(sqlite, "WAL_PAGES_MAX", 20)
    async with opened(path) as store:
        for seq in range(1, 10):
            await store.append(step("a", seq, words="x" * 200_000))
    assert modes[:2] == ["PASSIVE", "RESTART"]
    assert modes[-1] == "TRUNCATE"


async def test_a_checkpoint_that_fails_harms_no_append_and_loses_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(connection: sqlite3.Connection, mode: str) -> tuple[int, int]:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr(sqlite, "CHECKPOINT_PAGES", 10)
    monkeypatch.setattr(sqlite, "_checkpoint", failing)
    async with opened(path) as store:
        for seq in range(1, 10):
            await store.append(step("a", seq))
        assert store.figures.checkpoints == 0
    monkeypatch.undo()
    async with opened(path) as store:
        assert len((await store.read("a", 0)).bodies) == 9


async def test_a_reader_in_its_place_lets_the_log_grow_and_it_shrinks_afterwards(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "CHECKPOINT_PAGES", 10)
    async with opened(path) as store:
        await store.append(step("a", 1))
        await store._readers.run(lambda c: (c.execute("BEGIN"), c.execute("SELECT * FROM events").fetchall()))
        for seq in range(2, 40):
            await store.append(step("a", seq, words="x" * 5_000))
        grown = store.figures.wal_pages
        assert grown > 50
        await store._readers.run(lambda c: c.execute("ROLLBACK"))
        for seq in range(40, 60):
            await store.append(step("a", seq, words="x" * 5_000))
        assert store.figures.wal_pages < grown


@pytest.mark.parametrize("what", ["commits", "a purge"])
async def test_a_reader_in_its_place_holds_nobody_up_for_long(
    path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A backup reads for minutes; SQLite's own patience with it is 5 s, at each try."""
    monkeypatch.setattr(sqlite, "CHECKPOINT_PAGES", 10)
    monkeypatch.setattr(sqlite, "WAL_PAGES_MAX", 20)
    async with opened(path) as store:
        await store.append(step("a", 1))
        await store._readers.run(lambda c: (c.execute("BEGIN"), c.execute("SELECT * FROM events").fetchall()))
        async with asyncio.timeout(4):
            if what == "commits":
                for seq in range(2, 40):
                    await store.append(step("a", seq, words="x" * 50_000))
                assert store.figures.wal_pages > 20
            else:
                await store.append(step("a", 2))
                assert await store.purge() is False
            await store._readers.run(lambda c: c.execute("ROLLBACK"))
        assert await store.purge() is True


async def test_readers_are_bounded_and_a_wait_for_one_has_an_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "READER_WAIT_S", 0.01)
    release = threading.Event()
    async with opened(path) as store:
        busy = [
            asyncio.ensure_future(store._readers.run(lambda _: release.wait(10))) for _ in range(connection.READERS)
        ]
        await asyncio.sleep(0)
        try:
            with pytest.raises(StorageUnavailable, match="busy"):
                await store.unfinished()
        finally:
            release.set()
        assert await asyncio.gather(*busy) == [True] * connection.READERS
        assert await store.unfinished() == []


async def test_a_read_does_not_wait_for_a_commit(path: Path) -> None:
    release = threading.Event()
    async with opened(path) as store:
        await store.append(step("a", 1))
        held = asyncio.ensure_future(raw(store, lambda c: (c.execute("BEGIN IMMEDIATE"), release.wait(10))))
        waiting = asyncio.ensure_future(store.append(step("a", 2)))
        assert len((await store.read("a", 0)).bodies) == 1
        release.set()
        await held
        await raw(store, lambda c: c.execute("ROLLBACK") if c.in_transaction else None)
        await asyncio.wait([waiting])


async def test_a_read_after_close_is_refused(path: Path) -> None:
    async with opened(path) as store:
        await store.close()
        with pytest.raises(StorageUnavailable, match="closed"):
            await store.unfinished()


@pytest.mark.parametrize(
    ("sql", "values", "index"),
    [
        (reading.READ, ("a", 0, 10), "events_session_seq (session=? AND seq>?)"),
        (reading.READ_RUN, ("r", 0, 10), "events_run_seq (run=? AND run_seq>?)"),
        (reading.READ_STEPS, ("a", 0, 10), "events_session_seq (session=? AND seq>?)"),
        (reading.KEPT_RUN, ("r",), "events_run_seq (run=?)"),
        (reading.UNFINISHED, (), "sessions_unfinished"),
        (reading.SESSIONS_OF, ("o", "", 10), "sessions_owner (owner=? AND key>?)"),
        (reading.RUNS, ("a", 10), "runs_session (session=?)"),
        (reading.RUN, ("r",), "sqlite_autoindex_runs_1 (run=?)"),
        (reading.KEY, ("a", "k"), "sqlite_autoindex_keys_1 (session=? AND key=?)"),
        (reading.SNAPSHOT, ("a",), "sqlite_autoindex_snapshots_1 (session=?)"),
        (reading.SNAPSHOT_FROM, ("a", 1), "sqlite_autoindex_snapshots_1 (session=? AND seq>?)"),
        (reading.PATH, ("e", 10), "sqlite_autoindex_entries_1 (entry=?)"),
        ("SELECT run FROM runs WHERE ended IS NULL AND session = ?", (1,), "runs_ended (ended=? AND session=?)"),
        ("SELECT run FROM runs WHERE ended < ?", (1,), "runs_ended (ended"),
        ("DELETE FROM keys WHERE ts < ?", (1,), "keys_ts (ts<?)"),
    ],
)
async def test_every_question_is_served_by_an_index(
    path: Path, sql: str, values: tuple[object, ...], index: str
) -> None:
    async with opened(path) as store:
        plan = await raw(store, lambda c: c.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall())
    assert isinstance(plan, list)
    steps = [row[3] for row in plan]
    assert any(index in line for line in steps), steps
    assert not any("TEMP B-TREE" in line for line in steps if sql != reading.PATH), steps
    assert not any(line.startswith("SCAN") and "INDEX" not in line and "walk" not in line for line in steps), steps


async def test_the_installed_aiosqlite_still_works_as_in_thread_needs_it(path: Path) -> None:
    """`in_thread` uses two names that aiosqlite does not promise; this says so when they change."""
    async with opened(path) as store:
        connection_ = store._backend._connection
        here = threading.get_ident()
        there = await in_thread(connection_, lambda c: (threading.get_ident(), type(c)))
        again = await in_thread(connection_, lambda c: threading.get_ident())
        assert there == (again, sqlite3.Connection)
        assert again != here
        with pytest.raises(ZeroDivisionError):
            await in_thread(connection_, lambda c: 1 // 0)
        order: list[int] = []
        await asyncio.gather(*(in_thread(connection_, lambda c, i=i: order.append(i)) for i in range(50)))  # type: ignore[misc]
        assert order == list(range(50)), "work is done in the order it was given"


@pytest.mark.parametrize("ends", ["closed", "cancelled while opening", "refused"])
async def test_no_thread_outlives_its_store(path: Path, ends: str) -> None:
    """aiosqlite's threads are no daemons: one that is left keeps the process from ending."""
    before = set(threading.enumerate())
    clock = SystemClock()
    supervisor = Supervisor(clock, lambda reason: None)
    if ends == "closed":
        async with opened(path) as store:
            await store.append(step("a", 1))
    elif ends == "refused":
        await asyncio.to_thread(path.mkdir)
        with pytest.raises(StoreError):
            await SqliteStore.open(path, clock=clock, supervisor=supervisor, on_fatal=lambda reason: None)
    else:
        for turns in range(0, 60, 4):
            opening = asyncio.ensure_future(
                SqliteStore.open(path, clock=clock, supervisor=supervisor, on_fatal=lambda reason: None)
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            opening.cancel()
            outcome = (await asyncio.gather(opening, return_exceptions=True))[0]
            if isinstance(outcome, SqliteStore):
                await outcome.close()
            else:
                assert isinstance(outcome, asyncio.CancelledError), "no lock is left behind"
    await supervisor.stop(5)
    left = [item for item in threading.enumerate() if item not in before and "asyncio" not in item.name]
    for thread in left:  # it tells that it has closed just before it ends
        thread.join(5)
    assert [thread.name for thread in left if thread.is_alive()] == []


async def test_a_process_that_forgets_nothing_ends_by_itself(path: Path) -> None:
    code = CHILD.replace("while True:", "while seq < 10:")
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-W", "error", "-c", code, str(path)], timeout=20, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
