"""What the store costs: a lone append, group commit at 64 and 1,000 producers, a page of replay.

`PYTHONPATH=. python bench/store.py [SECONDS]`: CPU is that of the whole process, per fact; rates are wall time.
"""

import asyncio
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiosqlite
import msgspec

from agentd.clock import SystemClock
from agentd.store.sqlite import SqliteStore
from agentd.store.store import Append, Record, SessionRow
from agentd.supervisor import Supervisor

BODY = msgspec.json.encode({"type": "agent.status", "session": "s", "seq": 1, "message": "x" * 200})


def step(session: str, seq: int) -> Append:
    return Append(session, 1, (Record(seq, seq, seq, "agent.status", BODY, session, seq),))


async def producers(store: SqliteStore, number: int, seconds: float) -> None:
    end = time.monotonic() + seconds

    async def produce(session: str) -> int:
        seq = 0
        while time.monotonic() < end:
            seq += 1
            await store.append(step(session, seq))
        return seq

    cpu, wall, commits = time.process_time(), time.monotonic(), store.figures.commits
    counts = await asyncio.gather(*(produce(f"p{number}-{i}") for i in range(number)))
    facts, wall, cpu = sum(counts), time.monotonic() - wall, time.process_time() - cpu
    per_commit = facts / (store.figures.commits - commits)
    print(
        f"{number:5} producers: {facts / wall:9,.0f} facts/s, {cpu / facts * 1e6:6.1f} µs CPU a fact,"
        f" {per_commit:.1f} facts a commit, slowest commit {store.figures.commit_ms_max:.1f} ms"
    )


async def replay(store: SqliteStore) -> None:
    await store.append(
        Append(
            "replayed",
            1,
            tuple(Record(i, 1, 1, "agent.status", BODY) for i in range(1, 501)),
            (SessionRow("replayed", "default", "local", 1, "running", 0, None, 0, None, 1),),
        )
    )
    for _ in range(20):
        await store.read("replayed", 0)
    cpu, wall = time.process_time(), time.monotonic()
    for _ in range(200):
        page = await store.read("replayed", 0)
        assert len(page.bodies) == 500
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    print(f"replay of 500 rows: {wall / 200 * 1e3:.2f} ms, {cpu / 200 / 500 * 1e6:.2f} µs CPU a row")


async def calls(path: Path) -> None:
    """A lone commit by aiosqlite's public methods, one call a statement, and by one call into its thread."""
    async with aiosqlite.connect(path, isolation_level=None) as connection:
        await connection.executescript(
            "PRAGMA journal_mode = wal; PRAGMA synchronous = 2; CREATE TABLE IF NOT EXISTS t (a, b);"
        )

        async def each() -> None:
            await (await connection.execute("BEGIN IMMEDIATE")).close()
            await (await connection.executemany("INSERT INTO t VALUES (?, ?)", [(1, BODY)])).close()
            await connection.commit()

        async def one() -> None:
            def work() -> None:
                raw: sqlite3.Connection = connection._conn
                raw.execute("BEGIN IMMEDIATE")
                raw.executemany("INSERT INTO t VALUES (?, ?)", [(1, BODY)])
                raw.execute("COMMIT")

            await connection._execute(work)  # type: ignore[no-untyped-call]

        for name, commit in (("one call a statement", each), ("one call a batch", one)):
            await timed(name, commit)


async def timed(name: str, commit: Callable[[], Awaitable[None]]) -> None:
    for _ in range(100):
        await commit()
    cpu, wall = time.process_time(), time.monotonic()
    for _ in range(1000):
        await commit()
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    print(f"aiosqlite, {name}: {wall * 1e3:.0f} µs, {cpu * 1e3:.0f} µs CPU a commit")


async def main(seconds: float) -> None:
    clock = SystemClock()
    supervisor = Supervisor(clock, print)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "agentd.db"
        store = await SqliteStore.open(path, clock=clock, supervisor=supervisor, on_fatal=print)
        try:
            for number in (1, 64, 1000):
                await producers(store, number, seconds)
            await replay(store)
        finally:
            await store.close()
        print(f"checkpoints {store.figures.checkpoints}, file {path.stat().st_size / 1e6:.0f} MB")
        await calls(Path(folder) / "calls.db")


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0))
