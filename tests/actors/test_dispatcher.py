"""Permits across sessions: fair, exact, and held while the server is paused."""

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agentd.actors.dispatcher import Dispatcher, Permits


def test_each_waiting_session_gets_one_permit_before_any_gets_its_second() -> None:
    permits = Permits(2)
    woken: list[str] = []
    permits.take("big", frozenset(permits.available("big")))
    for name in ("big", "b", "c"):
        permits.settle(name, waker(woken, name))
    permits.give_back(frozenset({1}))
    permits.give_back(frozenset({2}))
    assert woken == ["big", "b"]
    permits.take("big", frozenset(permits.available("big")))
    permits.settle("big", waker(woken, "big"))
    permits.settle("b", None)  # it did not need it after all
    assert woken == ["big", "b", "c"]


def test_nothing_is_handed_out_while_held() -> None:
    permits = Permits(1)
    permits.hold(True)
    woken: list[str] = []
    permits.settle("a", waker(woken, "a"))
    assert permits.available("a") == ()
    assert woken == []
    permits.hold(False)
    assert woken == ["a"]
    assert permits.available("a") == (1,)


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
    """However permits move, each number is in one place, and nobody waits while one is free."""

    def __init__(self) -> None:
        super().__init__()
        self.permits = Permits(3)
        self.held: dict[str, set[int]] = {name: set() for name in "abcd"}
        self.woken: list[str] = []

    @rule(name=st.sampled_from("abcd"), count=st.integers(1, 3))
    def take(self, name: str, count: int) -> None:
        numbers = frozenset(self.permits.available(name)[:count])
        self.permits.take(name, numbers)
        self.held[name] |= numbers

    @rule(name=st.sampled_from("abcd"))
    def give_back(self, name: str) -> None:
        numbers = frozenset(self.held[name])
        self.held[name].clear()
        self.permits.give_back(numbers)

    @rule(name=st.sampled_from("abcd"), waits=st.booleans())
    def settle(self, name: str, waits: bool) -> None:
        self.permits.settle(name, waker(self.woken, name) if waits else None)

    @rule(held=st.booleans())
    def hold(self, held: bool) -> None:
        self.permits.hold(held)

    @invariant()
    def nothing_is_doubled(self) -> None:
        out = [number for numbers in self.held.values() for number in numbers]
        assert len(out) == len(set(out)) == self.permits.in_use

    @invariant()
    def nobody_waits_beside_a_free_permit(self) -> None:
        if self.permits.waiting and not self.permits.held:
            assert not self.permits.available("nobody")


TestConservation = Conservation.TestCase
TestConservation.settings = settings(max_examples=60, deadline=None)
