"""From whatever lies in the state directory to a sound database of this version, before anything is served.

    nothing there     make it
    sound             bring it up to date
    a backup          put aside a log that was left beside it, give it a log id of its own (backup.py)
    damaged           build a new one from what can be read, move the old aside, take the new (quarantine.py)
    newer, foreign, unreadable place    refuse, with a remedy

All of it runs once, plainly, on a connection that is closed before the store opens its own.
"""

import sqlite3
from pathlib import Path

import msgspec

from agentd.clock import Clock
from agentd.store import backup, check, quarantine, schema
from agentd.store.check import Damaged
from agentd.store.errors import StoreError, failure_of, is_damage
from agentd.store.store import Opening


def prepare(path: Path, clock: Clock) -> Opening:
    """Make `path` a sound database of this version and say what was found.

    Raises:
        StoreError: it can't be; the message names the remedy.
    """
    check.require_place(path)
    try:
        return _prepare(path, clock)
    except OSError as error:
        raise StoreError(
            f"the state directory can't be used: {error.strerror} ({error.filename})",
            hint="check its permissions and free space",
        ) from error
    except sqlite3.Error as error:
        failure = failure_of(error, writing=True)
        raise StoreError(f"the database can't be opened: {failure.message}", hint=failure.hint) from error


def mark_damaged(path: Path) -> None:
    """A running server met a malformed page: let the next start read the whole file."""
    try:
        quarantine.mark_of(path).touch()
    except OSError:
        return  # the disk takes nothing more; the damage will be met again


def _prepare(path: Path, clock: Clock) -> Opening:
    quarantine.finish_interrupted(path)
    mark = backup.mark_of(path)
    aside = backup.put_foreign_log_aside(path, clock) if mark is not None else None
    if path.exists():
        try:
            _require_sound(path)
        except Damaged as damage:
            quarantine.replace(path, clock, str(damage))
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            quarantine.replace(path, clock, str(error))
    quarantine.mark_of(path).unlink(missing_ok=True)
    if mark is None or backup.mark_of(path) is None:  # a damaged backup was replaced, with an id of its own
        return _open(path, clock)
    backup.take_mark_away(path, clock.new_id("log"))
    notes = () if aside is None else (f"a write-ahead log of another database lay beside the backup; it is in {aside}",)
    return msgspec.structs.replace(_open(path, clock), restored=mark.log, notes=notes)


def _require_sound(path: Path) -> None:
    check.before_opening(path)
    if path.stat().st_size == 0:
        return
    with check.read_only(path) as connection:
        schema.require_known(connection)
        if schema.version_of(connection) == len(schema.migrations()):
            whole = path.stat().st_size <= check.READ_WHOLE_BYTES or quarantine.mark_of(path).exists()
            check.at_start(connection, whole=whole)


def _open(path: Path, clock: Clock) -> Opening:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        for pragma in ("secure_delete = 1", "journal_mode = wal", "synchronous = 2"):
            connection.execute(f"PRAGMA {pragma}").fetchone()
        created = schema.migrate(connection, clock.new_id("log"), clock.now_ms())
        connection.execute("BEGIN IMMEDIATE")  # a file that can't be written is told now, not at the first append
        connection.execute("ROLLBACK")
        meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
        if "salvage" in meta:  # told once, by the first start that opens it
            connection.execute("DELETE FROM meta WHERE key = 'salvage'")
    finally:
        connection.close()
    if "salvage" in meta:
        told = msgspec.json.decode(meta["salvage"], type=quarantine.Salvage)
        return Opening(meta["log_id"], False, told.folder, told.sessions, told.facts, notes=(told.reason, *told.notes))
    return Opening(meta["log_id"], created)
