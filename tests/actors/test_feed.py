"""Who follows sees what is published, in order, each reply in its place; never what is only stored."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from agentd.actors import feed as feeds
from agentd.actors.feed import Feed
from agentd.clock import SystemClock
from agentd.protocol.errors import StorageUnavailable
from agentd.store.store import Page, Store
from agentd.supervisor import Supervisor
from tests.store.making import body_of

BODIES = tuple(body_of("s", seq) for seq in (1, 2, 3))


class Log:
    """The facts of one session that are stored."""

    async def read(self, session: str, after: int, limit: int, limit_bytes: int) -> Page:
        return Page(after + 1, BODIES[after:])


class Reader:
    """A sink that takes everything."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.full = False
        self.closed = False
        self.on_drained: Callable[[], None] | None = None

    def send(self, frame: bytes, *, soon: bool = False) -> None:
        self.frames.append(frame)

    def close(self, code: int, reason: str, *, last: bytes | None = None) -> None:
        self.closed = True


async def test_a_page_that_holds_what_is_not_published_yet_costs_no_reply() -> None:
    """The commit has ended, its session has not heard of it; a follower that pages meanwhile reads ahead of it. It sent
    the fact without the `request` whose reply it is, and the reply never came."""
    clock = SystemClock()
    supervisor = Supervisor(clock, lambda name: None)
    feed = Feed("s", 2, cast(Store, Log()), clock, supervisor)
    reader = Reader()
    follower = feed.add(reader, 0)
    follower.follow()
    async with asyncio.timeout(5):
        while len(supervisor):  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert reader.frames == list(BODIES[:2])
    follower.answer_with(3, "q")
    feed.publish(3, BODIES[2:])
    assert len(reader.frames) == 3
    assert b'"request":"q"' in reader.frames[2]


async def test_who_was_behind_when_the_log_could_not_be_read_catches_up_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pager ended with the error, and nobody began another: it heard nothing more until it connected again."""
    monkeypatch.setattr(feeds, "READ_AGAIN_S", 0.01)
    clock = SystemClock()
    supervisor = Supervisor(clock, lambda name: None)
    log = Broken()
    feed = Feed("s", 3, cast(Store, log), clock, supervisor)
    reader = Reader()
    feed.add(reader, 0).follow()
    async with asyncio.timeout(5):
        await log.read_again.wait()
        while len(supervisor):  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert reader.frames == list(BODIES)


class Broken(Log):
    """It can't be read the first time."""

    def __init__(self) -> None:
        self.read_again = asyncio.Event()
        self._reads = 0

    async def read(self, session: str, after: int, limit: int, limit_bytes: int) -> Page:
        self._reads += 1
        if self._reads == 1:
            raise StorageUnavailable("the disk is away")
        self.read_again.set()
        return await super().read(session, after, limit, limit_bytes)


async def test_a_follower_that_is_level_again_but_full_hears_what_it_missed_once_it_drains() -> None:
    """It had missed words, was about to page, and became level by a resume while its outbox was full again: nothing
    came back to it, and `stream.lagged` was never told."""
    supervisor = Supervisor(SystemClock(), lambda name: None)
    feed = Feed("s", 2, cast(Store, Log()), SystemClock(), supervisor)
    reader = Reader()
    follower = feed.add(reader, 2)
    feed.begin_message("r", "m")
    feed.add_text("some words")
    reader.full = True
    feed.add_text(" and more")
    feed.end_message()
    feed.publish(3, BODIES[2:])
    drain(reader)
    reader.full = True
    follower.move(3)
    async with asyncio.timeout(5):
        while len(supervisor):  # noqa: ASYNC110
            await asyncio.sleep(0)
    drain(reader)
    assert [b'"stream.lagged"' in frame for frame in reader.frames] == [False, True]
    assert follower.live()


def drain(reader: Reader) -> None:
    """What the outbox does once it has room again."""
    reader.full = False
    if reader.on_drained is not None:
        reader.on_drained()
