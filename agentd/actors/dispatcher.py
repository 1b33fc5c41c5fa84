"""Permits across all sessions: who may run an attempt now, and who is next (design 2; rulings 25, 42).

A plain object: a free permit is a plain call. A session that waits stands in the ring once, with all that it lacks to
start something. What comes free is kept for the longest waiter for whom it suffices, until that session's next step,
and goes to the next one when it was not used. So each waiting session gets one permit before any gets its second (F7).
None is woken for a worker beside which it would get no model call: with 64 sessions that was every third of their
steps. Who needs both could be passed over for ever by those for whom one is enough: when a whole round went by the
longest waiter, what comes free is set aside for it piece by piece. While the server is paused nothing is handed out.
"""

from collections import deque
from collections.abc import Callable

Need = tuple[bool, bool]
"""A worker, a model permit."""

NOTHING: Need = (False, False)


class Permits:
    """A fixed number of numbered permits (1 to capacity). `waiting`: how many sessions in the ring lack one."""

    def __init__(self, capacity: int, freed: Callable[[], None]) -> None:
        self.capacity = capacity
        self.held = False
        self.waiting = 0
        self.free = deque(range(1, capacity + 1))
        self._freed = freed
        self._kept: dict[str, list[int]] = {}

    @property
    def in_use(self) -> int:
        return self.capacity - len(self.free) - sum(map(len, self._kept.values()))

    def available(self, key: str) -> tuple[int, ...]:
        """What `key` could take now: those kept for it, and the free ones; whoever waits has no use for these."""
        if self.held:
            return ()
        kept = self._kept.get(key)
        return tuple(self.free) if kept is None else (*kept, *self.free)

    def take(self, key: str, numbers: frozenset[int]) -> None:
        """Take permits that `available` named in this same loop turn."""
        kept = self._kept.get(key, [])
        for number in numbers:
            if number in kept:
                kept.remove(number)
            else:
                self.free.remove(number)
        if not kept:
            self._kept.pop(key, None)

    def has(self, key: str) -> bool:
        """There is one for `key`, free or kept for it."""
        return bool(self.free) or key in self._kept

    def keep(self, key: str) -> None:
        """Set one aside for `key`, when none is and one is free."""
        if self.free and key not in self._kept:
            self._kept[key] = [self.free.popleft()]

    def let_go(self, key: str) -> None:
        """What was kept for `key` and not used is free again."""
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.free.extend(kept)

    def give_back(self, numbers: frozenset[int]) -> None:
        self.free.extend(sorted(numbers))
        self._freed()


class Dispatcher:
    """Workers, model permits, who waits for them, and the room that the global cap leaves for queued tasks."""

    def __init__(self, workers: int, model_calls: int, queued_global: int) -> None:
        self.workers = Permits(workers, self._hand_out)
        self.models = Permits(model_calls, self._hand_out)
        self.queued = 0
        self._queued_max = queued_global
        self._no_room: dict[str, Callable[[], None]] = {}
        # One row of waiters for each need, in the order they came (numbered across the rows): the next one is found
        # without a look at those whose need is not met.
        self._rows: dict[Need, dict[str, tuple[int, Callable[[], None]]]] = {}
        self._stands: dict[str, Need] = {}
        self._came = 0
        self._oldest = ""
        self._passed = 0  # how often others were served while it waited
        self._round = workers + model_calls

    @property
    def waiting(self) -> int:
        return len(self._stands)

    def others_wait(self, permits: Permits, key: str) -> bool:
        """Somebody else lacks one: what `key` gives back is theirs first."""
        worker, model = self._stands.get(key, NOTHING)
        return permits.waiting > (worker if permits is self.workers else model)

    def settle(self, key: str, need: Need, wake: Callable[[], None]) -> None:
        """After a step of `key`: what was kept for it and not used goes on; it waits for what it lacks. One call of
        `wake` follows when that is there, which may be at once."""
        self.workers.let_go(key)
        self.models.let_go(key)
        if need != self._stands.get(key, NOTHING):
            self._leave(key)
            if need != NOTHING:
                self._came += 1
                self._rows.setdefault(need, {})[key] = self._came, wake
                self._stands[key] = need
                self._count(need, 1)
        self._hand_out()

    def give_back(self, workers: frozenset[int], models: frozenset[int]) -> None:
        """Together, so that who waits for both gets both."""
        self.workers.free.extend(sorted(workers))
        self.models.free.extend(sorted(models))
        self._hand_out()

    def meets(self, key: str, need: Need) -> bool:
        """What `key` lacks is there, kept for it or free."""
        worker, model = need
        return (not worker or bool(self.workers.available(key))) and (not model or bool(self.models.available(key)))

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
        """Hand out nothing while the server is paused; on going on the longest waiters come first."""
        self.workers.held = self.models.held = held
        self._hand_out()

    def forget(self, key: str) -> None:
        """A session left memory: nothing is kept for it."""
        self.settle(key, NOTHING, _nobody)
        self.wait_for_room(key, None)

    def _hand_out(self) -> None:
        while self._stands and not self.workers.held:
            heads = [
                (came, key, need) for need, row in self._rows.items() if row
                for key, (came, _) in [next(iter(row.items()))]
            ]  # fmt: skip
            _, oldest, lacking = min(heads)
            if oldest != self._oldest:
                self._oldest, self._passed = oldest, 0
            if self._passed >= self._round:
                self._set_aside(oldest, lacking)
            served = [head for head in heads if self._met(head[1], head[2])]
            if not served:
                return
            _, key, need = min(served)
            self._passed += key != oldest
            wake = self._rows[need][key][1]
            self._leave(key)
            self._set_aside(key, need)
            wake()

    def _met(self, key: str, need: Need) -> bool:
        worker, model = need
        return (not worker or self.workers.has(key)) and (not model or self.models.has(key))

    def _set_aside(self, key: str, need: Need) -> None:
        worker, model = need
        if worker:
            self.workers.keep(key)
        if model:
            self.models.keep(key)

    def _leave(self, key: str) -> None:
        need = self._stands.pop(key, None)
        if need is not None:
            del self._rows[need][key]
            self._count(need, -1)

    def _count(self, need: Need, more: int) -> None:
        worker, model = need
        self.workers.waiting += more * worker
        self.models.waiting += more * model


def _nobody() -> None:
    """Nobody waits."""
