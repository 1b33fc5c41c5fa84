"""The questions a store answers, each a plain function on a read-only connection, bounded in rows and bytes.

What belongs together is read in one transaction, so that it is of one moment. Bodies come back as they were stored.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from agentd.protocol.errors import StorageUnavailable
from agentd.store.store import (
    EntryRow,
    KeptRun,
    Key,
    Loaded,
    Page,
    RunRow,
    SessionInfo,
    SessionRow,
    SnapshotRow,
    StepPage,
)
from agentd.store.tree import path_parts

PAGE_ROWS_MAX = 1_000
LIST_MAX = 1_000
PATH_MAX = 4_096
IDS_PER_QUERY = 500  # below SQLite's limit on bound values

_SESSION_COLUMNS = "s.key, s.agent, s.owner, s.created, s.mode, s.epoch, s.leaf, s.unfinished, s.wake_at, s.updated"
_FIRST = "(SELECT min(seq) FROM events WHERE session = s.id)"
_LAST = "(SELECT max(seq) FROM events WHERE session = s.id)"
_KEPT = "(SELECT max(seq) FROM snapshots WHERE session = s.id)"
_RUN_COLUMNS = "r.run, s.key, r.kind, r.state, r.accepted, r.started, r.ended, r.cause"
ENTRY_COLUMNS = (
    "e.entry, s.key, e.parent, e.epoch, e.role, e.kind, e.origin, e.content,"
    " (SELECT run FROM runs WHERE id = e.run), e.ts, e.seq, e.related_to, e.first, e.last, e.bytes, e.forgotten"
)

READ = (
    "SELECT seq, body FROM events WHERE session = (SELECT id FROM sessions WHERE key = ?) AND seq > ?"
    " ORDER BY seq LIMIT ?"
)
READ_RUN = (
    "SELECT run_seq, body FROM events WHERE run = (SELECT id FROM runs WHERE run = ?) AND run_seq > ?"
    " ORDER BY run_seq LIMIT ?"
)
READ_STEPS = (
    "SELECT seq, step, body FROM events WHERE session = (SELECT id FROM sessions WHERE key = ?) AND seq > ?"
    " ORDER BY seq LIMIT ?"
)
SESSION = f"SELECT {_SESSION_COLUMNS}, {_FIRST}, {_LAST}, {_KEPT} FROM sessions s WHERE key = ?"
SESSIONS = f"SELECT {_SESSION_COLUMNS}, {_FIRST}, {_LAST}, {_KEPT} FROM sessions s WHERE key > ? ORDER BY key LIMIT ?"
SESSIONS_OF = (
    f"SELECT {_SESSION_COLUMNS}, {_FIRST}, {_LAST}, {_KEPT} FROM sessions s WHERE owner = ? AND key > ?"
    " ORDER BY key LIMIT ?"
)
UNFINISHED = "SELECT key FROM sessions WHERE unfinished > 0 ORDER BY key"
SNAPSHOT_FROM = (
    "SELECT seq, version, ts, body FROM snapshots WHERE session = (SELECT id FROM sessions WHERE key = ?) AND seq >= ?"
    " ORDER BY seq LIMIT 1"
)
SNAPSHOT = (
    "SELECT seq, version, ts, body FROM snapshots WHERE session = (SELECT id FROM sessions WHERE key = ?)"
    " ORDER BY seq DESC LIMIT 1"
)
RUN = f"SELECT {_RUN_COLUMNS} FROM runs r JOIN sessions s ON s.id = r.session WHERE r.run = ? AND r.state IS NOT NULL"
_OF_RUN = "SELECT seq FROM events WHERE run = r.id ORDER BY run_seq"
KEPT_RUN = (
    f"SELECT {_RUN_COLUMNS}, ({_OF_RUN} LIMIT 1), ({_OF_RUN} DESC LIMIT 1)"
    " FROM runs r JOIN sessions s ON s.id = r.session WHERE r.run = ? AND r.state IS NOT NULL"
)
RUNS = (
    f"SELECT {_RUN_COLUMNS} FROM runs r JOIN sessions s ON s.id = r.session"
    " WHERE r.session = (SELECT id FROM sessions WHERE key = ?) AND r.state IS NOT NULL"
    " ORDER BY r.accepted DESC, r.id DESC LIMIT ?"
)
KEY = "SELECT run, body_hash FROM keys WHERE session = (SELECT id FROM sessions WHERE key = ?) AND key = ?"
PATH = (
    "WITH RECURSIVE walk (id, parent, steps) AS ("
    " SELECT id, parent, 1 FROM entries WHERE entry = ?"
    " UNION ALL SELECT e.id, e.parent, steps + 1 FROM walk JOIN entries e ON e.entry = walk.parent WHERE steps < ?)"
    f" SELECT {ENTRY_COLUMNS} FROM walk CROSS JOIN entries e ON e.id = walk.id"
    " CROSS JOIN sessions s ON s.id = e.session ORDER BY steps"
)

SUMMARIES = (
    f"SELECT v.body, {ENTRY_COLUMNS} FROM entries r CROSS JOIN entries e ON e.related_to = r.entry"
    " CROSS JOIN sessions s ON s.id = e.session CROSS JOIN events v ON v.session = e.session AND v.seq = e.seq"
    " WHERE r.segment = ? AND r.depth <= ? AND e.kind = 'summary' AND e.forgotten = 0"
    " ORDER BY r.depth DESC, e.id DESC LIMIT ?"
)


def page(connection: sqlite3.Connection, sql: str, key: str, after: int, limit: int, limit_bytes: int | None) -> Page:
    """A page of READ or READ_RUN; empty with `first` = after + 1 at the end."""
    numbers: list[int] = []
    bodies: list[bytes] = []
    size = 0
    for number, body in connection.execute(sql, (key, after, limit)):
        size += len(body)
        if limit_bytes is not None and bodies and size > limit_bytes:
            break
        numbers.append(number)
        bodies.append(body)
    if not numbers:
        return Page(after + 1, ())
    _check_gaps(key, numbers)
    return Page(numbers[0], tuple(bodies))


def page_of_steps(connection: sqlite3.Connection, key: str, after: int, limit: int, limit_bytes: int) -> StepPage:
    """A page of READ_STEPS; empty with `first` = after + 1 at the end."""
    rows: list[tuple[int, int, bytes]] = []
    size = 0
    for row in connection.execute(READ_STEPS, (key, after, limit)):
        size += len(row[2])
        if rows and size > limit_bytes:
            break
        rows.append(row)
    if not rows:
        return StepPage(after + 1, (), ())
    numbers, steps, bodies = zip(*rows, strict=True)
    _check_gaps(key, numbers)
    return StepPage(numbers[0], steps, bodies)


def kept_run(connection: sqlite3.Connection, name: str) -> KeptRun | None:
    row = connection.execute(KEPT_RUN, (name,)).fetchone()
    return None if row is None else KeptRun(RunRow(*row[:-2]), row[-2], row[-1])


def snapshot_from(connection: sqlite3.Connection, key: str, seq: int) -> SnapshotRow | None:
    row = connection.execute(SNAPSHOT_FROM, (key, seq)).fetchone()
    return None if row is None else SnapshotRow(key, *row)


def load(connection: sqlite3.Connection, key: str) -> Loaded | None:
    with one_moment(connection):
        found = connection.execute(SESSION, (key,)).fetchone()
        if found is None:
            return None
        info = _info(found)
        row = connection.execute(SNAPSHOT, (key,)).fetchone()
        snapshot = None if row is None else SnapshotRow(key, *row)
        known = snapshot.seq if snapshot else 0
        since = page(connection, READ, key, known, -1, None)
    if since.first != known + 1:
        raise StorageUnavailable(
            f"facts of {key!r} are missing after {known}", hint="run `agentd doctor`", retryable=False
        )
    return Loaded(info.row, info.first, info.last, snapshot, since.bodies)


def sessions(connection: sqlite3.Connection, owner: str | None, limit: int, cursor: str | None) -> list[SessionInfo]:
    limit = min(limit, LIST_MAX)
    if owner is None:
        found = connection.execute(SESSIONS, (cursor or "", limit))
    else:
        found = connection.execute(SESSIONS_OF, (owner, cursor or "", limit))
    return [_info(row) for row in found.fetchall()]


def unfinished(connection: sqlite3.Connection) -> list[str]:
    return [key for (key,) in connection.execute(UNFINISHED).fetchall()]


def run(connection: sqlite3.Connection, name: str) -> RunRow | None:
    row = connection.execute(RUN, (name,)).fetchone()
    return None if row is None else RunRow(*row)


def runs(connection: sqlite3.Connection, session: str, limit: int) -> list[RunRow]:
    return [RunRow(*row) for row in connection.execute(RUNS, (session, min(limit, LIST_MAX))).fetchall()]


def key(connection: sqlite3.Connection, session: str, name: str) -> Key | None:
    row = connection.execute(KEY, (session, name)).fetchone()
    return None if row is None else Key(*row)


def entries(connection: sqlite3.Connection, ids: list[str]) -> dict[str, EntryRow]:
    found: dict[str, EntryRow] = {}
    with one_moment(connection):
        for start in range(0, len(ids), IDS_PER_QUERY):
            some = ids[start : start + IDS_PER_QUERY]
            sql = (
                f"SELECT {ENTRY_COLUMNS} FROM entries e JOIN sessions s ON s.id = e.session"
                f" WHERE e.entry IN ({','.join('?' * len(some))})"
            )
            found.update((row[0], entry_of(row)) for row in connection.execute(sql, some))
    return found


def path(connection: sqlite3.Connection, leaf: str, limit: int, limit_bytes: int) -> list[EntryRow]:
    rows: Iterable[Any] = connection.execute(PATH, (leaf, min(limit, PATH_MAX)))
    found: list[EntryRow] = []
    size = 0
    for row in rows:
        entry = entry_of(row)
        size += len(entry.content.encode("utf-8", "surrogatepass"))
        if found and size > limit_bytes:
            break
        found.append(entry)
    return found


def summaries(connection: sqlite3.Connection, leaf: str, limit: int) -> list[tuple[EntryRow, bytes]]:
    """Summaries of the path that ends in `leaf`, those of its newest entries first, each with the fact that made it."""
    found: list[tuple[EntryRow, bytes]] = []
    with one_moment(connection):
        for part in path_parts(connection, leaf):
            for body, *row in connection.execute(SUMMARIES, (part.segment, part.depth, limit - len(found))):
                found.append((entry_of(tuple(row)), body))
            if len(found) >= limit:
                break
    return found


def entry_of(row: tuple[Any, ...]) -> EntryRow:
    """A row of `ENTRY_COLUMNS`."""
    *columns, forgotten = row
    return EntryRow(*columns, bool(forgotten))  # type: ignore[call-arg]


@contextmanager
def one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    """All reads inside see the same commit."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def _check_gaps(key: str, numbers: Sequence[int]) -> None:
    if numbers[-1] - numbers[0] != len(numbers) - 1:
        raise StorageUnavailable(
            f"facts of {key!r} are missing after {numbers[0]}", hint="run `agentd doctor`", retryable=False
        )


def _info(row: tuple[Any, ...]) -> SessionInfo:
    *columns, first, last, snapshot = row
    if columns[1] is None:  # facts without a row so far
        columns = [columns[0], "", "", 0, "running", 0, None, columns[7], None, 0]
    last = max(last or 0, snapshot or 0)
    return SessionInfo(SessionRow(*columns), last + 1 if first is None else first, last)
