"""A clients' process: `python -m agentd.bench.worker` reads a job, connects, waits for the start, asks, checks, tells.

On its input one line with the job, then one with the moment to start on the machine's monotonic clock. On its output
lines: `ready`, progress, and at last the outcome, or why it could not. It ends by itself, also when its input closes.
"""

import asyncio
import os
import resource
import sys
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import msgspec

from agentd.bench.checker import Found, StreamChecker
from agentd.bench.client import NotOpened, connect
from agentd.bench.load import Job, Outcome
from agentd.bench.schedule import Arrivals, arrivals, bounds, total_s
from agentd.bench.talker import Book, FloorTalker, Follower, Talker, Watcher
from agentd.clock import Clock, SystemClock

try:
    import uvloop
except ImportError:  # the extra `fast` is not installed
    LOOP: Any = asyncio.new_event_loop
else:
    LOOP = uvloop.new_event_loop

CONNECTING_MAX = 64
PROGRESS_S = 0.25
SLOW_BUFFER = 4_096


class Said(msgspec.Struct, omit_defaults=True):
    """A line of a clients' process."""

    ready: bool = False
    failed: str | None = None
    share: float | None = None
    """Of the load that is done, 0 to 1."""
    open: int = 0
    outcome: Outcome | None = None


class Start(msgspec.Struct):
    at_s: float


class Load:
    """One job being done."""

    def __init__(self, job: Job, clock: Clock) -> None:
        self.job = job
        self.found = Found()
        self.book = Book(job.segments)
        self.talkers: list[Talker | FloorTalker] = []
        self.followers: list[Follower] = []
        self._clock = clock
        self._over_s = 0.0
        self._bounds = bounds(job.segments)

    async def connect(self) -> None:
        """Raises NotOpened."""
        gate = asyncio.Semaphore(CONNECTING_MAX)
        await asyncio.gather(*(self._session(gate, place, key) for place, key in enumerate(self.job.sessions)))

    async def run(self, start_s: float) -> Outcome:
        job, book = self.job, self.book
        book.start_s, self._over_s = start_s, start_s + total_s(job.segments)
        await self._until(start_s)
        cpu = os.times()
        slow = [talker for talker in self.talkers if talker.slow]
        for talker in slow:
            talker.socket.stop_reading()
        if job.how == "closed":
            await self._closed(start_s)
        else:
            await self._open(start_s)
        spent = os.times()
        share = (spent.user + spent.system - cpu.user - cpu.system) / max(self._clock.monotonic_s() - start_s, 1e-6)
        for talker in slow:
            talker.socket.read_on()
        await self._drained()
        return self._outcome(share)

    async def close(self) -> None:
        await asyncio.gather(*(each.socket.close() for each in [*self.talkers, *self.followers]))

    @property
    def share(self) -> float:
        whole = self._over_s - self.book.start_s
        return min(max((self._clock.monotonic_s() - self.book.start_s) / whole, 0.0), 1.0) if whole else 0.0

    # ---- connecting -------------------------------------------------------------------------------------------------

    async def _session(self, gate: asyncio.Semaphore, place: int, key: str) -> None:
        job = self.job
        address = f"{job.url.replace('http', 'ws', 1)}/v1/agents/default/stream?session={key}"
        slow = bool(job.slow_every) and place % job.slow_every == 0
        talker: Talker | FloorTalker
        if job.floor:
            talker = FloorTalker(self.book, job.ask)
        else:
            talker = Talker(self.book, job.ask, StreamChecker(self.found, key), slow=slow)
        async with gate:
            buffer = SLOW_BUFFER if slow else None
            talker.socket = await connect(address, job.token, talker, self._clock, receive_buffer=buffer)
            self.talkers.append(talker)
            for number in range(job.followers):
                follower = Follower(self.book, StreamChecker(self.found, f"{key}+{number}", alone=False))
                follower.socket = await connect(address, job.token, follower, self._clock)
                self.followers.append(follower)

    # ---- asking -----------------------------------------------------------------------------------------------------

    async def _open(self, start_s: float) -> None:
        job, clock = self.job, self._clock
        turns: Iterator[Talker | FloorTalker] = cycle(self.talkers)
        how: Arrivals = "constant" if job.how == "constant" else "poisson"
        for at_s, segment in arrivals(job.segments, how, job.seed, job.part):
            due_s = start_s + at_s
            now_s = clock.monotonic_s()
            if now_s < due_s:
                await clock.sleep(due_s - now_s)
                now_s = clock.monotonic_s()
            self._at(segment)
            next(turns).ask(due_s, now_s, segment)
        await self._until(self._over_s)

    async def _closed(self, start_s: float) -> None:
        for talker in self.talkers:
            talker.again = self._again
            self._again(talker, self._clock.monotonic_s())
        await self._until(self._over_s)

    def _again(self, talker: Talker | FloorTalker, now_s: float) -> None:
        if now_s >= self._over_s:
            return
        at_s = now_s - self.book.start_s
        segment = next(i for i, (_, end) in enumerate(self._bounds) if at_s < end or i == len(self._bounds) - 1)
        self._at(segment)
        talker.ask(now_s, now_s, segment)

    def _at(self, segment: int) -> None:
        for follower in self.followers:
            follower.segment = segment

    async def _until(self, at_s: float) -> None:
        await self._clock.sleep(max(at_s - self._clock.monotonic_s(), 0.0))

    # ---- the end ----------------------------------------------------------------------------------------------------

    async def _drained(self) -> None:
        """All that was accepted has ended and was seen everywhere, or the time for it is over."""
        end_s = self._clock.monotonic_s() + self.job.drain_s
        while self._clock.monotonic_s() < end_s and (self.book.open or self._behind()):
            await self._clock.sleep(0.02)
        for each in self._watched():
            each.checker.finish()

    def _behind(self) -> bool:
        return any(each.checker.open_runs for each in self._watched())

    def _watched(self) -> list[Watcher]:
        return [*(each for each in self.talkers if isinstance(each, Talker)), *self.followers]

    def _outcome(self, share: float) -> Outcome:
        for tally, recorders in zip(self.book.tallies, self.book.recorders, strict=True):
            recorders.encode_into(tally)
        talkers = [each for each in self.talkers if isinstance(each, Talker)]
        return Outcome(
            tallies=self.book.tallies,
            bins=self.book.bins,
            breaches=self.found.breaches(),
            accepted=self.book.accepted,
            ended=self.book.ended,
            facts=sum(talker.checker.facts for talker in talkers),
            lagged=sum(each.checker.lagged for each in self._watched()),
            bytes_received=sum(each.socket.bytes_received for each in [*self.talkers, *self.followers]),
            cpu_share=share,
        )


async def work(job: Job) -> None:
    """The whole life of the process."""
    clock = SystemClock()
    load = Load(job, clock)
    loop = asyncio.get_running_loop()
    try:
        await load.connect()
    except NotOpened as error:
        return say(Said(failed=str(error)))
    say(Said(ready=True))
    line = await loop.run_in_executor(None, sys.stdin.buffer.readline)
    if not line:
        return

    def progress() -> None:
        say(Said(share=load.share, open=load.book.open))
        clock.call_later(PROGRESS_S, progress)

    progress()
    outcome = await load.run(msgspec.json.decode(line, type=Start).at_s)
    say(Said(outcome=outcome))
    await load.close()


def say(said: Said) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    with asyncio.Runner(loop_factory=LOOP) as runner:
        runner.run(work(job))


if __name__ == "__main__":
    main()
