"""Opening a state directory: what is refused and why, and what becomes of a database that was damaged."""

import contextlib
import os
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentd.clock import SystemClock
from agentd.store import check, opening, quarantine, schema
from agentd.store.errors import StoreError
from agentd.store.opening import prepare
from agentd.store.sqlite import SqliteStore
from agentd.store.store import Append, EntryRow, Record
from tests.store.making import (
    body_of,
    entry_row,
    key_row,
    opened,
    run_row,
    session_row,
    snapshot_row,
    step,
)

PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agentd.db"


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to write everywhere."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def edit(path: Path, change: Callable[[sqlite3.Connection], object]) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        change(connection)
    finally:
        connection.close()


def page_of(path: Path, sql: str) -> list[int]:
    """Leaf pages of a table or index, in order, found by the text that only they hold."""
    needle = sql.encode()
    data = path.read_bytes()
    return [at // PAGE for at in range(0, len(data), PAGE) if needle in data[at : at + PAGE]]


def spoiled(data: bytes, page: int) -> bytes:
    return data[: page * PAGE] + data[(page + 1) * PAGE :]


def spoil(path: Path, page: int, *, start: int = 0, length: int = PAGE) -> None:
    with path.open("r+b") as file:
        file.seek(page * PAGE + start)
        file.write(b"\xa5" * length)


def prefixes(data: bytes) -> dict[str, int]:
    """Per session the last fact of the unbroken prefix that can be found in `data`."""
    found = {mark.decode() for mark in re.findall(rb"<(s\d+\.\d+)>", data)}
    kept = {}
    for key in sorted({mark.split(".")[0] for mark in found}):
        last = 0
        while f"{key}.{last + 1}" in found:
            last += 1
        if last:
            kept[key] = last
    return kept


def body(key: str, seq: int) -> bytes:
    """The frame that `filled` stores, with a mark by which its page is found."""
    return body_of(key, seq, f"<{key}.{seq}>" + "x" * 300, f"{key}-r{seq}")


async def filled(path: Path, sessions: int = 6, steps: int = 40) -> None:
    """A database of several sessions whose facts lie on many pages, arriving in turns."""
    async with opened(path) as store:
        for seq in range(1, steps + 1):
            for number in range(sessions):
                key = f"s{number}"
                rows = (
                    session_row(key, leaf=f"{key}-e{seq}"),
                    entry_row(f"{key}-e{seq}", key, f"{key}-e{seq - 1}" if seq > 1 else None, seq=seq),
                    run_row(f"{key}-r{seq}", key, accepted=seq, ended=seq),
                    key_row(key, f"k{seq}", f"{key}-r{seq}"),
                )
                record = Record(
                    seq,
                    seq,
                    seq,
                    "run.completed",
                    body(key, seq),
                    f"{key}-r{seq}",
                    1,
                )
                await store.append(Append(key, 1, (record,), rows))


# ---- refused ----------------------------------------------------------------------------------------------------


async def test_a_second_store_on_a_state_directory_is_refused(path: Path) -> None:
    async with opened(path) as store:
        with pytest.raises(StoreError, match=f"in use by another agentd .process {os.getpid()}") as caught:
            async with opened(path):
                pass
        assert "stop that server" in caught.value.hint
        await store.append(step("a", 1))
    async with opened(path):
        pass


async def test_a_missing_state_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist") as caught:
        async with opened(tmp_path / "nowhere" / "agentd.db"):
            pass
    assert "mkdir -p" in caught.value.hint


async def test_a_path_that_is_a_directory_is_told(path: Path) -> None:
    path.mkdir()  # noqa: ASYNC240
    with pytest.raises(StoreError, match="is a directory"):
        async with opened(path):
            pass


async def test_a_read_only_state_directory_is_told() -> None:
    with tempfile.TemporaryDirectory() as name:
        state = Path(name)
        state.chmod(0o555)  # noqa: ASYNC240
        with as_nobody(), pytest.raises(StoreError, match="can't be written") as caught:
            async with opened(state / "agentd.db"):
                pass
        state.chmod(0o755)  # noqa: ASYNC240
    assert "writable" in caught.value.hint


async def test_a_read_only_database_file_is_told_and_not_taken_for_damaged() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "agentd.db"
        async with opened(path) as store:
            await store.append(step("a", 1))
        for item, mode in ((path, 0o444), (path.parent / "lock", 0o666), (path.parent, 0o777)):
            item.chmod(mode)
        with as_nobody(), pytest.raises(StoreError, match="can't be written"):
            async with opened(path):
                pass
        assert not (path.parent / quarantine.FOLDER).exists()
        async with opened(path) as store:
            assert len((await store.read("a", 0)).bodies) == 1


async def test_a_newer_database_is_refused_and_left_as_it_is(path: Path) -> None:
    async with opened(path) as store:
        await store.append(step("a", 1))
    edit(path, lambda c: c.execute("PRAGMA user_version = 99"))
    before = path.read_bytes()  # noqa: ASYNC240
    with pytest.raises(StoreError, match="version 99, this agentd knows up to") as caught:
        async with opened(path):
            pass
    assert "newer agentd" in caught.value.hint
    assert path.read_bytes() == before  # noqa: ASYNC240


async def test_a_database_of_another_program_is_refused_and_left_as_it_is(path: Path) -> None:
    edit(path, lambda c: c.executescript("CREATE TABLE cookies (a); PRAGMA user_version = 1;"))
    before = path.read_bytes()  # noqa: ASYNC240
    with pytest.raises(StoreError, match="another program"):
        async with opened(path):
            pass
    assert path.read_bytes() == before  # noqa: ASYNC240


def test_a_migration_that_is_cut_off_leaves_the_version_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = schema.migrations()
    monkeypatch.setattr(schema, "migrations", lambda: [*good, "CREATE TABLE more (id INTEGER); SELECT broken;"])
    with pytest.raises(StoreError, match="can't be opened"):
        prepare(path, SystemClock())
    monkeypatch.setattr(schema, "migrations", lambda: [*good, "CREATE TABLE more (id INTEGER);"])
    assert not prepare(path, SystemClock()).created, "the first version was there already"
    edit(path, lambda c: c.execute("INSERT INTO more VALUES (1)"))


def test_an_older_database_is_brought_up_to_date_with_its_log_id(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = prepare(path, SystemClock())
    good = schema.migrations()
    monkeypatch.setattr(schema, "migrations", lambda: [*good, "CREATE TABLE more (id INTEGER);"])
    after = prepare(path, SystemClock())
    assert (after.log_id, after.created) == (before.log_id, False)


# ---- damaged ----------------------------------------------------------------------------------------------------


async def check_salvaged(store: SqliteStore, sessions: int = 6) -> dict[str, int]:
    """What always holds after a salvage; the last seq that was kept of each session."""
    kept = {}
    for number in range(sessions):
        key = f"s{number}"
        loaded = await store.load(key)
        if loaded is None:
            continue
        last = kept[key] = loaded.last
        assert loaded.first == 1
        page = await store.read(key, 0)
        assert page.bodies == tuple(body(key, i) for i in range(1, last + 1))
        rows = await store.runs(key, limit=1000)
        assert {row.run for row in rows} <= {f"{key}-r{i}" for i in range(1, last + 1)}
        assert await store.key(key, f"k{last + 1}") is None
        assert await store.entries([f"{key}-e{last + 1}"]) == {}
        if loaded.row.leaf is not None:
            assert loaded.row.leaf in await store.entries([loaded.row.leaf])
        await store.append(step(key, last + 1))
    return kept


async def test_a_spoiled_page_costs_its_sessions_what_came_after_and_the_others_nothing(path: Path) -> None:
    await filled(path)
    page = page_of(path, "<s3.20>")[0]
    spoil(path, page)
    rest = path.read_bytes()  # noqa: ASYNC240
    async with opened(path) as store:
        found = store.opening
        assert found.quarantined is not None
        assert found.recovered_sessions == 6
        kept = await check_salvaged(store)
        assert kept == prefixes(rest), "all that could be read was kept"
        cut = {key for key, last in kept.items() if last < 40}
        assert len(cut) > 0
        assert found.recovered_facts == sum(kept.values())
        assert set(await store.unfinished()) == cut, "recovery looks at the sessions that lost facts"
        for key in cut:
            assert any(f"session {key}: facts from seq {kept[key] + 1} on" in note for note in found.notes)
    async with opened(path) as store:
        assert store.opening.quarantined is None, "told once"


async def test_whatever_page_is_spoiled_all_that_could_be_read_is_kept(path: Path) -> None:
    """Roots, inner pages, leaves, indexes, the header: one after the other, with one file each."""
    await filled(path, steps=30)
    data = path.read_bytes()  # noqa: ASYNC240
    for page in [*range(20), *range(20, len(data) // PAGE, 7)]:
        place = path.with_name(f"page-{page}") / "agentd.db"
        place.parent.mkdir()
        place.write_bytes(data)
        spoil(place, page)
        found = prepare(place, SystemClock())
        assert found.quarantined is not None, f"page {page} was taken for sound"
        assert found.recovered_facts == sum(prefixes(spoiled(data, page)).values()), f"page {page}"


async def test_a_salvage_makes_a_new_log_id_and_keeps_the_damaged_files_untouched(path: Path) -> None:
    await filled(path, steps=10)
    async with opened(path) as store:
        old = store.opening.log_id
    spoil(path, page_of(path, "<s1.5>")[0])
    damaged = path.read_bytes()  # noqa: ASYNC240
    async with opened(path) as store:
        assert store.opening.log_id != old
        assert store.opening.quarantined is not None
        assert (Path(store.opening.quarantined) / "agentd.db").read_bytes() == damaged


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
async def test_a_file_cut_short_keeps_what_its_rest_holds(path: Path, share: float) -> None:
    await filled(path)
    data = path.read_bytes()  # noqa: ASYNC240
    rest = data[: int(len(data) * share) // PAGE * PAGE]
    os.truncate(path, len(rest) + 100)
    async with opened(path) as store:
        assert store.opening.quarantined is not None
        assert "cut short" in store.opening.notes[0]
        kept = await check_salvaged(store)
        assert kept == prefixes(rest)
        assert store.opening.recovered_facts == sum(kept.values()) > 0


async def test_a_file_that_is_no_database_is_moved_aside_and_the_server_starts(path: Path) -> None:
    path.write_bytes(b"not a database at all\n" * 1000)  # noqa: ASYNC240
    async with opened(path) as store:
        assert store.opening.quarantined is not None
        assert store.opening.recovered_facts == 0
        await store.append(step("a", 1))


@pytest.mark.parametrize("table", ["sessions", "runs", "entries", "keys", "snapshots"])
async def test_a_missing_view_is_noticed_and_the_facts_are_kept(path: Path, table: str) -> None:
    await filled(path, steps=8)
    edit(path, lambda c: c.execute(f"DROP TABLE {table}"))
    async with opened(path) as store:
        assert f"missing in the schema: {table}" in store.opening.notes[0] or table in store.opening.notes[0]
        kept = await check_salvaged(store)
        assert kept == {f"s{i}": 8 for i in range(6)}, "names of sessions and runs come from the frames if need be"
        if table != "snapshots":
            assert set(await store.unfinished()) == set(kept)
        assert len((await store.read_run("s2-r3")).bodies) == 1


async def test_a_lost_events_table_is_noticed(path: Path) -> None:
    await filled(path, steps=3)
    edit(path, lambda c: c.execute("DROP TABLE events"))
    async with opened(path) as store:
        assert store.opening.quarantined is not None
        assert store.opening.recovered_facts == 0


async def test_a_bad_page_in_the_write_ahead_log_costs_what_was_committed_after_it(path: Path) -> None:
    copy = path.with_name("copy.db")
    async with opened(path) as store:
        for seq in range(1, 31):
            await store.append(step("a", seq, rows=(session_row("a"),)))
        for suffix in ("", "-wal"):  # what a kill at this moment would leave
            copy.with_name(copy.name + suffix).write_bytes(path.with_name(path.name + suffix).read_bytes())
    wal = copy.with_name("copy.db-wal")
    data = bytearray(wal.read_bytes())
    at = 32 + (PAGE + 24) * (len(data) // (PAGE + 24) // 2) + 1000
    data[at : at + 8] = b"\xa5" * 8
    wal.write_bytes(data)
    async with opened(copy) as store:
        assert store.opening.quarantined is not None
        assert "write-ahead log is damaged" in store.opening.notes[0]
        assert (Path(store.opening.quarantined) / "copy.db-wal").read_bytes() == bytes(data)
        page = await store.read("a", 0)
        assert 1 < len(page.bodies) < 30
        assert page.bodies == tuple(body_of("a", seq + 1) for seq in range(len(page.bodies)))


async def test_a_write_ahead_log_that_ends_early_reads_as_a_crash(path: Path) -> None:
    copy = path.with_name("copy.db")
    async with opened(path) as store:
        for seq in range(1, 31):
            await store.append(step("a", seq, rows=(session_row("a"),)))
        for suffix in ("", "-wal"):
            copy.with_name(copy.name + suffix).write_bytes(path.with_name(path.name + suffix).read_bytes())
    wal = copy.with_name("copy.db-wal")
    os.truncate(wal, wal.stat().st_size * 2 // 3)
    async with opened(copy) as store:
        assert store.opening.quarantined is None
        loaded = await store.load("a")
        assert loaded is not None
        assert 1 < loaded.last < 30
        assert loaded.bodies == tuple(body_of("a", seq + 1) for seq in range(loaded.last))
        await store.append(step("a", loaded.last + 1))


async def test_a_run_whose_end_was_lost_has_not_ended(path: Path) -> None:
    async with opened(path) as store:
        for seq, type_ in ((1, "run.accepted"), (2, "run.started"), (3, "run.completed")):
            record = Record(seq, seq, seq, type_, body_of("a", seq), "r", seq)
            rows = (session_row("a", unfinished=int(seq < 3)), run_row("r", "a", ended=9 if seq == 3 else None))
            await store.append(Append("a", 1, (record,), rows))
    edit(path, lambda c: c.execute("UPDATE events SET body = 'x' WHERE seq = 3"))
    async with opened(path) as store:
        assert store.opening.recovered_facts == 2
        row = await store.run("r")
        assert row is not None
        assert (row.state, row.started, row.ended, row.cause) == ("running", 1, None, None)
        assert await store.unfinished() == ["a"]


async def test_a_session_that_begins_after_a_snapshot_is_kept_from_there(path: Path) -> None:
    async with opened(path) as store:
        await store.append(step("a", 1, 6, rows=(session_row("a"), snapshot_row("a", 5))))
        await store.append(step("b", 1, 6, rows=(session_row("b"),)))
    edit(path, lambda c: c.execute("DELETE FROM events WHERE seq < 4"))
    edit(path, lambda c: c.execute("DROP TABLE keys"))
    async with opened(path) as store:
        loaded = await store.load("a")
        assert loaded is not None
        assert (loaded.first, loaded.last, loaded.bodies) == (4, 6, (body_of("a", 6),))
        assert await store.load("b") is None, "without its first facts a state can't be rebuilt"


async def test_text_in_a_damaged_row_harms_no_other_row(path: Path) -> None:
    await filled(path, sessions=2, steps=5)
    edit(path, lambda c: c.execute("PRAGMA writable_schema = 1"))
    edit(path, lambda c: c.execute("UPDATE entries SET ts = x'ff', content = 5 WHERE entry = 's0-e2'"))
    edit(path, lambda c: c.execute("DROP INDEX keys_ts"))
    async with opened(path) as store:
        assert "keys_ts" in store.opening.notes[0]
        assert await check_salvaged(store, 2) == {"s0": 5, "s1": 5}
        assert all(isinstance(row, EntryRow) for row in (await store.entries(["s0-e2", "s0-e3"])).values())


@pytest.mark.parametrize("killed_at", ["built", "first move", "all moved"])
def test_a_salvage_that_is_killed_goes_on_at_the_next_start(
    path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    clock = SystemClock()
    prepare(path, clock)
    edit(path, lambda c: c.execute("INSERT INTO sessions (id, key) VALUES (1, 'a')"))
    edit(path, lambda c: c.execute("INSERT INTO events VALUES (1, 1, 1, 1, 1, NULL, NULL, 1, 'x', x'7b7d')"))
    edit(path, lambda c: c.execute("DROP TABLE keys"))
    path.with_name("agentd.db-shm").write_bytes(b"")
    real = Path.rename
    moves = {"built": 1, "first move": 2, "all moved": 3}[killed_at]

    def rename(self: Path, target: Path) -> Path:
        nonlocal moves
        if moves == 0:
            raise KeyboardInterrupt
        moves -= 1
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        prepare(path, clock)
    monkeypatch.undo()
    found = prepare(path, clock)
    assert found.quarantined is not None
    assert (found.created, found.recovered_sessions, found.recovered_facts) == (False, 1, 1)
    assert (Path(found.quarantined) / "agentd.db").exists()
    assert sorted(item.name for item in path.parent.iterdir()) == ["agentd.db", "quarantine"]


def test_two_salvages_in_one_second_have_folders_of_their_own(path: Path) -> None:
    folders = set()
    for _ in range(2):
        path.write_bytes(b"x" * 5000)
        folders.add(prepare(path, SystemClock()).quarantined)
    assert len(folders) == 2


def test_a_mark_makes_the_next_start_read_the_whole_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(path, SystemClock())
    read: list[bool] = []
    monkeypatch.setattr(check, "READ_WHOLE_BYTES", 0)
    monkeypatch.setattr(check, "at_start", lambda connection, whole: read.append(whole))
    prepare(path, SystemClock())
    opening.mark_damaged(path)
    prepare(path, SystemClock())
    prepare(path, SystemClock())
    assert read == [False, True, False]


def test_an_unreadable_disk_is_told_and_is_no_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(path, SystemClock())

    def failing(connection: sqlite3.Connection, *, whole: bool) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
        raise error

    monkeypatch.setattr(check, "at_start", failing)
    with pytest.raises(StoreError, match="input/output"):
        prepare(path, SystemClock())
    assert not (path.parent / quarantine.FOLDER).exists()
