"""Appends and rows for the tests of the store, short to write."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from agentd.clock import SystemClock
from agentd.store.sqlite import SqliteStore
from agentd.store.store import Append, EntryRow, KeyRow, Record, Row, RunRow, SessionRow, SnapshotRow
from agentd.supervisor import Supervisor


def body_of(session: str, seq: int, words: str = "", run: str | None = None) -> bytes:
    frame = {"type": "warning", "session": session, "ts": seq, "seq": seq, "message": words}
    return msgspec.json.encode(frame if run is None else {**frame, "run": run})


def facts(
    session: str, first: int, count: int = 1, *, run: str | None = None, run_seq: int = 1, words: str = ""
) -> tuple[Record, ...]:
    return tuple(
        Record(
            first + i,
            first,
            1_000 + first,
            "warning",
            body_of(session, first + i, words),
            run,
            None if run is None else run_seq + i,
        )
        for i in range(count)
    )


def step(
    session: str,
    first: int,
    count: int = 1,
    *,
    term: int = 1,
    rows: tuple[Row, ...] = (),
    run: str | None = None,
    run_seq: int = 1,
    words: str = "",
) -> Append:
    return Append(session, term, facts(session, first, count, run=run, run_seq=run_seq, words=words), rows)


def session_row(
    key: str, *, owner: str = "local", unfinished: int = 0, leaf: str | None = None, updated: int = 1
) -> SessionRow:
    return SessionRow(key, "default", owner, 1, "running", 0, leaf, unfinished, None, updated)


def run_row(run: str, session: str, *, accepted: int = 1, ended: int | None = None) -> RunRow:
    state = "running" if ended is None else "completed"
    return RunRow(run, session, "chat", state, accepted, accepted, ended, None if ended is None else b"{}")


def entry_row(
    name: str,
    session: str,
    parent: str | None = None,
    *,
    seq: int = 1,
    content: str = "hi",
    role: str = "user",
    ts: int = 1,
    epoch: int = 0,
    kind: str = "message",
    related: str | None = None,
    first: str | None = None,
) -> EntryRow:
    origin = "user" if role == "user" else "agent"
    return EntryRow(
        name, session, parent, epoch, role, kind, origin, content, None, ts, seq, related, first,
        related if first else None,
    )  # fmt: skip


def key_row(session: str, key: str, run: str, *, ts: int = 1) -> KeyRow:
    return KeyRow(session, key, f"hash of {key}", run, ts)


def snapshot_row(session: str, seq: int) -> SnapshotRow:
    return SnapshotRow(session, seq, 1, 1, b'{"seq":%d}' % seq)


@asynccontextmanager
async def opened(path: Path, fatal: list[str] | None = None) -> AsyncIterator[SqliteStore]:
    """A store on `path`, closed at the end; reasons to stop go to `fatal`."""
    clock = SystemClock()
    reasons = [] if fatal is None else fatal
    supervisor = Supervisor(clock, reasons.append)
    store = await SqliteStore.open(path, clock=clock, supervisor=supervisor, on_fatal=reasons.append)
    try:
        yield store
    finally:
        await store.close()
        await supervisor.stop(5)
