"""The store on SQLite: a group-committed log and its views in one file, for one process on one node.

One connection writes and checkpoints, readers are separate and read-only, so no question waits for a commit and
`database is locked` can't happen between them. Opening takes the directory's lock, puts a damaged file aside and
brings an older one up to date (opening.py); closing commits what waits and leaves a single, checkpointed file.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import AsyncExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import TypeVar

import aiosqlite
import structlog

from agentd.clock import Clock
from agentd.protocol.errors import AgentdError, StorageUnavailable
from agentd.store import forgetting, fulltext, reading, recall, tree
from agentd.store.connection import Readers, in_thread, reading_connections, short_patience, writing_connection
from agentd.store.errors import failure_of
from agentd.store.figures import CommitFigures
from agentd.store.lock import StateLock
from agentd.store.log import GroupCommit, Position
from agentd.store.opening import mark_damaged, prepare
from agentd.store.stopwords import StopWords, counted
from agentd.store.store import (
    Append,
    Blanked,
    EntryRow,
    ForgetRow,
    Found,
    KeptRun,
    Key,
    Loaded,
    Node,
    Opening,
    Page,
    Prunable,
    RunRow,
    SessionInfo,
    SnapshotRow,
    StepPage,
)
from agentd.store.writing import BatchWriter, keep_snapshot, positions, prune_keys
from agentd.supervisor import Supervisor

CHECKPOINT_PAGES = 1_000  # 4 MiB: about so much of the write-ahead log is left between two checkpoints
SHARE_MIN = 1 / 16  # one commit writes a page once, however many rows of it changed
WAL_PAGES_MAX = 16_384  # 64 MiB: beyond it the writer waits for readers to let the log begin anew
PRUNE_ROWS = 1_000  # keys removed in one transaction, so that commits are never held up for long

T = TypeVar("T")
log = structlog.get_logger(__name__)


class SqliteStore:
    """`Store` on one SQLite file."""

    opening: Opening
    figures: CommitFigures

    def __init__(
        self, opening: Opening, stack: AsyncExitStack, backend: "_Backend", readers: Readers, commits: GroupCommit
    ) -> None:
        self.opening = opening
        self.figures = backend.figures
        self._stack = stack
        self._backend = backend
        self._readers = readers
        self._log = commits
        self._stopwords = StopWords()
        self._closed = False

    @classmethod
    async def open(
        cls, path: Path, *, clock: Clock, supervisor: Supervisor, on_fatal: Callable[[str], None]
    ) -> "SqliteStore":
        """Open or create the database file `path`; its folder is the state directory and must exist.

        `on_fatal` is called with a reason, once, when the process must stop taking work.

        Raises:
            StoreError: the place or the file can't be used; with a remedy.
        """
        async with AsyncExitStack() as stack:
            stack.callback(StateLock.acquire(path.parent).release)
            opening = await _prepared(path, clock)
            writer = await stack.enter_async_context(writing_connection(path))
            readers = await stack.enter_async_context(reading_connections(path))
            backend = _Backend(path, writer, on_fatal)
            commits = GroupCommit(backend, backend.figures, clock, supervisor)
            backend.log = commits
            return cls(opening, stack.pop_all(), backend, readers, commits)
        raise AssertionError("unreachable: the stack swallows nothing")

    async def append(self, append: Append) -> None:
        await self._log.append(append)

    async def load(self, session: str) -> Loaded | None:
        return await self._read(partial(reading.load, key=session))

    async def read(self, session: str, after: int, limit: int = 500, limit_bytes: int = 1 << 20) -> Page:
        return await self._page(reading.READ, session, after, limit, limit_bytes)

    async def read_run(self, run: str, after: int = 0, limit: int = 500, limit_bytes: int = 1 << 20) -> Page:
        return await self._page(reading.READ_RUN, run, after, limit, limit_bytes)

    async def read_steps(self, session: str, after: int, limit: int = 500, limit_bytes: int = 1 << 20) -> StepPage:
        limit = max(1, min(limit, reading.PAGE_ROWS_MAX))
        return await self._read(
            partial(reading.page_of_steps, key=session, after=after, limit=limit, limit_bytes=limit_bytes)
        )

    async def kept_run(self, run: str) -> KeptRun | None:
        return await self._read(partial(reading.kept_run, name=run))

    async def snapshot(self, session: str, seq: int) -> SnapshotRow | None:
        return await self._read(partial(reading.snapshot_from, key=session, seq=seq))

    async def sessions(
        self, *, owner: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> list[SessionInfo]:
        return await self._read(partial(reading.sessions, owner=owner, limit=limit, cursor=cursor))

    async def unfinished(self) -> list[str]:
        return await self._read(reading.unfinished)

    async def run(self, run: str) -> RunRow | None:
        return await self._read(partial(reading.run, name=run))

    async def runs(self, session: str, limit: int = 100) -> list[RunRow]:
        return await self._read(partial(reading.runs, session=session, limit=limit))

    async def key(self, session: str, key: str) -> Key | None:
        return await self._read(partial(reading.key, session=session, name=key))

    async def entries(self, ids: list[str]) -> dict[str, EntryRow]:
        return await self._read(partial(reading.entries, ids=ids))

    async def path(self, leaf: str, limit: int = 64, limit_bytes: int = 1 << 20) -> list[EntryRow]:
        return await self._read(partial(reading.path, leaf=leaf, limit=limit, limit_bytes=limit_bytes))

    async def summaries(self, leaf: str, limit: int) -> list[tuple[EntryRow, bytes]]:
        return await self._read(partial(reading.summaries, leaf=leaf, limit=limit))

    async def query(
        self,
        session: str,
        *,
        leaf: str | None = None,
        topic: str | None = None,
        ids: list[str] | None = None,
        kinds: list[str] | None = None,
        since: int | None = None,
        until: int | None = None,
        epoch: int | None = None,
        path_only: bool = False,
        rare: int | None = None,
        limit: int = 25,
        offset: int = 0,
    ) -> list[Found]:
        ask = partial(
            recall.query, session=session, leaf=leaf, ids=ids, kinds=kinds, since=since, until=until, epoch=epoch,
            path_only=path_only, rare=rare, limit=limit, offset=offset,
        )  # fmt: skip
        if topic is None or rare is None:
            return await self._read(partial(ask, topic=topic))
        known = self._stopwords
        words = known.left(topic, rare)
        if not words:
            return []
        found, common = await self._read(partial(_by_telling_words, ask=ask, words=words, rare=rare))
        known.learn(common)
        return found

    async def tree(self, session: str, leaf: str | None, *, limit: int = 200, before: str | None = None) -> list[Node]:
        rows = await self._read(partial(tree.tree, key=session, leaf=leaf, limit=limit, before=before))
        return [Node(row.id, row.parent, row.role, row.kind, row.snippet, row.run, row.ts) for row in rows]

    async def sessions_at(self, entry: str) -> list[str]:
        return await self._read(partial(tree.sessions_at, entry=entry))

    async def index(self, limit: int = 500) -> int:
        return await self._backend.write(partial(fulltext.index, limit=limit))

    async def blank(
        self, entries: list[str], sessions: list[str], rewrite: Callable[[bytes], bytes | None], *, runs: list[str]
    ) -> Blanked:
        write, facts = self._backend.write, 0
        for start in range(0, len(entries), forgetting.SLICE):
            await write(partial(forgetting.blank_entries, entries=entries[start : start + forgetting.SLICE]))
        for run in runs:
            after = -1
            while after:
                changed, after = await write(
                    partial(forgetting.blank_run, run=run, after=max(after, 0), rewrite=rewrite)
                )
                facts += changed
        for session in sessions:
            after = -1
            while after:
                changed, after = await write(
                    partial(forgetting.blank_memory, session=session, after=max(after, 0), rewrite=rewrite)
                )
                facts += changed
            await write(partial(forgetting.drop_snapshots, session=session))
        await write(partial(forgetting.note_blanked, entries=entries, sessions=sessions))
        self._stopwords = StopWords()
        return Blanked(entries=len(entries), facts=facts)

    async def purge(self) -> bool:
        return await self._backend.write(forgetting.purge)

    async def forgetting(self) -> list[ForgetRow]:
        return await self._read(forgetting.left)

    async def prunable(
        self, *, before_ms: int = 0, keep: int = 0, limit: int = 200, after: tuple[int, int] | None = None
    ) -> Prunable:
        self._stopwords = StopWords()  # what is found here is pruned next
        if before_ms:
            return await self._read(partial(forgetting.aged, before_ms=before_ms, limit=limit, after=after))
        if keep:
            return await self._read(partial(forgetting.beyond, keep=keep, limit=limit, after=after))
        return Prunable({}, None)

    async def keep_snapshot(self, row: SnapshotRow) -> None:
        await self._backend.write(partial(keep_snapshot, row=row))

    async def prune_keys(self, before_ms: int) -> int:
        """Remove idempotency keys older than `before_ms`; how many. Raises StorageUnavailable."""
        removed = 0
        while True:
            some = await self._backend.write(partial(prune_keys, before_ms=before_ms, limit=PRUNE_ROWS))
            removed += some
            if some < PRUNE_ROWS:
                return removed

    async def close(self) -> None:
        """Commit what waits, checkpoint, close every connection, give the lock back; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        async with self._stack:
            await self._log.close()
            await self._backend.truncate()

    async def _page(self, sql: str, key: str, after: int, limit: int, limit_bytes: int) -> Page:
        limit = max(1, min(limit, reading.PAGE_ROWS_MAX))
        return await self._read(
            partial(reading.page, sql=sql, key=key, after=after, limit=limit, limit_bytes=limit_bytes)
        )

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._readers.run(work)
        except sqlite3.Error as error:
            raise self._backend.failed(error, writing=False) from error
        except ValueError as error:  # what aiosqlite says of a closed connection
            raise StorageUnavailable("the store is closed", hint="start the server again", retryable=False) from error


class _Backend:
    """What a batch is committed to: the writing connection."""

    log: GroupCommit

    def __init__(self, path: Path, connection: aiosqlite.Connection, on_fatal: Callable[[str], None]) -> None:
        self.figures = CommitFigures()
        self._path = path
        self._connection = connection
        self._on_fatal = on_fatal
        self._writer = BatchWriter()
        self._outcome: list[AgentdError | None] | sqlite3.Error = []
        self._share = 1.0  # of the pages that the writer counts at most, so many were really written
        self._left = 0  # pages that the last checkpoint could not bring back
        self._stopped = False

    async def positions(self, sessions: list[str]) -> dict[str, Position]:
        return await self.write(partial(positions, sessions=sessions))

    async def commit(self, batch: list[Append]) -> list[AgentdError | None]:
        await in_thread(self._connection, partial(self._commit, batch=batch))
        return self._result()

    async def finish(self) -> list[AgentdError | None]:
        await in_thread(self._connection, _nothing)  # the thread works in order: the commit before it has ended
        return self._result()

    async def checkpoint(self) -> None:
        """Bring pages back into the file when enough of them have gathered; never in the way of an answer."""
        if self._left + self._writer.pages * self._share < CHECKPOINT_PAGES:
            return
        try:
            pages, moved = await in_thread(self._connection, partial(_checkpoint, mode="PASSIVE"))
            if pages > WAL_PAGES_MAX:
                pages, moved = await in_thread(self._connection, partial(_checkpoint, mode="RESTART"))
                moved = pages  # with a reader in the way it is tried again when as much has gathered anew
        except sqlite3.Error as error:
            log.warning("store.checkpoint_failed", reason=str(self.failed(error, writing=True)))
            self._writer.pages = self._left = 0  # tried again when as much has gathered anew, not after every commit
            return
        self._share = min(max((pages - self._left) / max(self._writer.pages, 1), SHARE_MIN), 1.0)
        self._left = pages - moved
        self._writer.pages = 0
        self.figures.checkpoints += 1
        self.figures.wal_pages = pages

    async def truncate(self) -> None:
        """The last checkpoint: everything in one file."""
        try:
            await in_thread(self._connection, partial(_checkpoint, mode="TRUNCATE"))
        except sqlite3.Error as error:  # nothing is lost: the log stays and is read at the next start
            log.warning("store.checkpoint_failed", reason=str(self.failed(error, writing=True)))

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._stopped:
            raise StorageUnavailable("the log has stopped", hint="start the server again", retryable=False)
        try:
            return await in_thread(self._connection, work)
        except sqlite3.Error as error:
            raise self.failed(error, writing=True) from error

    def failed(self, error: sqlite3.Error, *, writing: bool) -> StorageUnavailable:
        """What clients hear of `error`; sees to what has to follow from it."""
        failure = failure_of(error, writing=writing)
        if failure.damage:
            mark_damaged(self._path)
        if failure.fatal and not self._stopped:
            self._stopped = True
            self.log.stop(f"the log has stopped: {failure.message}")
            self._on_fatal(f"store: {failure.message}; {failure.hint}")
        return failure.unavailable()

    def _commit(self, connection: sqlite3.Connection, batch: list[Append]) -> None:
        try:
            self._outcome = self._writer.commit(connection, batch)
        except sqlite3.Error as error:
            self._outcome = error

    def _result(self) -> list[AgentdError | None]:
        if isinstance(self._outcome, sqlite3.Error):
            raise self.failed(self._outcome, writing=True) from self._outcome
        return self._outcome


async def _prepared(path: Path, clock: Clock) -> Opening:
    """`prepare` in a thread, awaited to its end even when cancelled: the lock must not come free before."""
    work = asyncio.get_running_loop().run_in_executor(None, prepare, path, clock)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


def _by_telling_words(
    connection: sqlite3.Connection, ask: Callable[..., list[Found]], words: dict[str, str], rare: int
) -> tuple[list[Found], dict[str, int]]:
    """What is found by those of `words` that at most `rare` rows have, and the counts of the others."""
    common = counted(connection, words, rare)
    topic = " ".join(said for word, said in words.items() if word not in common)
    return ask(connection, topic=topic) if topic else [], common


def _checkpoint(connection: sqlite3.Connection, mode: str) -> tuple[int, int]:
    """Pages in the write-ahead log, and how many of them are in the file now."""
    with short_patience(connection) if mode == "RESTART" else nullcontext():
        _, pages, moved = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    return max(pages, 0), max(moved, 0)


def _nothing(connection: sqlite3.Connection) -> None:
    """A place in the thread's queue."""
