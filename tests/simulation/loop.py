"""An event loop without threads, sockets or real time: time jumps to the next timer, a seed decides who runs first.

What always holds: `time()` moves only when nothing is ready, and then to the next timer. All that is ready in one turn
runs in that turn, as on asyncio's own loop; what it makes ready runs in the next. Only the order *within* a turn is
the seed's. It is kept where asyncio documents one: of the callbacks that are no steps of tasks (done callbacks of a
future, `call_soon`) each stays behind those that were scheduled before it. Steps of different tasks, and timers of the
same instant, run in any order, because no code may rely on theirs.
"""

import asyncio
import heapq
import random
from asyncio.base_events import BaseEventLoop
from collections.abc import Callable
from typing import Any

TURNS_PER_SECOND_MAX = 20_000
"""More turns within one virtual second mean that something spins: a busy loop, or a wake that wakes itself."""


class Spinning(Exception):
    """Time does not go on, because something is always ready."""


class SimLoop(BaseEventLoop):
    """Run it with `run_until_complete`. `turns` counts the turns; `failed` hears of exceptions nobody awaits."""

    def __init__(self, chance: random.Random, failed: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self.turns = 0
        self.after_turn: Callable[[], None] | None = None
        self._now = 0.0
        self._chance = chance
        self._second = 0
        self._turns_before = 0
        self._spun: str | None = None
        self.set_exception_handler(lambda loop, context: failed(context))

    def time(self) -> float:
        return self._now

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """There are no threads: it is done at once, and heard of in a later turn."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def go_on(self) -> None:
        """Take back a `stop` that was asked for while it did not run any more."""
        self._stopping = False
        self._turns_before = self.turns

    def _run_once(self) -> None:
        self._let_time_pass()
        for handle in self._turn():
            if not handle._cancelled:
                handle._run()
        self.turns += 1
        if self.after_turn is not None:
            self.after_turn()

    def _let_time_pass(self) -> None:
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        ready = self._ready  # type: ignore[attr-defined]
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)._scheduled = False  # type: ignore[attr-defined]
        if not ready and not self._stopping:
            if not timers:
                raise RuntimeError("nothing is ready and no timer is set: the simulation waits for ever")
            self._now = max(self._now, timers[0].when())
        while timers and timers[0].when() <= self._now:
            handle = heapq.heappop(timers)
            handle._scheduled = False  # type: ignore[attr-defined]
            ready.append(handle)
        self._watch()

    def _watch(self) -> None:
        """A bound on the turns of one virtual second, as a real watchdog has one on its seconds."""
        second = int(self._now)
        if second != self._second:
            self._second, self._turns_before = second, self.turns
        elif self.turns - self._turns_before > TURNS_PER_SECOND_MAX:
            raise Spinning(f"{TURNS_PER_SECOND_MAX} turns at second {second}, ready: {list(self._ready)[:5]}")  # type: ignore[attr-defined]

    def _turn(self) -> list[asyncio.Handle]:
        """What is ready, in the order of the seed; plain callbacks keep theirs among each other."""
        ready = self._ready  # type: ignore[attr-defined]
        found: list[asyncio.Handle] = list(ready)
        ready.clear()
        if len(found) < 2:
            return found
        order = list(range(len(found)))
        self._chance.shuffle(order)
        places = sorted(place for place, which in enumerate(order) if _ordered(found[which]))
        plain = sorted(which for which in order if _ordered(found[which]))
        for place, which in zip(places, plain, strict=True):
            order[place] = which
        return [found[which] for which in order]

    def _process_events(self, event_list: Any) -> None:
        """There is no selector."""

    def _write_to_self(self) -> None:
        """There are no other threads to be woken by."""


def _ordered(handle: asyncio.Handle) -> bool:
    if isinstance(handle, asyncio.TimerHandle):
        return False
    return not isinstance(getattr(handle._callback, "__self__", None), asyncio.Task)  # type: ignore[attr-defined]
