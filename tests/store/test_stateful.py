"""Random appends, faults, restarts and readings against a plain model of what must be there."""

import asyncio
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agentd.clock import SystemClock
from agentd.protocol.errors import Conflict, StorageUnavailable
from agentd.store.connection import in_thread
from agentd.store.sqlite import SqliteStore
from agentd.supervisor import Supervisor
from tests.store.making import body_of, session_row, step

KEYS = ("a", "b", "c")
keys = st.sampled_from(KEYS)


class Log(RuleBasedStateMachine):
    """The model: the last seq and the highest term of each session."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.last = dict.fromkeys(KEYS, 0)
        self.term = dict.fromkeys(KEYS, 1)
        self.open()

    def open(self) -> None:
        self.fatal: list[str] = []
        clock = SystemClock()
        self.runner.run(self._open(clock))

    async def _open(self, clock: SystemClock) -> None:
        self.supervisor = Supervisor(clock, self.fatal.append)
        self.store = await SqliteStore.open(
            Path(self.folder.name) / "agentd.db", clock=clock, supervisor=self.supervisor, on_fatal=self.fatal.append
        )

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()
        self.folder.cleanup()

    @rule(sizes=st.lists(st.tuples(keys, st.integers(1, 4)), min_size=1, max_size=6))
    def append_together(self, sizes: list[tuple[str, int]]) -> None:
        appends = []
        for key, size in sizes:
            appends.append(step(key, self.last[key] + 1, size, term=self.term[key], rows=(session_row(key),)))
            self.last[key] += size

        async def together() -> None:
            await asyncio.gather(*map(self.store.append, appends))

        self.runner.run(together())

    @rule(key=keys, off=st.sampled_from([-1, 1, 5]))
    def append_at_a_wrong_place(self, key: str, off: int) -> None:
        self.refused(step(key, self.last[key] + 1 + off, term=self.term[key]), Conflict)

    @rule(key=keys)
    def take_over(self, key: str) -> None:
        self.term[key] += 1
        self.append_together([(key, 1)])
        self.refused(step(key, self.last[key] + 1, term=self.term[key] - 1), Conflict)

    @rule(key=keys)
    def append_to_a_full_disk(self, key: str) -> None:
        self.pages(1)
        self.refused(step(key, self.last[key] + 1, term=self.term[key], words="x" * 9000), StorageUnavailable)
        self.pages(1_000_000)

    @rule()
    def restart(self) -> None:
        self.runner.run(self.store.close())
        self.open()
        assert self.store.opening.quarantined is None

    @rule()
    def restart_after_the_tasks_were_cancelled(self) -> None:
        self.runner.run(self.supervisor.stop(5))
        self.restart()

    @invariant()
    def every_fact_is_there_once_and_in_order(self) -> None:
        for key in KEYS:
            bodies = self.runner.run(self.store.read(key, 0, limit=1000)).bodies
            assert bodies == tuple(body_of(key, seq) for seq in range(1, self.last[key] + 1))
        assert self.fatal == []

    def refused(self, append: Any, error: type[Exception]) -> None:
        try:
            self.runner.run(self.store.append(append))
        except error:
            return
        raise AssertionError(f"{append} was taken")

    def pages(self, number: int) -> None:
        def limit(connection: sqlite3.Connection) -> None:
            connection.execute(f"PRAGMA max_page_count = {number}").fetchone()

        self.runner.run(in_thread(self.store._backend._connection, limit))


TestLog = Log.TestCase
TestLog.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
