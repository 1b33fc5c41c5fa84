"""A copy of the database while the server works: one consistent moment of the log, in one file, marked as a copy.

The copying connection is one more reader of this process (nobody else opens the file): it holds a read transaction for
the whole copy, so every step sees the same moment and a commit never makes the copy begin anew. Commits go on beside
it; the write-ahead log can't begin anew until the copy ends, which its deadline bounds.

What always holds: a file under its final name is complete and on the disk; what is not complete is called `.partial`
and goes. A copy owns no write-ahead log, and it says in `meta` that it is a copy: its first opening puts a log that was
left beside it aside, and gives it another `log` id, because cursors of the original mean nothing in it (rulings 8).
"""

import asyncio
import os
import shutil
import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import msgspec
import structlog

from agentd.clock import Clock
from agentd.protocol.errors import Conflict, StorageUnavailable
from agentd.store import check
from agentd.store.connection import BUSY_MS
from agentd.store.errors import failure_of
from agentd.store.quarantine import put_aside

FOLDER = "backups"
MARK = "backup"
BACKUPS_MAX = 100  # files in the folder; the server removes none of them by itself
STEP_PAGES = 256  # 1 MiB between two looks at deadline and cancellation
SYNC_STEPS = 8  # the disk takes the copy in such parts: one large sync at the end would hold up commits
PAUSE_S = 0.002  # between two steps, for the commits beside it
BACKUP_S = 600.0
ROOM_BYTES = 64 << 20  # stays free beside the copy, for the log

log = structlog.get_logger(__name__)


class Mark(msgspec.Struct, frozen=True):
    """What a copy says of itself until its first opening."""

    log: str
    made: int  # Unix ms


class Made(msgspec.Struct, frozen=True):
    """A finished backup. `facts` counts all sessions; `path` is on the server's machine."""

    path: str
    bytes: int
    facts: int
    log: str
    duration_ms: int


class Backups:
    """Makes copies of the database file `path`, one at a time."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._busy = False

    async def make(self) -> Made:
        """Copy the database as it is now into `backups/`.

        Raises:
            Conflict: a backup is being made, or the folder is full.
            StorageUnavailable: no room, a fault of the disk, or longer than `BACKUP_S`; nothing is left behind.
        """
        if self._busy:
            raise Conflict("a backup is being made", details={"reason": "busy"}, hint="Wait for it.", retryable=True)
        self._busy = True
        stop = threading.Event()
        try:
            work = asyncio.get_running_loop().run_in_executor(None, self._make, stop)
            try:
                made = await asyncio.shield(work)
            except asyncio.CancelledError:
                stop.set()
                await asyncio.gather(work, return_exceptions=True)  # nobody but the canceller hears how it ended
                raise
        finally:
            self._busy = False
        log.info("backup.made", file=Path(made.path).name, bytes=made.bytes, facts=made.facts, ms=made.duration_ms)
        return made

    def _make(self, stop: threading.Event) -> Made:
        try:
            return self._copied(stop)
        except sqlite3.Error as error:
            raise failure_of(error, writing=False).unavailable() from error
        except OSError as error:
            raise StorageUnavailable(
                f"the backup can't be written: {error.strerror}", hint="Look at the disk of the state directory."
            ) from error

    def _copied(self, stop: threading.Event) -> Made:
        began = self._clock.monotonic_s()
        folder = self._path.parent / FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        _require_place(folder, self._path)
        final = _free_name(folder, self._clock.now_ms())
        partial = final.with_suffix(".partial")
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            self._copy(partial, stop, began + BACKUP_S)
            log_id, facts = _marked(partial, self._clock.now_ms())
            _sync(partial)
            partial.rename(final)
        finally:
            partial.unlink(missing_ok=True)
        _sync(folder)
        ms = round((self._clock.monotonic_s() - began) * 1000)
        return Made(str(final), final.stat().st_size, facts, log_id, ms)

    def _copy(self, partial: Path, stop: threading.Event, deadline_s: float) -> None:
        """Page by page, in a read transaction; looks up between steps."""
        steps = 0

        def step_ended(status: int, remaining: int, total: int) -> None:
            nonlocal steps
            steps += 1
            if stop.wait(PAUSE_S):
                raise StorageUnavailable("the backup was interrupted", hint="Try again.")
            if self._clock.monotonic_s() > deadline_s:
                raise StorageUnavailable(f"the backup took longer than {BACKUP_S:.0f} s", hint="Look at the disk.")
            if steps % SYNC_STEPS == 0:
                _sync(partial)

        source = sqlite3.connect(f"file:{quote(str(self._path))}?mode=ro", uri=True, isolation_level=None)
        target = sqlite3.connect(partial, isolation_level=None)
        try:
            source.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM meta").fetchone()  # from here on it sees this moment
            target.execute("PRAGMA journal_mode = off")
            target.execute("PRAGMA synchronous = 0")  # the file counts only after its own sync and rename
            source.backup(target, pages=STEP_PAGES, progress=step_ended)
        finally:
            target.close()
            source.close()


def mark_of(path: Path) -> Mark | None:
    """What the file says of itself without its write-ahead log; None when it is no fresh copy, or can't be read."""
    if not path.exists():
        return None
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True, isolation_level=None)
    try:
        row = connection.execute("SELECT value FROM meta WHERE key = ?", (MARK,)).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=Mark)
    except (sqlite3.Error, msgspec.MsgspecError):  # damage is told by the checks that follow
        return None
    finally:
        connection.close()


def put_foreign_log_aside(path: Path, clock: Clock) -> str | None:
    """A write-ahead log beside a fresh copy belongs to the database that was there before: SQLite would write its
    pages into the copy. The folder where it is now; None when there was none."""
    beside = [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]
    if not any(file.exists() for file in beside[:1]):
        return None
    return str(put_aside(path, [file for file in beside if file.exists()], clock.now_ms()))


def take_mark_away(path: Path, log_id: str) -> None:
    """Give the copy its own `log` id. In rollback mode: were it in the write-ahead log only, a crash now would leave a
    file that says it is a copy beside a log that is its own."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = 2")
        (mode,) = connection.execute("PRAGMA journal_mode = delete").fetchone()
        assert mode == "delete", mode
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE meta SET value = ? WHERE key = 'log_id'", (log_id,))
        connection.execute("DELETE FROM meta WHERE key = ?", (MARK,))
        connection.execute("COMMIT")
    finally:
        connection.close()


def newest(state: Path) -> tuple[str, float] | None:
    """Name and time (Unix seconds) of the newest backup in the state directory."""
    found = [(file.name, file.stat().st_mtime) for file in (state / FOLDER).glob("*.db")]
    return max(found, key=lambda pair: pair[1], default=None)


def _require_place(folder: Path, database: Path) -> None:
    for left in folder.glob("*.partial"):  # of a server that was killed while it copied: one at a time is made
        left.unlink()
    if sum(1 for _ in folder.glob("*.db")) >= BACKUPS_MAX:
        raise Conflict(
            f"there are {BACKUPS_MAX} backups in {folder} already", details={"reason": "full", "limit": BACKUPS_MAX},
            hint="Move the older ones to another disk.",
        )  # fmt: skip
    needed = ROOM_BYTES + sum(
        file.stat().st_size for suffix in ("", "-wal") if (file := database.with_name(database.name + suffix)).exists()
    )
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageUnavailable(
            f"a backup needs {needed >> 20} MiB and {free >> 20} are free", hint="Free space, or move old backups away."
        )


def _marked(partial: Path, now_ms: int) -> tuple[str, int]:
    """Make it one file that says what it is, and look at it; its log id and the number of its facts."""
    connection = sqlite3.connect(partial, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = delete").fetchone()
        try:
            check.at_start(connection, whole=False)
        except check.Damaged as damage:
            raise StorageUnavailable(f"the copy is not sound: {damage}", hint="Run `agentd doctor`.") from damage
        (log_id,) = connection.execute("SELECT value FROM meta WHERE key = 'log_id'").fetchone()
        (facts,) = connection.execute("SELECT count(*) FROM events").fetchone()
        mark = msgspec.json.encode(Mark(log_id, now_ms)).decode()
        connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (MARK, mark))
    finally:
        connection.close()
    return str(log_id), int(facts)


def _free_name(folder: Path, now_ms: int) -> Path:
    name = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3] + "Z"
    path = folder / f"agentd-{name}.db"
    again = 1
    while path.exists():
        again += 1
        path = folder / f"agentd-{name}-{again}.db"
    return path


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
