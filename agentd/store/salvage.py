"""Copy what can be read of a damaged database into a new one, so that nothing in it claims more than its facts.

A table is read in the order of its integer key; where a page can't be read, the next keys are tried one by one until
rows come again. The facts decide: a session is kept from its first fact on (seq 1, or what a snapshot covers) up to
the first that is missing or no longer says of itself what its row says. Then the views, each checked against the
facts that were kept; sessions whose views may be wrong are marked, and recovery writes their rows anew.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

from agentd.store import forgetting, tree
from agentd.store.check import envelope
from agentd.store.rebuild import rebuild
from agentd.store.writing import FACT

PROBES_MAX = 5_000  # keys tried in a row without an answer before a table is given up (and its pages carved)
STRIDE = 8  # after the first tenth of them only each eighth: a leaf page holds more rows than that
NOTES_MAX = 100
RUN_ENDS = frozenset({"run.completed", "run.failed", "run.cancelled"})

_COLUMNS = {
    "events": "session, seq, step, term, run, run_seq, ts, type, body",
    "sessions": "key, agent, owner, created, mode, epoch, leaf, unfinished, wake_at, updated",
    "runs": "run, session, kind, state, accepted, started, ended, cause",
    "entries": "entry, session, parent, epoch, role, kind, origin, content, run, ts, seq",  # and those of LATER
    "keys": "session, key, body_hash, run, ts",
    "snapshots": "session, seq, version, ts, body",
}


LATER = ("related_to", "first", "last", "bytes", "forgotten")  # columns that came with version 2


class Kept(msgspec.Struct):
    """What a salvage kept, and one sentence for each thing it could not. `whole`: every table was read to its end."""

    sessions: int = 0
    facts: int = 0
    rows: int = 0  # facts and rows of views
    notes: list[str] = []
    whole: bool = False


class _Session(msgspec.Struct):
    """One session of the new database while it is filled; `number` is its key there."""

    key: str
    number: int
    last: int = 0
    lost: int | None = None  # the first seq that could not be read
    suspect: bool = False  # its rows may not agree with its facts


def copy(damaged: sqlite3.Connection, into: sqlite3.Connection) -> Kept:
    """Copy into a new database of this version; the caller has begun the transaction and ends it."""
    copying = _Copying(damaged, into)
    copying.facts()
    copying.session_rows()
    copying.run_rows()
    copying.entries()
    copying.keys()
    copying.snapshots()
    return copying.finish()


class _Copying:
    def __init__(self, damaged: sqlite3.Connection, into: sqlite3.Connection) -> None:
        self._damaged = damaged
        self._into = into
        self._tables = {name: _Table(damaged, name) for name in _COLUMNS}
        self._expected = _newest_indexed(damaged)
        self._sessions: dict[int, _Session] = {}  # by the damaged file's number
        self._session_rows = {row[0]: row[1:] for row in self._tables["sessions"] if isinstance(row[1], str)}
        self._run_rows = {row[0]: row[1:] for row in self._tables["runs"] if isinstance(row[1], str)}
        self._covered = _covered(self._tables["snapshots"])
        self._runs: dict[str, int] = {}  # runs with facts, numbers in the new database
        self._ended: set[str] = set()  # of these, the ones whose end was kept
        self._started: set[str] = set()
        self._notes: list[str] = []
        self._facts = 0
        self._rows = 0

    # ---- facts ------------------------------------------------------------------------------------------------

    def facts(self) -> None:
        for row in self._tables["events"]:
            _, number, seq, step, term, run, run_seq, ts, type_, body = row
            says = envelope(body)
            if not isinstance(number, int) or not isinstance(seq, int) or says is None or says.seq not in (None, seq):
                continue
            session = self._session(number, says.session, seq)
            if session is None or session.lost is not None:
                continue
            if seq != session.last + 1 or says.session not in (None, session.key):
                session.lost = session.last + 1
                continue
            name = self._run_name(run, says.run)
            new_run = None if name is None else self._run(name, session)
            self._into.execute(FACT, (session.number, seq, step, term, new_run, run_seq, ts, type_, body))
            session.last = seq
            self._facts += 1
            if name is not None:
                if type_ in RUN_ENDS:
                    self._ended.add(name)
                elif type_ == "run.started":
                    self._started.add(name)

    def _session(self, number: int, says: str | None, seq: int) -> _Session | None:
        known = self._sessions.get(number)
        if known is not None:
            return known
        row = self._session_rows.get(number)
        key = row[0] if row else says
        if key is None:
            return None
        new = self._into.execute("INSERT INTO sessions (key) VALUES (?)", (key,)).lastrowid or 0
        session = self._sessions[number] = _Session(key, new, suspect=row is None)
        if seq > 1 and self._covered.get(number, 0) >= seq - 1:
            session.last = seq - 1  # what came before was removed on purpose: a snapshot holds it
        return session

    def _run_name(self, number: int | None, says: str | None) -> str | None:
        if number is None:
            return None
        row = self._run_rows.get(number)
        return row[0] if row else says

    def _run(self, name: str, session: _Session) -> int:
        number = self._runs.get(name)
        if number is None:
            made = self._into.execute("INSERT INTO runs (run, session) VALUES (?, ?)", (name, session.number))
            number = self._runs[name] = made.lastrowid or 0
        return number

    # ---- views ------------------------------------------------------------------------------------------------

    def session_rows(self) -> None:
        for number, session in self._sessions.items():
            row = self._session_rows.get(number)
            if row is not None and session.last:
                self._into.execute(
                    "UPDATE sessions SET agent=?, owner=?, created=?, mode=?, epoch=?, leaf=?, unfinished=?, wake_at=?,"
                    " updated=? WHERE id=?",
                    (*row[1:], session.number),
                )
                self._rows += 1

    def run_rows(self) -> None:
        """A run's row is kept as far as its facts go: without the fact of its end it has not ended."""
        by_number = {session.number: session for session in self._sessions.values()}
        known = {}
        for name, *columns in self._run_rows.values():
            known[name] = columns
        for name, number in self._runs.items():
            session = self._in_session(number, by_number)
            if name not in known:
                session.suspect = True
                continue
            _, kind, state, accepted, started, ended, cause = known[name]
            if ended is not None and name not in self._ended:
                state, ended, cause = "running" if name in self._started else "queued", None, None
                session.suspect = True
            if name not in self._started:
                started = None
            self._rows += 1
            self._into.execute(
                "UPDATE runs SET kind=?, state=?, accepted=?, started=?, ended=?, cause=? WHERE id=?",
                (kind, state, accepted, started, ended, cause, number),
            )

    def _in_session(self, run: int, by_number: dict[int, _Session]) -> _Session:
        return by_number[self._into.execute("SELECT session FROM runs WHERE id = ?", (run,)).fetchone()[0]]

    def entries(self) -> None:
        table = self._tables["entries"]
        for _, entry, number, parent, epoch, role, kind, origin, content, run, ts, seq, *later in table:
            session = self._kept(number, seq)
            if session is None:
                continue
            name = self._run_name(run, None)
            new_run = None if name is None else self._runs.get(name)
            if later and later[-1] is None:
                later[-1] = 0
            row = (entry, session.number, parent, epoch, role, kind, origin, content, new_run, ts, seq, *later)
            self._insert("entries", table.columns, row)

    def keys(self) -> None:
        for _, number, key, body_hash, run, ts in self._tables["keys"]:
            session = self._kept(number, 0)
            if session is not None and run in self._runs:
                self._insert("keys", _COLUMNS["keys"], (session.number, key, body_hash, run, ts))

    def snapshots(self) -> None:
        for _, number, seq, *columns in self._tables["snapshots"]:
            session = self._kept(number, seq)
            if session is not None:
                self._insert("snapshots", _COLUMNS["snapshots"], (session.number, seq, *columns))

    def _kept(self, number: int, seq: int) -> _Session | None:
        """The session `number` if its facts up to `seq` were kept."""
        session = self._sessions.get(number)
        return session if session is not None and seq <= session.last and session.last else None

    def _insert(self, table: str, columns: str, row: tuple[Any, ...]) -> bool:
        marks = ", ".join("?" * len(row))
        try:
            self._into.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", row)
        except sqlite3.IntegrityError:  # a damaged row: no text where text belongs, a key twice
            self._tables[table].broken = True
            return False
        self._rows += 1
        return True

    # ---- the end ----------------------------------------------------------------------------------------------

    def finish(self) -> Kept:
        everyone = self._expected is None or any(
            self._tables[name].broken for name in ("entries", "keys", "runs", "sessions")
        )
        for name, table in self._tables.items():
            if table.broken:
                self._notes.append(f"part of the table {name} could not be read")
        for number, session in self._sessions.items():
            self._close_session(number, session, everyone)
        tree.rebuild(self._into)
        self._notes_to_forget()
        kept = sum(1 for session in self._sessions.values() if session.last)
        if len(self._notes) > NOTES_MAX:
            self._notes[NOTES_MAX:] = [f"and {len(self._notes) - NOTES_MAX} more"]
        whole = not any(table.broken for table in self._tables.values())
        return Kept(kept, self._facts, self._facts + self._rows, self._notes, whole)

    def _close_session(self, number: int, session: _Session, suspect: bool) -> None:
        expected = (self._expected or {}).get(number, session.last)
        if session.lost is None and expected > session.last:
            session.lost = session.last + 1
        if session.lost is not None:
            self._notes.append(f"session {session.key}: facts from seq {session.lost} on could not be kept")
        if not session.last:
            self._into.execute("DELETE FROM sessions WHERE id = ?", (session.number,))
            return
        if (session.lost is not None or session.suspect or suspect) and not rebuild(self._into, session.key):
            self._into.execute("UPDATE sessions SET unfinished = max(unfinished, 1) WHERE id = ?", (session.number,))
        (leaf,) = self._into.execute("SELECT leaf FROM sessions WHERE id = ?", (session.number,)).fetchone()
        if leaf is not None and not self._into.execute("SELECT 1 FROM entries WHERE entry = ?", (leaf,)).fetchone():
            self._into.execute(
                "UPDATE sessions SET leaf = NULL, unfinished = max(unfinished, 1) WHERE id = ?", (session.number,)
            )

    def _notes_to_forget(self) -> None:
        """What was being forgotten is so again, if that can be read."""
        with suppress(sqlite3.DatabaseError, msgspec.MsgspecError):
            for row in forgetting.left(self._damaged):
                forgetting.note(self._into, row)


class _Table:
    """The rows of one table that can be read, each with its integer key first; `broken` when some could not."""

    def __init__(self, damaged: sqlite3.Connection, name: str) -> None:
        self._damaged = damaged
        self.columns = _COLUMNS[name]
        if name == "entries" and _has_later(damaged):
            self.columns = ", ".join([self.columns, *LATER])
        self._sql = f"SELECT id, {self.columns} FROM {name} WHERE id >= ? ORDER BY id"
        self._one = f"{self._sql} LIMIT 1"
        self.broken = False
        self._at_end = False

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        at = 0
        while True:
            try:
                for row in self._damaged.execute(self._sql, (at,)):
                    if not isinstance(row[0], int) or row[0] < at:
                        break
                    at = row[0] + 1
                    yield row
                else:
                    return
            except sqlite3.DatabaseError:
                pass  # told by `broken`; a cursor reads ahead, so rows before the bad page may be missing as well
            self.broken = True
            for row in self._over_bad_pages(at):
                at = row[0] + 1
                yield row
            if self._at_end:
                return

    def _over_bad_pages(self, at: int) -> Iterator[tuple[Any, ...]]:
        """Row by row up to the first one behind what can't be read; a bad page hides a few, the next may be sound."""
        failed, stride = 0, 1
        while failed < PROBES_MAX:
            try:
                row = self._damaged.execute(self._one, (at,)).fetchone()
            except sqlite3.DatabaseError:
                row = (None,)
            if row is None:
                break
            if not isinstance(row[0], int) or row[0] < at:
                failed += 1
                stride = 1 if failed < PROBES_MAX // 10 else STRIDE
                at += stride
                continue
            if stride > 1:  # back to the first key behind the last one that failed
                at, stride = at - stride + 1, 1
                continue
            at = row[0] + 1
            yield row
            if failed:
                return
        self._at_end = True


def _has_later(damaged: sqlite3.Connection) -> bool:
    """Whether the damaged database is of a version that has those columns."""
    try:
        return {row[1] for row in damaged.execute("PRAGMA table_info(entries)")}.issuperset(LATER)
    except sqlite3.DatabaseError:
        return False


def _newest_indexed(damaged: sqlite3.Connection) -> dict[int, int] | None:
    """The last seq of each session as the index knows it; None when the index can't be read."""
    try:
        found = damaged.execute("SELECT session, max(seq) FROM events INDEXED BY events_session_seq GROUP BY session")
        return dict(found.fetchall())
    except sqlite3.DatabaseError:
        return None


def _covered(snapshots: _Table) -> dict[int, int]:
    """The seq of each session's newest snapshot."""
    newest: dict[int, int] = {}
    for row in snapshots:
        if isinstance(row[1], int) and isinstance(row[2], int):
            newest[row[1]] = max(newest.get(row[1], 0), row[2])
    return newest
