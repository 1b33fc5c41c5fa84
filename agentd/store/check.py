"""Is this file sound? A bounded look at every start, and the full one that `agentd doctor` makes.

At the start: the header, the length, the write-ahead log, the schema, the newest facts with both of their index
entries; small files, and those a running server found damaged, are read completely. The full check reads every page
and every fact and writes nothing, not even the shared-memory file when there is no log to read.
"""

import os
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import msgspec

from agentd.store import schema
from agentd.store.errors import StoreError, failure_of, is_damage
from agentd.store.store import Health
from agentd.store.wal import examine

NEWEST_FACTS = 64
READ_WHOLE_BYTES = 32 << 20  # up to this size every start reads all pages (about 0.1 s)
PROBLEMS_SHOWN = 20
_TEXTS = ("sessions", "runs", "entries", "keys")
REMEDY = "start `agentd serve`: it moves the damaged file to quarantine/ and keeps all that can be read"


class Finding(msgspec.Struct, frozen=True):
    """One line of the doctor's report."""

    health: Health
    what: str
    remedy: str = ""


class Damaged(Exception):
    """The file is malformed; the text says where."""


class Envelope(msgspec.Struct):
    """What every stored frame says of itself (protocol.md, 2)."""

    session: str | None = None
    seq: int | None = None
    run: str | None = None


_decode = msgspec.json.Decoder(Envelope).decode


def envelope(body: object) -> Envelope | None:
    """The envelope of a stored frame; None when these bytes are no frame, or not all of them are text."""
    try:
        if isinstance(body, bytes):
            body.decode()  # strings that the envelope does not have are passed over unread
            return _decode(body)
        return None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


@contextmanager
def read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that leaves the file as it is: no recovery is written, no checkpoint made at its end."""
    wal = path.with_name(path.name + "-wal")
    mode = "mode=ro" if wal.exists() and wal.stat().st_size else "mode=ro&immutable=1"
    connection = sqlite3.connect(f"file:{quote(str(path))}?{mode}", uri=True, isolation_level=None)
    try:
        connection.execute("PRAGMA query_only = 1")
        connection.execute("PRAGMA cell_size_check = 1")
        yield connection
    finally:
        connection.close()


def before_opening(path: Path) -> None:
    """What the bytes alone tell, without SQLite, which would begin to repair.

    Raises:
        Damaged: the header, the length or the write-ahead log is wrong.
    """
    size = path.stat().st_size
    wal = path.with_name(path.name + "-wal")
    report = examine(wal)
    if size == 0:
        if report.pages:
            raise Damaged("the database file is empty, its write-ahead log is not")
        return
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise Damaged("the file does not begin like a database")
    page = struct.unpack_from(">H", header, 16)[0]
    page = 65536 if page == 1 else page
    if page < 512 or page & (page - 1):
        raise Damaged("the header's page size is impossible")
    if report.lost:
        raise Damaged("the write-ahead log is damaged before acknowledged commits")
    pages = struct.unpack_from(">I", header, 28)[0]
    if report.whole and any(number not in report.pages for number in range(size // page + 1, pages + 1)):
        raise Damaged(f"the file is cut short: {size} bytes of {pages * page}")


def at_start(connection: sqlite3.Connection, *, whole: bool) -> None:
    """The bounded check of an open database of the current version; `whole` reads every page.

    Raises:
        Damaged: something is missing, malformed or contradicts itself.
    """
    lacking = schema.missing(connection)
    if lacking:
        raise Damaged(f"missing in the schema: {', '.join(lacking)}")
    if connection.execute("SELECT value FROM meta WHERE key = 'log_id'").fetchone() is None:
        raise Damaged("the database has no log id")
    for name, seq, indexed, body in connection.execute(
        "SELECT s.key, e.seq, (SELECT id FROM events i WHERE i.session = e.session AND i.seq = e.seq) = e.id, e.body"
        " FROM events e LEFT JOIN sessions s ON s.id = e.session ORDER BY e.id DESC LIMIT ?",
        (NEWEST_FACTS,),
    ):
        problem = _fact_problem(name, seq, body) or (None if indexed else "its index entry is missing")
        if problem:
            raise Damaged(f"fact {seq} of session {name!r}: {problem}")
    connection.execute("SELECT count(*) FROM sessions WHERE unfinished > 0").fetchone()
    if whole:
        answer = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if answer != "ok":
            raise Damaged(str(answer).splitlines()[0])
        spoiled = _spoiled(connection)
        if spoiled:
            raise Damaged(spoiled[0])


def full_check(path: Path) -> list[Finding]:
    """Everything that can be said of the database file while no server runs; reads only.

    One finding with health ok when nothing is wrong.
    """
    if not path.exists():
        return [Finding("warning", f"there is no database at {path}", "it is made by the first `agentd serve`")]
    try:
        before_opening(path)
        with read_only(path) as connection:
            schema.require_known(connection)
            found = list(_problems(connection))
    except Damaged as damage:
        return [Finding("error", str(damage), REMEDY)]
    except StoreError as error:
        return [Finding("error", error.message, error.hint)]
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, sqlite3.Error):
            failure = failure_of(error, writing=False)
            return [Finding("error", failure.message, REMEDY if is_damage(error) else failure.hint)]
        return [Finding("error", f"the database can't be read: {error.strerror}", "check the file's permissions")]
    return found or [Finding("ok", "the database is sound")]


def _problems(connection: sqlite3.Connection) -> Iterator[Finding]:
    version, known = schema.version_of(connection), len(schema.migrations())
    if version < known:
        yield Finding("warning", f"the database has version {version}, newest is {known}", "the next start updates it")
        return
    lacking = schema.missing(connection)
    if lacking:
        yield Finding("error", f"missing in the schema: {', '.join(lacking)}", REMEDY)
        return
    for (line,) in connection.execute(f"PRAGMA integrity_check({PROBLEMS_SHOWN})").fetchall():
        if line != "ok":
            yield Finding("error", str(line), REMEDY)
    for what in _spoiled(connection):
        yield Finding("error", what, REMEDY)
    yield from _gaps(connection)
    yield from _bodies(connection)


def _spoiled(connection: sqlite3.Connection) -> list[str]:
    """Tables with text that can't be read: SQLite itself looks at no text."""
    found = []
    for table in _TEXTS:
        try:
            for _ in connection.execute(f"SELECT * FROM {table}"):
                pass
        except sqlite3.OperationalError as error:
            if not is_damage(error):
                raise
            found.append(f"a text in the table {table} is no UTF-8")
    return found


_GAPS = (
    (
        "session",
        "SELECT s.key, min(e.seq) AS first, max(e.seq) AS last, count(*) AS facts FROM events e"
        " JOIN sessions s ON s.id = e.session GROUP BY e.session HAVING last - first + 1 <> facts LIMIT ?",
    ),
    (
        "run",
        "SELECT r.run, min(e.run_seq) AS first, max(e.run_seq) AS last, count(*) AS facts FROM events e"
        " JOIN runs r ON r.id = e.run WHERE e.run IS NOT NULL GROUP BY e.run HAVING last - first + 1 <> facts LIMIT ?",
    ),
)


def _gaps(connection: sqlite3.Connection) -> Iterator[Finding]:
    for what, sql in _GAPS:
        for key, first, last, facts in connection.execute(sql, (PROBLEMS_SHOWN,)):
            yield Finding("error", f"{what} {key}: {last - first + 1 - facts} facts missing in {first}..{last}", REMEDY)


def _bodies(connection: sqlite3.Connection) -> Iterator[Finding]:
    shown = 0
    rows = connection.execute(
        "SELECT s.key, e.seq, e.body FROM events e LEFT JOIN sessions s ON s.id = e.session ORDER BY e.id"
    )
    for key, seq, body in rows:
        problem = _fact_problem(key, seq, body)
        if problem:
            yield Finding("error", f"fact {seq} of session {key}: {problem}", REMEDY)
            shown += 1
            if shown == PROBLEMS_SHOWN:
                return


def _fact_problem(session: str | None, seq: int, body: object) -> str | None:
    """Does the stored frame say the same of itself as its row does?"""
    if session is None:
        return "its session is unknown"
    says = envelope(body)
    if says is None:
        return "its body is no frame"
    if says.session not in (None, session) or says.seq not in (None, seq):
        return f"its body is of session {says.session!r}, seq {says.seq}"
    return None


def require_place(path: Path) -> None:
    """Refuse a path that can't be a database file.

    Raises:
        StoreError: it is a directory or something else, or may not be written.
    """
    if path.is_dir():
        raise StoreError(f"{path} is a directory, not a database file", hint="move it away or change state_dir")
    if path.exists() and not path.is_file():
        raise StoreError(f"{path} is no regular file", hint="move it away or change state_dir")
    if path.exists() and not _may(path, os.R_OK | os.W_OK):
        raise StoreError(f"{path} can't be written", hint="make it readable and writable for this user")
    if not _may(path.parent, os.W_OK | os.X_OK):
        raise StoreError(f"{path.parent} can't be written", hint="make it writable for this user")


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)
