"""Forgetting on the disk: words out of entries, index, facts and snapshots, then out of free pages and the log (30).

What is deleted from the full-text index stays in its older segments until they are merged, and what is overwritten in
the database stays in the write-ahead log until that is truncated; freed pages are overwritten because `secure_delete`
is on from the first database. So `purge` merges the index to one segment and truncates the log, which needs that no
reader holds an older moment of it; it says whether that was so. What is to be forgotten is noted in the transaction of
its fact and crossed out when all of that is done, so that a crash in between is made good.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import msgspec

from agentd.store.connection import short_patience
from agentd.store.fulltext import replaced
from agentd.store.store import ForgetRow, Prunable

SLICE = 200
FACTS_PER_SLICE = 2_000
NOTE = "forget:"  # how the keys of notes in `meta` begin

Rewrite = Callable[[bytes], bytes | None]

AGED = (
    "SELECT s.key, e.entry, e.ts, e.id FROM entries e CROSS JOIN sessions s ON s.id = e.session"
    " WHERE e.forgotten = 0 AND e.ts < ? AND (e.ts, e.id) > (?, ?) ORDER BY e.ts, e.id LIMIT ?"
)
_CROWDED = (
    "SELECT e.session, s.key FROM entries e JOIN sessions s ON s.id = e.session"
    " WHERE e.forgotten = 0 AND e.session >= ? GROUP BY e.session HAVING count(*) > ? ORDER BY e.session LIMIT ?"
)
_BEYOND = (
    "SELECT entry, id FROM entries WHERE session = ? AND forgotten = 0 AND id <"
    " (SELECT id FROM entries WHERE session = ? AND forgotten = 0 ORDER BY id DESC LIMIT 1 OFFSET ?)"
    " AND id > ? ORDER BY id LIMIT ?"
)
_OF_RUN = "SELECT id, body FROM events WHERE run = (SELECT id FROM runs WHERE run = ?) AND id > ? ORDER BY id LIMIT ?"


def blank_entries(connection: sqlite3.Connection, entries: list[str]) -> int:
    """One transaction; how many entries those were."""
    with _transaction(connection):
        for entry in entries:
            replaced(connection, entry, "", forgotten=True)
    return len(entries)


def blank_run(connection: sqlite3.Connection, run: str, after: int, rewrite: Rewrite) -> tuple[int, int]:
    """A slice of a run's facts with id > `after`; (how many changed, the last id, 0 at the end)."""
    rows = connection.execute(_OF_RUN, (run, after, FACTS_PER_SLICE)).fetchall()
    changed = _rewritten(connection, rows, rewrite)
    return changed, rows[-1][0] if len(rows) == FACTS_PER_SLICE else 0


def blank_memory(connection: sqlite3.Connection, session: str, after: int, rewrite: Rewrite) -> tuple[int, int]:
    """A slice of a session's facts with seq > `after`: those about its memory; (how many changed, last seq or 0)."""
    rows = connection.execute(
        "SELECT id, seq, type, CASE WHEN type LIKE 'memory.%' THEN body END FROM events"
        " WHERE session = (SELECT id FROM sessions WHERE key = ?) AND seq > ? ORDER BY seq LIMIT ?",
        (session, after, FACTS_PER_SLICE),
    ).fetchall()
    changed = _rewritten(connection, [(row[0], row[3]) for row in rows if row[3] is not None], rewrite)
    return changed, rows[-1][1] if len(rows) == FACTS_PER_SLICE else 0


def _rewritten(connection: sqlite3.Connection, rows: Iterable[tuple[int, bytes]], rewrite: Rewrite) -> int:
    fresh = [(body, number) for number, old in rows if (body := rewrite(old)) is not None]
    if fresh:
        with _transaction(connection):
            connection.executemany("UPDATE events SET body = ? WHERE id = ?", fresh)
    return len(fresh)


def drop_snapshots(connection: sqlite3.Connection, session: str) -> None:
    connection.execute("DELETE FROM snapshots WHERE session = (SELECT id FROM sessions WHERE key = ?)", (session,))


def purge(connection: sqlite3.Connection) -> bool:
    """True when neither the index nor the write-ahead log holds a copy any more."""
    connection.execute("INSERT INTO recall (recall) VALUES ('optimize')")
    with short_patience(connection):
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        return False
    done = [(_name(row),) for row in left(connection) if row.blanked]
    if done:
        with _transaction(connection):
            connection.executemany("DELETE FROM meta WHERE key = ?", done)
    return True


def note(connection: sqlite3.Connection, row: ForgetRow) -> None:
    """Inside a transaction."""
    connection.execute(
        "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (_name(row), msgspec.json.encode(row).decode())
    )


def left(connection: sqlite3.Connection) -> list[ForgetRow]:
    """What was noted and not crossed out."""
    rows = connection.execute("SELECT value FROM meta WHERE key >= ? AND key < ?", (NOTE, NOTE[:-1] + ";"))
    return [msgspec.json.decode(value, type=ForgetRow) for (value,) in rows.fetchall()]


def note_blanked(connection: sqlite3.Connection, entries: list[str], sessions: list[str]) -> None:
    """What these sessions were to forget of these entries is in no row and no fact any more."""
    gone = frozenset(entries)
    with _transaction(connection):
        for row in left(connection):
            if row.session in sessions and gone.issuperset(row.ids):
                note(connection, msgspec.structs.replace(row, blanked=True))


def _name(row: ForgetRow) -> str:
    return f"{NOTE}{row.session}:{row.seq}"


def aged(connection: sqlite3.Connection, before_ms: int, limit: int, after: tuple[int, int] | None) -> Prunable:
    """A slice of the entries that are older than that; `after` is time and row of the last one that was told."""
    found: dict[str, list[str]] = {}
    rows = connection.execute(AGED, (before_ms, *(after or (-1 << 63, 0)), limit)).fetchall()
    for key, entry, _, _ in rows:
        found.setdefault(key, []).append(entry)
    return Prunable(found, rows[-1][2:] if len(rows) == limit else None)


def beyond(connection: sqlite3.Connection, keep: int, limit: int, after: tuple[int, int] | None) -> Prunable:
    """A slice of the entries that are not among the newest `keep` of their session; `after` is session and row."""
    found: dict[str, list[str]] = {}
    at, row = after or (0, 0)
    sessions = connection.execute(_CROWDED, (at, keep, limit)).fetchall()
    for session, key in sessions:
        rows = connection.execute(
            _BEYOND, (session, session, keep - 1, row if session == at else 0, limit - sum(map(len, found.values())))
        ).fetchall()
        if rows:
            found[key] = [entry for entry, _ in rows]
        if sum(map(len, found.values())) == limit:
            return Prunable(found, (session, rows[-1][1]))
    return Prunable(found, (sessions[-1][0] + 1, 0) if len(sessions) == limit else None)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
