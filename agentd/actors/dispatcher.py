"""Permits across all sessions: who may run an attempt now, and who is next (design 2; rulings 25, 42).

A plain object: a free permit is a plain call. Sessions that wait stand in a ring, each once; a permit that comes free
is kept for the one that has waited longest until its next step, and goes to the next one when it was not used. So each
waiting session gets one permit before any gets its second (F7). While the server is paused nothing is handed out.
"""

from collections import deque
from collections.abc import Callable


class Permits:
    """A fixed number of numbered permits (1 to capacity) and the ring of those who wait for one."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.held = False
        self._free = deque(range(1, capacity + 1))
        self._ring: dict[str, Callable[[], None]] = {}
        self._kept: dict[str, list[int]] = {}

    @property
    def in_use(self) -> int:
        return self.capacity - len(self._free) - sum(map(len, self._kept.values()))

    @property
    def exhausted(self) -> bool:
        """All are at work: none is free, none is kept for anybody."""
        return self.in_use == self.capacity

    @property
    def waiting(self) -> int:
        return len(self._ring)

    def others_wait(self, key: str) -> bool:
        """Somebody else stands in the ring: what `key` gives back is theirs first."""
        return len(self._ring) > (key in self._ring)

    def available(self, key: str) -> tuple[int, ...]:
        """What `key` could take now: those kept for it, and the free ones that nobody waits for."""
        if self.held:
            return ()
        free = () if self._ring and key not in self._ring else tuple(self._free)
        return (*self._kept.get(key, ()), *free)

    def take(self, key: str, numbers: frozenset[int]) -> None:
        """Take permits that `available` named in this same loop turn."""
        kept = self._kept.get(key, [])
        for number in numbers:
            if number in kept:
                kept.remove(number)
            else:
                self._free.remove(number)
        if not kept:
            self._kept.pop(key, None)

    def give_back(self, numbers: frozenset[int]) -> None:
        self._free.extend(sorted(numbers))
        self._hand_out()

    def settle(self, key: str, wake: Callable[[], None] | None) -> None:
        """After a step of `key`: what was kept for it and not used goes on; `wake` when it waits for one more."""
        unused = self._kept.pop(key, [])
        self._free.extend(unused)
        if wake is None:
            self._ring.pop(key, None)
        elif key not in self._ring:
            self._ring[key] = wake
        self._hand_out()

    def hold(self, held: bool) -> None:
        """Hand out nothing while the server is paused; on going on the longest waiters come first."""
        self.held = held
        if not held:
            self._hand_out()

    def _hand_out(self) -> None:
        while self._free and self._ring and not self.held:
            key = next(iter(self._ring))
            wake = self._ring.pop(key)
            self._kept.setdefault(key, []).append(self._free.popleft())
            wake()


class Dispatcher:
    """Workers, model permits, and the room that the global cap leaves for queued tasks."""

    def __init__(self, workers: int, model_calls: int, queued_global: int) -> None:
        self.workers = Permits(workers)
        self.models = Permits(model_calls)
        self.queued = 0
        self._queued_max = queued_global
        self._no_room: dict[str, Callable[[], None]] = {}

    @property
    def room(self) -> int:
        """How many more tasks may be queued in the whole server."""
        return max(self._queued_max - self.queued, 0)

    def requeue(self, more: int) -> None:
        """The number of queued tasks changed; the longest waiter for room hears of it."""
        self.queued += more
        if more < 0 and self._no_room and self.room:
            self._no_room.pop(next(iter(self._no_room)))()

    def wait_for_room(self, key: str, wake: Callable[[], None] | None) -> None:
        if wake is None:
            self._no_room.pop(key, None)
        else:
            self._no_room.setdefault(key, wake)

    def hold(self, held: bool) -> None:
        self.workers.hold(held)
        self.models.hold(held)

    def forget(self, key: str) -> None:
        """A session left memory: nothing is kept for it."""
        self.workers.settle(key, None)
        self.models.settle(key, None)
        self.wait_for_room(key, None)
