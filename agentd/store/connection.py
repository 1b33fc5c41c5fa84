"""The connections of one store: one that writes and checkpoints, and a small pool that only reads.

Stock SQLite can lose a checkpoint when two connections write or checkpoint at the same moment, so exactly one does
both; readers are opened read-only and could not if they tried. aiosqlite gives each connection a thread, and that
thread is not a daemon: a connection that is not closed keeps the process from ending, therefore everything here is
opened under a context that closes it.

`in_thread` is the only place that touches aiosqlite's inside: one call into the thread per batch, where its public
methods cost one call per statement (docs/decisions/010). A contract test holds the installed version to it.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import aiosqlite

from agentd.protocol.errors import StorageUnavailable
from agentd.store.errors import StoreError

READERS = 3
READER_WAIT_S = 10.0
BUSY_MS = 5_000
READERS_MS = 50  # so long what needs that no reader holds an older moment may hold up the commits behind it
CACHE_KIB = 16_384
PAGE_BYTES = 4_096  # SQLite's own choice for a new database

T = TypeVar("T")

_WRITER: dict[str, str | int] = {
    "journal_mode": "wal",
    "synchronous": 2,  # FULL: an acknowledged commit survives the loss of power
    "secure_delete": 1,  # from the first database on: forgotten words leave no copies in free pages
    "wal_autocheckpoint": 0,  # only between batches, by ourselves
    "cell_size_check": 1,
    "busy_timeout": BUSY_MS,
    "cache_size": -CACHE_KIB,
    "journal_size_limit": 64 << 20,
}
_READER: dict[str, str | int] = {
    "query_only": 1,
    "cell_size_check": 1,
    "busy_timeout": BUSY_MS,
    "cache_size": -CACHE_KIB // 4,
}


async def in_thread(connection: aiosqlite.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run `work` in the connection's thread, in the order of the calls; its result or its exception."""
    result: T = await connection._execute(lambda: work(connection._conn))  # type: ignore[no-untyped-call]
    return result


@asynccontextmanager
async def writing_connection(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    """The connection that writes; its settings are verified, not only asked for.

    Raises:
        StoreError: a setting that durability rests on did not take.
    """
    async with aiosqlite.connect(path, isolation_level=None) as connection:
        for name, told in (await in_thread(connection, lambda raw: _set(raw, _WRITER))).items():
            if told != _WRITER[name]:
                raise StoreError(
                    f"the database refuses {name} = {_WRITER[name]} (it stays {told})",
                    hint="put the state directory on a local disk that supports SQLite's write-ahead log",
                )
        yield connection


@contextmanager
def short_patience(connection: sqlite3.Connection) -> Iterator[None]:
    """Inside, readers in the way are waited for `READERS_MS` only."""
    connection.execute(f"PRAGMA busy_timeout = {READERS_MS}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")


class Readers:
    """A bounded pool of connections that can't write."""

    def __init__(self, connections: list[aiosqlite.Connection]) -> None:
        self._free: asyncio.LifoQueue[aiosqlite.Connection] = asyncio.LifoQueue()
        for connection in connections:
            self._free.put_nowait(connection)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on a free reader, in its thread.

        Raises:
            StorageUnavailable: none came free within READER_WAIT_S.
        """
        try:
            async with asyncio.timeout(READER_WAIT_S):
                reader = await self._free.get()
        except TimeoutError:
            raise StorageUnavailable("all readers of the database are busy", hint="try again in a moment") from None
        try:
            return await in_thread(reader, work)
        finally:
            self._free.put_nowait(reader)


@asynccontextmanager
async def reading_connections(path: Path, number: int = READERS) -> AsyncIterator[Readers]:
    async with AsyncExitStack() as stack:
        address = f"file:{quote(str(path))}?mode=ro"
        connections = []
        for _ in range(number):
            reader = await stack.enter_async_context(aiosqlite.connect(address, uri=True, isolation_level=None))
            await in_thread(reader, lambda raw: _set(raw, _READER))
            connections.append(reader)
        yield Readers(connections)


def _set(connection: sqlite3.Connection, settings: dict[str, str | int]) -> dict[str, str | int]:
    """Set each pragma and read it back."""
    told: dict[str, str | int] = {}
    for name, value in settings.items():
        connection.execute(f"PRAGMA {name} = {value}")
        told[name] = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return told
