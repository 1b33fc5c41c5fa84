"""A deadline that moves: it fires when it should, and not before."""

import asyncio
from collections.abc import Callable

import pytest

from agentd.clock import SystemClock, Timer
from agentd.providers.patience import Patience


class HandMoved(SystemClock):
    """Time stands still until `move`; due timers are called then."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.timers: list[Set] = []

    def monotonic_s(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, call: Callable[[], object]) -> Timer:
        self.timers.append(Set(self, self.now_s + delay_s, call))
        return self.timers[-1]

    def move(self, seconds: float) -> None:
        self.now_s += seconds
        for timer in [timer for timer in self.timers if timer.when_s <= self.now_s]:
            self.timers.remove(timer)
            timer.call()


class Set:
    def __init__(self, clock: HandMoved, when_s: float, call: Callable[[], object]) -> None:
        self.clock, self.when_s, self.call = clock, when_s, call

    def cancel(self) -> None:
        if self in self.clock.timers:
            self.clock.timers.remove(self)


async def outcome(clock: HandMoved, steps: list[tuple[str, float]], first_s: float = 10, ends_s: float = 100) -> str:
    """Take the steps within a block that waits for ever; say how the block ended, if it did."""
    within = asyncio.Event()
    made: list[Patience] = []

    async def block() -> None:
        async with Patience(clock, first_s, ends_s) as patience:
            made.append(patience)
            within.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(block())
    await within.wait()
    for step, seconds in steps:
        made[0].allow(seconds) if step == "allow" else clock.move(seconds)
    done, _ = await asyncio.wait([task], timeout=0.02)
    if not done:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert clock.timers == []
        return "waits"
    assert made[0].expired
    assert clock.timers == []
    return type(task.exception()).__name__


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([("move", 9.9)], "waits"),
        ([("move", 10)], "TimeoutError"),
        ([("move", 9), ("allow", 10), ("move", 9)], "waits"),
        ([("move", 9), ("allow", 10), ("move", 1), ("move", 9)], "TimeoutError"),
        ([("allow", 2), ("move", 2)], "TimeoutError"),
        ([("allow", 2), ("move", 1), ("allow", 9), ("move", 2)], "waits"),
        ([("allow", 1000), ("move", 99)], "waits"),
        ([("allow", 1000), ("move", 100)], "TimeoutError"),
    ],
)
async def test_the_block_ends_when_the_last_allowed_time_is_over(steps: list[tuple[str, float]], expected: str) -> None:
    assert await outcome(HandMoved(), steps) == expected


async def test_moving_the_deadline_away_sets_no_timer() -> None:
    clock = HandMoved()
    async with Patience(clock, 10, 100) as patience:
        (timer,) = clock.timers
        for _ in range(50):
            clock.move(0.1)
            patience.allow(10)
        assert clock.timers == [timer]
