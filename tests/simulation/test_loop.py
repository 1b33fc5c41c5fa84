"""The loop of the simulation: time that jumps, order that the seed decides, and what asyncio promises kept."""

import asyncio
import random

import pytest

from tests.simulation import loop as loops
from tests.simulation.loop import SimLoop, Spinning
from tests.simulation.process import SimClock


def made(seed: int = 1) -> SimLoop:
    return SimLoop(random.Random(seed), lambda context: None)


def test_time_jumps_to_the_next_timer() -> None:
    loop = made()
    told: list[float] = []

    async def wait(seconds: float) -> None:
        await SimClock(loop, random.Random(1)).sleep(seconds)
        told.append(loop.time())

    async def both() -> None:
        await asyncio.gather(wait(86_400.0), wait(5.0))

    loop.run_until_complete(both())
    loop.close()
    assert told == [5.0, 86_400.0]


def test_the_seed_decides_which_task_goes_first() -> None:
    orders = set()
    for seed in range(20):
        loop, told = made(seed), list[int]()

        async def note(number: int, told: list[int] = told) -> None:
            told.append(number)

        async def three(note: object = note) -> None:
            await asyncio.gather(*(note(number) for number in range(3)))  # type: ignore[operator]

        loop.run_until_complete(three())
        loop.close()
        orders.add(tuple(told))
    assert len(orders) == 6


def test_plain_callbacks_keep_their_order() -> None:
    for seed in range(20):
        loop, told = made(seed), list[int]()

        async def wait(loop: SimLoop = loop) -> None:
            await SimClock(loop, random.Random(1)).sleep(1.0)

        for number in range(4):
            loop.call_soon(told.append, number)
        loop.run_until_complete(wait())
        loop.close()
        assert told == [0, 1, 2, 3]


def test_what_spins_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "TURNS_PER_SECOND_MAX", 100)
    loop = made()

    async def spin() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0)

    task = loop.create_task(spin())
    with pytest.raises(Spinning):
        loop.run_until_complete(task)
    task.cancel()
    monkeypatch.undo()
    loop.run_until_complete(asyncio.wait([task]))
    loop.close()


def test_a_wait_for_what_never_comes_is_told() -> None:
    loop = made()

    async def wait() -> None:
        await loop.create_future()

    task = loop.create_task(wait())
    with pytest.raises(RuntimeError, match="for ever"):
        loop.run_until_complete(task)
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    loop.close()
