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
