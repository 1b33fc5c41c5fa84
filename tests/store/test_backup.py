"""A copy of a working database: one moment of it, whole, under a log id of its own; nothing is left of a failed one."""

import asyncio
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from agentd.clock import SystemClock
from agentd.protocol.errors import Conflict, StorageUnavailable
from agentd.store import backup
from agentd.store.backup import Backups, Made, mark_of
from agentd.store.check import full_check
from agentd.store.sqlite import SqliteStore
from tests.store.making import entry_row, opened, session_row, step

FACTS = 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agentd.db"


async def fill(store: SqliteStore, key: str, first: int = 1, count: int = FACTS, words: str = "w" * 400) -> None:
    for seq in range(first, first + count):
        entry = entry_row(f"{key}-{seq}", key, seq=seq)
        await store.append(step(key, seq, words=words, rows=(session_row(key), entry)))


async def bodies(store: SqliteStore, key: str) -> list[bytes]:
    found: list[bytes] = []
    while page := (await store.read(key, len(found))).bodies:
        found.extend(page)
    return found


def restored(made: Made, folder: Path) -> Path:
    """A state directory that holds nothing but the copy."""
    folder.mkdir()
    shutil.copy(made.path, folder / "agentd.db")
    return folder / "agentd.db"


async def test_a_copy_opens_with_the_same_facts_and_rows_under_another_log_id(path: Path, tmp_path: Path) -> None:
    async with opened(path) as store:
        await fill(store, "a")
        await fill(store, "b", count=3)
        made = await Backups(path, SystemClock()).make()
        before = [await bodies(store, key) for key in ("a", "b")]
        log = store.opening.log_id
    assert (made.facts, made.log) == (FACTS + 3, log)
    assert Path(made.path).parent == path.parent / "backups"
    assert os.stat(made.path).st_mode & 0o777 == 0o600
    copy = restored(made, tmp_path / "again")
    assert [found.health for found in full_check(copy)] == ["ok"]
    async with opened(copy) as store:
        assert store.opening.restored == log != store.opening.log_id
        assert [await bodies(store, key) for key in ("a", "b")] == before
        assert len(await store.entries([f"a-{seq}" for seq in range(1, FACTS + 1)])) == FACTS
        second = store.opening.log_id
        await store.append(step("a", FACTS + 1))
    async with opened(copy) as store:  # only its first opening makes an id
        assert (store.opening.log_id, store.opening.restored) == (second, None)


async def test_what_is_committed_meanwhile_is_in_the_log_and_not_in_the_copy(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "STEP_PAGES", 1)
    async with opened(path) as store:
        await fill(store, "a")
        making = asyncio.ensure_future(Backups(path, SystemClock()).make())
        during = 0
        while not making.done():
            await store.append(step("a", FACTS + during + 1, words="x" * 4_000))
            during += 1
        made = await making
        assert during > 3
        assert len(await bodies(store, "a")) == FACTS + during
    async with opened(restored(made, tmp_path / "again")) as store:
        kept = await bodies(store, "a")
        assert FACTS <= len(kept) == made.facts < FACTS + during


async def test_one_copy_is_made_at_a_time(path: Path) -> None:
    async with opened(path) as store:
        await fill(store, "a", count=1)
        backups = Backups(path, SystemClock())
        first, second = await asyncio.gather(backups.make(), backups.make(), return_exceptions=True)
        assert isinstance(first, Made)
        assert isinstance(second, Conflict)
        assert (second.details, second.may_retry) == ({"reason": "busy"}, True)
        assert (await backups.make()).path != first.path


async def test_a_copy_that_is_cancelled_ends_before_its_caller_does_and_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "STEP_PAGES", 1)
    monkeypatch.setattr(backup, "PAUSE_S", 30.0)
    async with opened(path) as store:
        await fill(store, "a")
        making = asyncio.ensure_future(Backups(path, SystemClock()).make())
        while not list(path.parent.glob("backups/*.partial")):  # noqa: ASYNC110
            await asyncio.sleep(0)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
        assert list(path.parent.glob("backups/*")) == []


async def test_a_copy_that_takes_too_long_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "STEP_PAGES", 1)
    monkeypatch.setattr(backup, "BACKUP_S", -1.0)
    async with opened(path) as store:
        await fill(store, "a")
        with pytest.raises(StorageUnavailable, match="took longer"):
            await Backups(path, SystemClock()).make()
    assert list(path.parent.glob("backups/*")) == []


async def test_without_room_for_the_copy_and_the_log_none_is_begun(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(path) as store:
        await fill(store, "a", count=1)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": backup.ROOM_BYTES}))
        with pytest.raises(StorageUnavailable, match="a backup needs") as told:
            await Backups(path, SystemClock()).make()
    assert "Free space" in (told.value.hint or "")
    assert list(path.parent.glob("backups/*")) == []


async def test_the_folder_is_bounded_and_what_a_killed_server_left_in_it_goes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "BACKUPS_MAX", 2)
    async with opened(path) as store:
        await fill(store, "a", count=1)
        (path.parent / "backups").mkdir()
        left = path.parent / "backups" / "agentd-x.partial"
        left.touch()
        backups = Backups(path, SystemClock())
        await backups.make()
        await backups.make()
        assert not left.exists()
        with pytest.raises(Conflict, match="2 backups") as told:
            await backups.make()
    assert told.value.details == {"reason": "full", "limit": 2}


async def test_a_write_ahead_log_left_beside_a_restored_copy_is_put_aside_and_not_taken_in(
    path: Path, tmp_path: Path
) -> None:
    """Who copies a backup over the file of a killed server leaves that one's log there: SQLite would apply it."""
    async with opened(path) as store:
        await fill(store, "a")
        made = await Backups(path, SystemClock()).make()
        expected = await bodies(store, "a")
        await fill(store, "a", FACTS + 1, words="later")
        copy = tmp_path / "again" / "agentd.db"
        copy.parent.mkdir()
        for suffix in ("-wal", "-shm"):
            shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    wal = Path(f"{copy}-wal").read_bytes()  # noqa: ASYNC240
    assert len(wal) > 100_000
    shutil.copy(made.path, copy)
    async with opened(copy) as store:
        assert await bodies(store, "a") == expected
        (note,) = store.opening.notes
        assert store.opening.quarantined is None
    assert "lay beside the backup" in note
    aside = next((copy.parent / "quarantine").iterdir())
    assert (aside / "agentd.db-wal").read_bytes() == wal
    assert [found.health for found in full_check(copy)] == ["ok"]


async def test_a_log_of_its_own_is_kept_when_the_first_start_is_killed(path: Path, tmp_path: Path) -> None:
    """The mark is gone from the file itself before a write-ahead log can exist."""
    async with opened(path) as store:
        await fill(store, "a")
        made = await Backups(path, SystemClock()).make()
    copy = restored(made, tmp_path / "again")
    killed = tmp_path / "killed"
    async with opened(copy) as store:
        await store.append(step("a", FACTS + 1))
        assert Path(f"{copy}-wal").stat().st_size > 0  # noqa: ASYNC240
        assert mark_of(copy) is None
        shutil.copytree(copy.parent, killed)
        log = store.opening.log_id
    async with opened(killed / "agentd.db") as store:
        assert len(await bodies(store, "a")) == FACTS + 1
        assert (store.opening.log_id, store.opening.notes) == (log, ())


async def test_a_damaged_copy_is_quarantined_like_any_other_and_gets_an_id_of_its_own(
    path: Path, tmp_path: Path
) -> None:
    async with opened(path) as store:
        await fill(store, "a")
        made = await Backups(path, SystemClock()).make()
    copy = restored(made, tmp_path / "again")
    with copy.open("r+b") as file:
        file.seek(copy.stat().st_size // 2)
        file.write(os.urandom(9_000))
    async with opened(copy) as store:
        assert store.opening.quarantined is not None
        assert store.opening.log_id != made.log
        kept = await bodies(store, "a")
    async with opened(copy) as store:
        assert await bodies(store, "a") == kept


async def test_a_fault_of_the_disk_is_told_and_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup, "_sync", full)
    async with opened(path) as store:
        await fill(store, "a", count=1)
        with pytest.raises(StorageUnavailable, match="No space left on device"):
            await Backups(path, SystemClock()).make()
        assert list(path.parent.glob("backups/*")) == []
        await store.append(step("a", 2))


def test_the_mark_of_something_else_is_none(tmp_path: Path) -> None:
    for name, content in (("empty", b""), ("text", b"no database at all"), ("short", b"SQLite format 3\0")):
        (tmp_path / name).write_bytes(content)
        assert mark_of(tmp_path / name) is None
    assert mark_of(tmp_path / "absent") is None
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE meta (key TEXT, value TEXT)")
    other.execute("INSERT INTO meta VALUES ('backup', 'no JSON')")
    other.commit()
    other.close()
    assert mark_of(tmp_path / "other") is None
