"""A damaged database: all that can be read goes into a new one, the damaged files are moved aside untouched.

The order makes it safe to be killed anywhere: the new file is built beside the old (`.salvaging`), named
`.salvaged` when it is complete and synced, the old files move to `quarantine/<time>/`, and the new one takes their
place; `finish_interrupted` goes on from wherever that stopped. The old file is only ever opened read-only.

What is kept (docs/decisions/013): of each session the facts from its first on up to the first that can't be read;
of the views what does not claim more than those facts. Where a view may say less or more than the facts, the session
is marked `unfinished`, so that recovery loads it and writes its rows anew.
"""

import os
import sqlite3
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from agentd.clock import Clock
from agentd.store import carve, check, salvage, schema
from agentd.store.salvage import Kept

FOLDER = "quarantine"
SIDE_FILES = ("", "-wal", "-shm")


class Salvage(msgspec.Struct, frozen=True):
    """What the new database remembers of its making until it was told."""

    folder: str
    reason: str
    sessions: int
    facts: int
    notes: tuple[str, ...]


def mark_of(path: Path) -> Path:
    """The file that says: a running server met damage."""
    return path.with_name(path.name + ".damaged")


def replace(path: Path, clock: Clock, reason: str) -> None:
    """Put a new database with all that can be read of `path` in its place, and the damaged files into quarantine."""
    folder = _folder(path, clock.now_ms())
    building, built = _names(path)
    _remove(building)
    connection = sqlite3.connect(building, isolation_level=None)
    try:
        connection.execute("PRAGMA secure_delete = 1")
        connection.execute("PRAGMA synchronous = 2")
        schema.migrate(connection, clock.new_id("log"), clock.now_ms())
        kept = _read(path, connection)
        told = Salvage(str(folder), f"the database was damaged: {reason}", kept.sessions, kept.facts, tuple(kept.notes))
        connection.execute("INSERT INTO meta (key, value) VALUES ('salvage', ?)", (msgspec.json.encode(told).decode(),))
    finally:
        connection.close()
    _sync(building)
    building.rename(built)
    _sync(path.parent)
    finish_interrupted(path)


def finish_interrupted(path: Path) -> None:
    """Go on with a replacement that was under way when the process ended; without one, do nothing."""
    _, built = _names(path)
    if not built.exists():
        return
    folder = _told(built)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for suffix in reversed(SIDE_FILES):  # the file itself last: without its log it would look sound
        old = path.with_name(path.name + suffix)
        if old.exists():
            old.rename(folder / old.name)
    _sync(folder)
    _sync(folder.parent)
    built.rename(path)
    _sync(path.parent)


def put_aside(path: Path, files: list[Path], now_ms: int) -> Path:
    """Move `files`, found beside the database `path` and not its own, to a folder of their own; the folder."""
    folder = _folder(path, now_ms)
    folder.mkdir(parents=True, mode=0o700)
    for file in files:
        file.rename(folder / file.name)
    _sync(folder)
    _sync(path.parent)
    return folder


def _read(path: Path, into: sqlite3.Connection) -> Kept:
    """Read through SQLite, and when that leaves something out, straight from the pages; the one that yields more."""
    kept = _read_tables(path, into)
    if not kept.whole:
        into.execute("ROLLBACK")
        carved = _read_pages(path, into)
        if carved.rows > kept.rows or not kept.rows:
            kept = carved
        else:
            into.execute("ROLLBACK")
            kept = _read_tables(path, into)
    into.execute("COMMIT")
    return kept


def _read_tables(path: Path, into: sqlite3.Connection) -> Kept:
    into.execute("BEGIN IMMEDIATE")
    try:
        with check.read_only(path) as damaged:
            damaged.execute("SELECT name FROM sqlite_master").fetchall()
            return salvage.copy(damaged, into)
    except sqlite3.DatabaseError:  # no header, no schema: no table can be reached
        return Kept()


def _read_pages(path: Path, into: sqlite3.Connection) -> Kept:
    into.execute("BEGIN IMMEDIATE")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=path.name + ".carving-") as folder:
        carved = sqlite3.connect(Path(folder) / "carved.db", isolation_level=None)
        try:
            carved.execute("PRAGMA journal_mode = off")
            carve.carve(path, carved)
            return salvage.copy(carved, into)
        finally:
            carved.close()


def _told(built: Path) -> Path:
    connection = sqlite3.connect(built, isolation_level=None)
    try:
        (value,) = connection.execute("SELECT value FROM meta WHERE key = 'salvage'").fetchone()
    finally:
        connection.close()
    return Path(msgspec.json.decode(value, type=Salvage).folder)


def _folder(path: Path, now_ms: int) -> Path:
    name = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = path.parent / FOLDER / name
    again = 1
    while folder.exists():
        again += 1
        folder = path.parent / FOLDER / f"{name}-{again}"
    return folder


def _names(path: Path) -> tuple[Path, Path]:
    return path.with_name(path.name + ".salvaging"), path.with_name(path.name + ".salvaged")


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
