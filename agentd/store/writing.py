"""A batch of appends as SQL: facts, and the rows that changed with them, in one transaction on the writer's thread.

A batch that holds a row the database itself refuses (a repeated run_seq, text that is no Unicode) is taken apart and
committed append by append, so that the faulty one fails alone. Small integers for sessions and runs are made here;
those that a transaction made enter the bounded caches only after its commit.
"""

import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable

from agentd.protocol.errors import AgentdError, Conflict, Internal
from agentd.store.forgetting import note
from agentd.store.fulltext import replaced
from agentd.store.log import Position
from agentd.store.many import Many
from agentd.store.store import (
    Append,
    ContentRow,
    EntryRow,
    ForgetRow,
    KeyRow,
    PrunedRow,
    Row,
    RunRow,
    SessionRow,
    SnapshotRow,
)
from agentd.store.tree import Places

IDS_MAX = 16_384  # sessions and runs, each, whose small integer is held in memory
SNAPSHOTS_KEPT = 2

_EVENTS = "events (session, seq, step, term, run, run_seq, ts, type, body)"
FACT = f"INSERT INTO {_EVENTS} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_FACTS = Many(_EVENTS, 9)
_SESSIONS = Many(
    "sessions (id, key, agent, owner, created, mode, epoch, leaf, unfinished, wake_at, updated)", 11,
    "ON CONFLICT (id) DO UPDATE SET agent=excluded.agent, owner=excluded.owner, created=excluded.created,"
    " mode=excluded.mode, epoch=excluded.epoch, leaf=excluded.leaf, unfinished=excluded.unfinished,"
    " wake_at=excluded.wake_at, updated=excluded.updated",
)  # fmt: skip
_RUNS = Many(
    "runs (id, run, session, kind, state, accepted, started, ended, cause)", 9,
    "ON CONFLICT (id) DO UPDATE SET session=excluded.session, kind=excluded.kind, state=excluded.state,"
    " accepted=excluded.accepted, started=excluded.started, ended=excluded.ended, cause=excluded.cause",
)  # fmt: skip
_ENTRY = (
    "INSERT INTO entries (entry, session, parent, epoch, role, kind, origin, content, run, ts, seq, related_to, first,"
    " last, bytes, forgotten, segment, depth) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (entry) DO NOTHING"
)
_PLACE = "UPDATE entries SET segment = ?, depth = ? WHERE id = ?"
_KEY = (
    "INSERT INTO keys (session, key, body_hash, run, ts) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (session, key) DO UPDATE SET body_hash=excluded.body_hash, run=excluded.run, ts=excluded.ts"
)
_SNAPSHOT = (
    "INSERT INTO snapshots (session, seq, version, ts, body) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (session, seq) DO UPDATE SET version=excluded.version, ts=excluded.ts, body=excluded.body"
)
_OLD_SNAPSHOTS = (
    "DELETE FROM snapshots WHERE session = ?1 AND seq <"
    f" (SELECT seq FROM snapshots WHERE session = ?1 ORDER BY seq DESC LIMIT 1 OFFSET {SNAPSHOTS_KEPT - 1})"
)
_POSITION = (
    "SELECT coalesce((SELECT max(seq) FROM events WHERE session = s.id), 0),"
    " coalesce((SELECT max(seq) FROM snapshots WHERE session = s.id), 0),"
    " coalesce((SELECT term FROM events WHERE session = s.id ORDER BY seq DESC LIMIT 1), 0)"
    " FROM sessions s WHERE key = ?"
)

# What Python's module raises for data that can't be stored, whatever the state of the disk.
BAD_DATA = (sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError, sqlite3.DataError,
            UnicodeEncodeError, OverflowError, TypeError)  # fmt: skip


class Ids:
    """Text keys to small integers, made on first use; a bounded cache before the table."""

    def __init__(self, table: str, column: str) -> None:
        self._find = f"SELECT id FROM {table} WHERE {column} = ?"
        self._make = f"INSERT INTO {table} ({column}, session) VALUES (?, ?)"
        if table == "sessions":
            self._make = "INSERT INTO sessions (key) VALUES (?)"
        self._known: OrderedDict[str, int] = OrderedDict()
        self._made: dict[str, int] = {}

    def of(self, connection: sqlite3.Connection, name: str, *more: int, first: bool = False) -> int:
        """The integer of `name`; `more`: what a new row needs besides. `first`: no row has that name."""
        known = self._known.get(name) or self._made.get(name)
        if known is not None:
            return known
        row = None if first else connection.execute(self._find, (name,)).fetchone()
        number = int(row[0]) if row else int(connection.execute(self._make, (name, *more)).lastrowid or 0)
        self._made[name] = number
        return number

    def keep(self) -> None:
        """The transaction is committed."""
        self._known.update(self._made)
        self._made.clear()
        while len(self._known) > IDS_MAX:
            self._known.popitem(last=False)

    def drop(self) -> None:
        """The transaction was taken back."""
        self._made.clear()


class BatchWriter:
    """Writes batches; lives on the writing connection's thread."""

    def __init__(self) -> None:
        self._sessions = Ids("sessions", "key")
        self._runs = Ids("runs", "run")
        self._places = Places()
        self.pages = 0  # at most so many went to the write-ahead log since the last checkpoint

    def commit(self, connection: sqlite3.Connection, batch: list[Append]) -> list[AgentdError | None]:
        """One transaction for all; per append None or why it alone was refused.

        Raises:
            sqlite3.Error: nothing is stored.
        """
        try:
            self._transaction(connection, batch)
        except BAD_DATA as error:
            if len(batch) > 1:
                return [self.commit(connection, [append])[0] for append in batch]
            return [_refusal(batch[0], error)]
        return [None] * len(batch)

    def _transaction(self, connection: sqlite3.Connection, batch: list[Append]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            self._facts(connection, batch)
            self._rows(connection, batch)
            connection.execute("COMMIT")
        except BaseException:
            self._sessions.drop()
            self._runs.drop()
            self._places.drop()
            if connection.in_transaction:  # a full disk may have rolled back by itself
                connection.execute("ROLLBACK")
            raise
        self._sessions.keep()
        self._runs.keep()

    def _facts(self, connection: sqlite3.Connection, batch: list[Append]) -> None:
        facts = []
        size = 0
        for append in batch:
            session = self._sessions.of(connection, append.session)
            for record in append.records:
                run = None
                if record.run is not None:
                    run = self._runs.of(connection, record.run, session, first=record.run_seq == 1)
                facts.append(
                    (session, record.seq, record.step, append.term, run, record.run_seq, record.ts, record.type,
                     record.body)
                )  # fmt: skip
                size += len(record.body)
        _FACTS.execute(connection, facts)
        self.pages += 4 + 3 * len(facts) + size // 2048

    def _rows(self, connection: sqlite3.Connection, batch: list[Append]) -> None:
        """The newest of each row: what an earlier step of the batch wrote would be overwritten at once."""
        rows = latest(row for append in batch for row in append.rows)
        self._write_sessions(connection, [row for row in rows if isinstance(row, SessionRow)])
        self._write_runs(connection, [row for row in rows if isinstance(row, RunRow)])
        for row in rows:
            if not isinstance(row, SessionRow | RunRow):
                self.write_row(connection, row)
        self.pages += 4 * len(rows)

    def write_row(self, connection: sqlite3.Connection, row: Row) -> None:
        """One row, inside a transaction."""
        session: Callable[[str], int] = lambda key: self._sessions.of(connection, key)  # noqa: E731
        match row:
            case SessionRow():
                self._write_sessions(connection, [row])
            case RunRow():
                self._write_runs(connection, [row])
            case EntryRow():
                number = session(row.session)
                self._entry(connection, row, number)
            case ContentRow():
                replaced(connection, row.id, row.content, forgotten=False)
                self.pages += 2 + len(row.content) // 1024
            case PrunedRow():
                for name in row.ids:
                    replaced(connection, name, "", forgotten=True)
                self.pages += 2 * len(row.ids)
            case ForgetRow():
                note(connection, row)
            case KeyRow():
                connection.execute(_KEY, (session(row.session), row.key, row.body_hash, row.run, row.ts))
            case SnapshotRow():
                number = session(row.session)
                connection.execute(_SNAPSHOT, (number, row.seq, row.version, row.ts, row.body))
                connection.execute(_OLD_SNAPSHOTS, (number,))
                self.pages += 2 * len(row.body) // 2048

    def _write_sessions(self, connection: sqlite3.Connection, rows: list[SessionRow]) -> None:
        values = [
            (self._sessions.of(connection, row.key), row.key, row.agent, row.owner, row.created, row.mode, row.epoch,
             row.leaf, row.unfinished, row.wake_at, row.updated)
            for row in rows
        ]  # fmt: skip
        _SESSIONS.execute(connection, values)

    def _write_runs(self, connection: sqlite3.Connection, rows: list[RunRow]) -> None:
        values = []
        for row in rows:
            session = self._sessions.of(connection, row.session)
            number = self._runs.of(connection, row.run, session)
            values.append(
                (number, row.run, session, row.kind, row.state, row.accepted, row.started, row.ended, row.cause)
            )
        _RUNS.execute(connection, values)

    def _entry(self, connection: sqlite3.Connection, row: EntryRow, session: int) -> None:
        """An entry never changes its place; one that is there already stays as it is."""
        run = None if row.run is None else self._runs.of(connection, row.run, session)
        message = row.kind == "message"
        at = self._places.continued(connection, session, row.parent) if message else None
        done = connection.execute(
            _ENTRY,
            (row.id, session, row.parent, row.epoch, row.role, row.kind, row.origin, row.content, run, row.ts, row.seq,
             row.related_to, row.first, row.last, row.bytes, int(row.forgotten), *(at or (None, None))),
        )  # fmt: skip
        if message and done.rowcount:
            if at is None:
                at = self._places.begun(connection, int(done.lastrowid or 0), session, row.parent)
                connection.execute(_PLACE, (*at, done.lastrowid))
            self._places.remember(session, row.id, at)
        self.pages += len(row.content) // 1024


def keep_snapshot(connection: sqlite3.Connection, row: SnapshotRow) -> None:
    """A snapshot beside the log, of a session that rests; nothing when the session is not there."""
    found = connection.execute("SELECT id FROM sessions WHERE key = ?", (row.session,)).fetchone()
    if found is not None:
        connection.execute(_SNAPSHOT, (found[0], row.seq, row.version, row.ts, row.body))
        connection.execute(_OLD_SNAPSHOTS, (found[0],))


def positions(connection: sqlite3.Connection, sessions: Iterable[str]) -> dict[str, Position]:
    found = {}
    for session in sessions:
        row = connection.execute(_POSITION, (session,)).fetchone()
        if row is not None:
            found[session] = Position(max(row[0], row[1]), row[2])
    return found


def prune_keys(connection: sqlite3.Connection, before_ms: int, limit: int) -> int:
    """Remove at most `limit` idempotency keys older than `before_ms`; how many."""
    sql = "DELETE FROM keys WHERE id IN (SELECT id FROM keys WHERE ts < ? ORDER BY ts LIMIT ?)"
    return connection.execute(sql, (before_ms, limit)).rowcount


def latest(rows: Iterable[Row]) -> list[Row]:
    """What is left to write of rows in order: a later one takes the place of the same one before; an entry stays."""
    found: dict[tuple[type, str, str | int], Row] = {}
    for row in rows:
        name = _identity(row)
        if name not in found or not isinstance(row, EntryRow):
            found[name] = row
    return list(found.values())


def _identity(row: Row) -> tuple[type, str, str | int]:
    match row:
        case SessionRow():
            return SessionRow, row.key, ""
        case RunRow():
            return RunRow, row.run, ""
        case EntryRow():
            return EntryRow, row.id, ""
        case KeyRow():
            return KeyRow, row.session, row.key
        case ContentRow():
            return ContentRow, row.id, ""
        case PrunedRow():
            return PrunedRow, row.session, " ".join(row.ids)
        case SnapshotRow() | ForgetRow():
            return type(row), row.session, row.seq
        case _:
            raise TypeError(f"not a row of the store: {type(row).__name__}")


def _refusal(append: Append, error: Exception) -> AgentdError:
    if isinstance(error, sqlite3.IntegrityError):
        return Conflict(
            f"a fact or row of session {append.session!r} is there already",
            details={"reason": "row", "why": str(error)},
        )
    return Internal(f"a fact or row of session {append.session!r} can't be stored: {type(error).__name__}")
