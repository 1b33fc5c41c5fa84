"""Group commit over a backend whose every commit the test lets through by hand."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from agentd.clock import SystemClock
from agentd.protocol.errors import AgentdError, Conflict, StorageUnavailable
from agentd.store import log
from agentd.store.figures import CommitFigures
from agentd.store.log import GroupCommit, Position
from agentd.store.store import Append
from agentd.supervisor import Supervisor
from tests.store.making import step


class SlowDisk:
    """Commits when it is told to; counts what it is asked."""

    def __init__(self) -> None:
        self.batches: list[list[Append]] = []
        self.stands: dict[str, Position] = {}
        self.asked: list[list[str]] = []
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.failures: list[Exception] = []

    async def positions(self, sessions: list[str]) -> dict[str, Position]:
        self.asked.append(sessions)
        return {key: self.stands[key] for key in sessions if key in self.stands}

    async def commit(self, batch: list[Append]) -> list[AgentdError | None]:
        self.batches.append(batch)
        self.begun.set()
        await self.go.wait()
        return await self.finish()

    async def finish(self) -> list[AgentdError | None]:
        if self.failures:
            raise self.failures.pop(0)
        for append in self.batches[-1]:
            self.stands[append.session] = Position(append.records[-1].seq, append.term)
        return [None] * len(self.batches[-1])

    async def checkpoint(self) -> None:
        """Nothing to bring in."""


@pytest.fixture
async def disk() -> SlowDisk:
    return SlowDisk()


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(SystemClock(), lambda reason: None)
    yield supervisor
    await supervisor.stop(5)


@pytest.fixture
async def commits(disk: SlowDisk, supervisor: Supervisor) -> GroupCommit:
    return GroupCommit(disk, CommitFigures(), SystemClock(), supervisor)


async def test_what_comes_while_a_commit_is_under_way_goes_into_the_next(disk: SlowDisk, commits: GroupCommit) -> None:
    first = asyncio.ensure_future(commits.append(step("a", 1)))
    await disk.begun.wait()
    others = [asyncio.ensure_future(commits.append(step(f"s{i}", 1))) for i in range(30)]
    await asyncio.sleep(0)
    assert not first.done()
    disk.go.set()
    await asyncio.gather(first, *others)
    assert [len(batch) for batch in disk.batches] == [1, 30]


async def test_awaiters_hear_in_the_order_of_their_appends(disk: SlowDisk, commits: GroupCommit) -> None:
    heard: list[int] = []
    waiting = [asyncio.ensure_future(commits.append(step(f"s{i}", 1))) for i in range(20)]
    for i, item in enumerate(waiting):
        item.add_done_callback(lambda _, i=i: heard.append(i))  # type: ignore[misc]
    disk.go.set()
    await asyncio.gather(*waiting)
    await asyncio.sleep(0)
    assert heard == list(range(20))


async def test_a_failed_commit_fails_its_batch_and_the_next_is_tried_anew(disk: SlowDisk, commits: GroupCommit) -> None:
    disk.go.set()
    await commits.append(step("a", 1))
    disk.failures.append(StorageUnavailable("the disk is full"))
    outcome = await asyncio.gather(commits.append(step("a", 2)), commits.append(step("b", 1)), return_exceptions=True)
    assert [type(item) for item in outcome] == [StorageUnavailable] * 2
    await asyncio.gather(commits.append(step("a", 2)), commits.append(step("b", 1)))
    assert disk.asked == [["a"], ["b"], ["a", "b"]], "after a failure the disk is asked where a session stands"


async def test_a_fault_of_ours_leaves_nobody_waiting(disk: SlowDisk, commits: GroupCommit) -> None:
    disk.go.set()
    disk.failures.append(RuntimeError("a fault"))
    with pytest.raises(StorageUnavailable, match="interrupted"):
        await commits.append(step("a", 1))
    await commits.append(step("a", 1))


async def test_a_writer_that_is_cancelled_in_a_commit_tells_what_became_of_it(
    disk: SlowDisk, commits: GroupCommit, supervisor: Supervisor
) -> None:
    under_way = asyncio.ensure_future(commits.append(step("a", 1)))
    await disk.begun.wait()
    behind = asyncio.ensure_future(commits.append(step("b", 1)))
    await asyncio.sleep(0)
    await supervisor.stop(5)
    await under_way
    assert disk.stands["a"] == Position(1, 1)
    disk.go.set()
    await commits.close()
    await behind
    assert disk.stands["b"] == Position(1, 1)


async def test_an_append_after_the_writer_ended_is_refused_at_once(
    commits: GroupCommit, supervisor: Supervisor
) -> None:
    await asyncio.sleep(0)
    await supervisor.stop(5)
    with pytest.raises(StorageUnavailable):
        await commits.append(step("a", 1))


async def test_a_stopped_log_commits_nothing_more(disk: SlowDisk, commits: GroupCommit) -> None:
    disk.go.set()
    waiting = asyncio.ensure_future(commits.append(step("a", 1)))
    await asyncio.sleep(0)
    commits.stop("the log has stopped: the disk reports an error")
    for attempt in (waiting, commits.append(step("b", 1))):
        with pytest.raises(StorageUnavailable, match="stopped") as caught:
            await attempt
        assert not caught.value.may_retry
    assert disk.batches == []


async def test_the_number_of_waiting_appends_is_bounded(
    disk: SlowDisk, commits: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "WAITING_MAX", 2)
    waiting = [asyncio.ensure_future(commits.append(step(f"s{i}", 1))) for i in range(3)]
    await asyncio.wait([waiting[2]])
    assert isinstance(waiting[2].exception(), StorageUnavailable)
    disk.go.set()
    await asyncio.gather(*waiting[:2])


async def test_positions_in_memory_are_bounded_and_read_again(
    disk: SlowDisk, commits: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "POSITIONS_MAX", 2)
    disk.go.set()
    for key in ("a", "b", "c"):
        await commits.append(step(key, 1))
    await commits.append(step("a", 2))
    with pytest.raises(Conflict):
        await commits.append(step("b", 1))
    assert disk.asked == [["a"], ["b"], ["c"], ["a"], ["b"]]


async def test_a_batch_is_bounded_in_bytes(
    disk: SlowDisk, commits: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "COMMIT_BYTES_MAX", 3_000)
    disk.go.set()
    await asyncio.gather(*(commits.append(step(f"s{i}", 1, words="x" * 1000)) for i in range(4)))
    assert [len(batch) for batch in disk.batches] == [2, 2]


async def test_conflicts_of_a_session_with_a_higher_term_are_told_apart(disk: SlowDisk, commits: GroupCommit) -> None:
    disk.go.set()
    disk.stands["a"] = Position(7, 3)
    with pytest.raises(Conflict) as stale:
        await commits.append(step("a", 8, term=2))
    assert stale.value.details is not None
    assert stale.value.details["reason"] == "term"
    await commits.append(step("a", 8, term=3))
    assert disk.stands["a"] == Position(8, 3)
