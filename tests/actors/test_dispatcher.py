"""Permits across sessions: fair, exact, and held while the server is paused."""

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agentd.actors.dispatcher import NOTHING, Dispatcher, Need

WORKER: Need = (True, False)
MODEL: Need = (False, True)
BOTH: Need = (True, True)


def test_each_waiting_session_gets_one_permit_before_any_gets_its_second() -> None:
    dispatcher = Dispatcher(2, 2, 10)
    workers = dispatcher.workers
    woken: list[str] = []
    workers.take("big", frozenset(workers.available("big")))
    for name in ("big", "b", "c"):
        dispatcher.settle(name, WORKER, waker(woken, name))
    workers.give_back(frozenset({1}))
    workers.give_back(frozenset({2}))
    assert woken == ["big", "b"]
    workers.take("big", frozenset(workers.available("big")))
    dispatcher.settle("big", WORKER, waker(woken, "big"))
    dispatcher.settle("b", NOTHING, waker(woken, "b"))  # it did not need it after all
    assert woken == ["big", "b", "c"]


def test_who_needs_a_worker_and_a_model_is_woken_once_for_both() -> None:
    dispatcher = Dispatcher(1, 1, 10)
    woken: list[str] = []
    dispatcher.workers.take("a", frozenset({1}))
    dispatcher.models.take("b", frozenset({1}))
    dispatcher.settle("task", BOTH, waker(woken, "task"))
    dispatcher.settle("answer", MODEL, waker(woken, "answer"))
    dispatcher.workers.give_back(frozenset({1}))
    assert woken == []
    dispatcher.models.give_back(frozenset({1}))
    assert woken == ["task"]
    assert (dispatcher.workers.available("task"), dispatcher.models.available("task")) == ((1,), (1,))
    dispatcher.models.take("task", frozenset({1}))
    dispatcher.settle("task", BOTH, waker(woken, "task"))
    dispatcher.models.give_back(frozenset({1}))
    assert woken == ["task", "answer"]


def test_who_waits_for_what_is_not_there_stands_in_nobodys_way() -> None:
    dispatcher = Dispatcher(1, 1, 10)
    woken: list[str] = []
    dispatcher.models.take("b", frozenset({1}))
    dispatcher.settle("task", BOTH, waker(woken, "task"))
    assert dispatcher.workers.available("tool") == (1,)
    dispatcher.settle("tool", WORKER, waker(woken, "tool"))
    assert woken == ["tool"]


def test_who_needs_both_is_served_within_a_round_however_many_want_only_one() -> None:
    """Whenever a worker came free a tool took it, whenever a model permit came free a chat did."""
    dispatcher = Dispatcher(2, 2, 10)
    woken: list[str] = []
    for permits in (dispatcher.workers, dispatcher.models):
        permits.take("busy", frozenset({1, 2}))
    dispatcher.settle("task", BOTH, waker(woken, "task"))
    for turn in range(8):
        for name, need, permits in (("tool", WORKER, dispatcher.workers), ("chat", MODEL, dispatcher.models)):
            dispatcher.settle(f"{name}{turn}", need, waker(woken, f"{name}{turn}"))
            permits.give_back(frozenset({1}))
            if "task" in woken:
                assert len(woken) <= 2 + 2 + 2, "a round, and what was on its way"
                return
            if woken and woken[-1] == f"{name}{turn}":
                permits.take(woken[-1], frozenset({1}))
    raise AssertionError("it was passed over for ever")


def test_nothing_is_handed_out_while_held() -> None:
    dispatcher = Dispatcher(1, 1, 10)
    dispatcher.hold(True)
    woken: list[str] = []
    dispatcher.settle("a", WORKER, waker(woken, "a"))
    assert dispatcher.workers.available("a") == ()
    assert woken == []
    dispatcher.hold(False)
    assert woken == ["a"]
    assert dispatcher.workers.available("a") == (1,)


def test_who_waits_for_room_is_woken_when_tasks_leave_the_queues() -> None:
    dispatcher = Dispatcher(1, 1, 2)
    woken: list[str] = []
    dispatcher.requeue(2)
    assert dispatcher.room == 0
    dispatcher.wait_for_room("a", waker(woken, "a"))
    dispatcher.requeue(-1)
    assert woken == ["a"]


def waker(woken: list[str], name: str) -> Callable[[], None]:
    return lambda: woken.append(name)


class Conservation(RuleBasedStateMachine):
    """However permits move, each number is in one place, and nobody waits while all that it lacks is free."""

    def __init__(self) -> None:
        super().__init__()
        self.dispatcher = Dispatcher(3, 2, 10)
        self.kinds = {"worker": self.dispatcher.workers, "model": self.dispatcher.models}
        self.held: dict[tuple[str, str], set[int]] = {(kind, name): set() for kind in self.kinds for name in "abcd"}
        self.waits: dict[str, Need] = {}

    @rule(kind=st.sampled_from(("worker", "model")), name=st.sampled_from("abcd"), count=st.integers(1, 3))
    def take(self, kind: str, name: str, count: int) -> None:
        numbers = frozenset(self.kinds[kind].available(name)[:count])
        self.kinds[kind].take(name, numbers)
        self.held[kind, name] |= numbers

    @rule(name=st.sampled_from("abcd"))
    def give_back(self, name: str) -> None:
        workers, models = (frozenset(self.held[kind, name]) for kind in self.kinds)
        self.held["worker", name].clear()
        self.held["model", name].clear()
        self.dispatcher.give_back(workers, models)

    @rule(name=st.sampled_from("abcd"), need=st.sampled_from((NOTHING, WORKER, MODEL, BOTH)))
    def settle(self, name: str, need: Need) -> None:
        self.waits.pop(name, None)
        if need != NOTHING:
            self.waits[name] = need
        self.dispatcher.settle(name, need, lambda: self.woken(name))

    def woken(self, name: str) -> None:
        assert self.dispatcher.meets(name, self.waits.pop(name))

    @rule(held=st.booleans())
    def hold(self, held: bool) -> None:
        self.dispatcher.hold(held)

    @invariant()
    def nothing_is_doubled(self) -> None:
        for kind, permits in self.kinds.items():
            out = [number for (of, _), numbers in self.held.items() if of == kind for number in numbers]
            assert len(out) == len(set(out)) == permits.in_use

    @invariant()
    def those_who_wait_are_counted(self) -> None:
        assert self.dispatcher.waiting == len(self.waits)
        for place, permits in enumerate(self.kinds.values()):
            assert permits.waiting == sum(need[place] for need in self.waits.values())

    @invariant()
    def nobody_waits_beside_what_it_lacks(self) -> None:
        if not self.dispatcher.workers.held:
            assert not any(self.dispatcher.meets(name, need) for name, need in self.waits.items())


TestConservation = Conservation.TestCase
TestConservation.settings = settings(max_examples=60, deadline=None)
