"""The faults that the store in memory can play."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from agentd.clock import SystemClock
from agentd.protocol.errors import StorageUnavailable
from agentd.store.store import Append
from agentd.supervisor import Supervisor
from tests.store.making import body_of, step
from tests.store.memory_store import MemoryStore


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    clock = SystemClock()
    supervisor = Supervisor(clock, lambda reason: None)
    memory = MemoryStore(clock=clock, supervisor=supervisor)
    yield memory
    await memory.close()
    await supervisor.stop(5)


async def test_a_crash_leaves_exactly_what_was_committed(store: MemoryStore) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(batch: list[Append]) -> None:
        begun.set()
        await go.wait()

    await store.append(step("a", 1))
    store.before_commit = slow
    under_way = asyncio.ensure_future(store.append(step("a", 2)))
    await begun.wait()
    again = store.crash()
    go.set()
    await under_way
    assert (await again.read("a", 0)).bodies == (body_of("a", 1),)
    assert again.opening.log_id == store.opening.log_id
    await again.append(step("a", 2))
    await again.append(step("a", 3))
    assert len((await store.read("a", 0)).bodies) == 2, "the old store does not see the new one's facts"
    await again.close()


async def test_failures_are_played_as_often_as_asked(store: MemoryStore) -> None:
    store.fail(times=2)
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match="full"):
            await store.append(step("a", 1))
    await store.append(step("a", 1))
    assert store.figures.failed_commits == 2
