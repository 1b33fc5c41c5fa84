"""The timer of a session: set once for one time, and again when it rang early."""

from collections.abc import Callable

from agentd.actors.alarm import Alarm


class Timers:
    """Counts what is set; nothing goes by itself."""

    def __init__(self) -> None:
        self.set: list[tuple[float, Callable[[], object]]] = []
        self.cancelled = 0

    def monotonic_s(self) -> float:
        return 0.0

    def call_later(self, delay_s: float, call: Callable[[], object]) -> "Timers":
        self.set.append((delay_s, call))
        return self

    def cancel(self) -> None:
        self.cancelled += 1


def test_the_same_time_again_leaves_the_timer_as_it_is() -> None:
    timers, rung = Timers(), list[str]()
    alarm = Alarm(timers, lambda: rung.append("now"))  # type: ignore[arg-type]
    alarm.set(5_000, 1_000)
    alarm.set(5_000, 2_000)
    assert [delay for delay, _ in timers.set] == [4.0]
    alarm.set(6_000, 2_000)
    assert (len(timers.set), timers.cancelled) == (2, 1)
    alarm.set(None, 3_000)
    assert (alarm.is_set, timers.cancelled) == (False, 2)


def test_an_alarm_that_rang_early_is_set_again_and_its_session_still_counts_as_timed() -> None:
    timers, rung = Timers(), list[str]()
    alarm = Alarm(timers, lambda: rung.append("now"))  # type: ignore[arg-type]
    alarm.set(5_000, 1_000)
    timers.set[0][1]()
    assert (rung, alarm.is_set) == (["now"], True)
    alarm.set(5_000, 4_999)
    assert [delay for delay, _ in timers.set] == [4.0, 0.001]
