"""What a process is made of: its clock, its tasks, the disk that outlives it. It can be killed at any moment.

Killed, it does nothing any more that anybody could see: its timers do not ring, it starts no task, its sockets are
gone; its tasks only unwind. The disk is taken as it was at that moment.
"""

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from agentd.clock import ulid
from agentd.protocol.errors import AgentdError, StorageUnavailable
from agentd.store.store import Append
from agentd.supervisor import Supervisor
from tests.simulation.loop import SimLoop
from tests.store.memory_store import Disk, MemoryStore

EPOCH_MS = 1_700_000_000_000


class SimClock:
    """A `Clock` over the loop's time and a seed. `jump_ms` is what the wall clock is off by."""

    def __init__(self, loop: SimLoop, chance: random.Random) -> None:
        self.jump_ms = 0
        self.dead = False
        self._loop = loop
        self._chance = chance
        self._last_ms = 0
        self._counter = 0

    def now_ms(self) -> int:
        return EPOCH_MS + self.jump_ms + round(self._loop.time() * 1000)

    def monotonic_s(self) -> float:
        return self._loop.time()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)

    def call_later(self, delay_s: float, call: Callable[[], object]) -> asyncio.TimerHandle:
        return self._loop.call_later(max(delay_s, 0.0), self._ring, call)

    def random(self) -> float:
        return self._chance.random()

    def new_id(self, prefix: str) -> str:
        now = self.now_ms()
        if now > self._last_ms:
            self._last_ms, self._counter = now, self._chance.getrandbits(40)
        else:
            self._counter += 1
        return f"{prefix}_{ulid(self._last_ms, self._counter, self._chance.getrandbits(36))}"

    def new_secret(self) -> str:
        return f"{self._chance.getrandbits(250):043x}"[:43]

    def _ring(self, call: Callable[[], object]) -> None:
        if not self.dead:
            call()


def drop_handed_on(work: Any) -> None:
    """Close the coroutines that were handed to one which will never begin."""
    if inspect.iscoroutine(work) and inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
        frame = work.cr_frame
        for value in list(frame.f_locals.values()) if frame is not None else ():
            if inspect.iscoroutine(value):
                drop_handed_on(value)
                value.close()


class Mortal(Supervisor):
    """A supervisor whose process may be killed."""

    dead = False

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        if not self.dead:
            return super().start(name, work)
        drop_handed_on(work)
        work.close()
        gone: Any = asyncio.get_running_loop().create_future()
        gone.cancel()
        return gone  # type: ignore[no-any-return]

    def kill(self) -> None:
        self.dead = self._stopping = True
        for task in list(self._tasks):
            drop_handed_on(task.get_coro())
            task.cancel()


class Faults:
    """How well disk and model do now; chances between 0 and 1, seconds."""

    def __init__(self) -> None:
        self.commit_fails = 0.0
        self.commit_s = 0.003
        self.read_fails = 0.0
        self.read_s = 0.002
        self.model_fails = 0.0
        self.model_hangs = 0.0
        self.model_s = 0.2

    def heal(self) -> None:
        self.__init__()  # type: ignore[misc]
        self.model_s = 0.05


READS = (
    "load", "read", "read_run", "kept_run", "sessions", "unfinished", "run", "runs", "key", "entries", "path", "query",
    "tree", "sessions_at", "blank", "keep_snapshot",
)  # fmt: skip


class SimStore(MemoryStore):
    """The store of one process: commits and reads take time and may fail; `committed` hears of each append in the same
    turn in which it is on the disk, `acknowledged` when its actor does."""

    def __init__(
        self,
        clock: SimClock,
        supervisor: Supervisor,
        chance: random.Random,
        faults: Faults,
        committed: Callable[[Append], None],
        submitted: Callable[[Append], None],
        disk: Disk | None,
        log_id: str,
    ) -> None:
        super().__init__(clock=clock, supervisor=supervisor, disk=disk, log_id=log_id)
        self.ready = False
        self.dead = False
        self._chance = chance
        self._faults = faults
        self._committed = committed
        self._submitted = submitted
        for name in READS:
            setattr(self, name, self._slow(getattr(self, name)))

    def kept(self) -> Disk:
        """What the next process finds."""
        return self.disk.copy()

    async def append(self, append: Append) -> None:
        self._submitted(append)
        await super().append(append)

    async def _commit(self, batch: list[Append]) -> list[AgentdError | None]:
        await self._pause(self._faults.commit_s)
        if self.ready and self._chance.random() < self._faults.commit_fails:
            raise StorageUnavailable("the disk is full", hint="free space")
        outcome = await super()._commit(batch)
        if not self.dead:
            for append, refusal in zip(batch, outcome, strict=True):
                if refusal is None:
                    self._committed(append)
        await self._pause(self._faults.commit_s)
        return outcome

    def _slow(self, read: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def slowly(*args: Any, **more: Any) -> Any:
            await self._pause(self._faults.read_s)
            if self.ready and self._chance.random() < self._faults.read_fails:
                raise StorageUnavailable("the disk can't be read now")
            found = await read(*args, **more)
            await self._pause(self._faults.read_s)
            return found

        return slowly

    async def _pause(self, scale_s: float) -> None:
        """Often not at all, mostly about the scale, now and then a hundred times as long."""
        luck = self._chance.random()
        if luck < 0.3:
            return
        wait_s = scale_s * self._chance.random() * (100 if luck > 0.98 else 1)
        await asyncio.sleep(min(wait_s, 4.0))
