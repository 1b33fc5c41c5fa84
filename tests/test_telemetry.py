"""Figures: their names and bounds, the lag of the loop on a clock of the test, the collector."""

import asyncio
import gc
from collections.abc import Callable

import pytest

from agentd.clock import SystemClock, Timer
from agentd.settings import Limits
from agentd.telemetry import GC_THRESHOLDS, LAG_EVERY_S, LAG_KEPT, Collector, LoopLag, Metrics


class LateClock(SystemClock):
    """Sleeps as long as it is told to, plus the next lag; without lags left it waits for ever."""

    def __init__(self, lags: list[float]) -> None:
        super().__init__()
        self.now_s = 0.0
        self.lags = iter(lags)
        self.out_of_lags = asyncio.Event()

    def monotonic_s(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        lag = next(self.lags, None)
        if lag is None:
            self.out_of_lags.set()
            await asyncio.Event().wait()
        else:
            self.now_s += delay_s + lag

    def call_later(self, delay_s: float, call: Callable[[], object]) -> Timer:
        raise NotImplementedError


async def watched(lags: list[float]) -> tuple[LoopLag, Metrics]:
    metrics = Metrics()
    clock = LateClock(lags)
    lag = LoopLag(clock, metrics)
    task = asyncio.get_running_loop().create_task(lag.watch())
    async with asyncio.timeout(5):
        await clock.out_of_lags.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return lag, metrics


def sample(metrics: Metrics, series: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(series, labels)


def test_a_counted_figure_is_on_the_page_under_its_name() -> None:
    metrics = Metrics()
    metrics.runs_ended.labels("failed").inc()
    metrics.sockets.set_function(lambda: 7)
    page = metrics.render().decode()
    assert 'agentd_runs_ended_total{state="failed"} 1.0' in page
    assert "agentd_sockets 7.0" in page
    assert "_created" not in page


def test_two_servers_in_one_process_do_not_add_up() -> None:
    first, second = Metrics(), Metrics()
    first.facts.inc(3)
    assert sample(second, "agentd_facts_total") == 0


def test_every_limit_can_be_shown_beside_what_it_bounds() -> None:
    metrics = Metrics()
    limits = {name: getattr(Limits(), name) for name in Limits.__struct_fields__}
    metrics.show_limits(limits)
    assert sample(metrics, "agentd_limit", name="workers") == 8
    assert metrics.render().decode().count("agentd_limit{") == len(limits)


def test_the_page_explains_every_figure() -> None:
    for family in Metrics().registry.collect():
        assert family.documentation, family.name
        assert family.name.startswith(("agentd_", "process_"))


async def test_the_lag_is_how_late_a_sleep_ended() -> None:
    lag, metrics = await watched([0.0, 0.25, 0.05])
    assert lag.last_s == pytest.approx(0.05)
    assert lag.max_s == pytest.approx(0.25)
    assert sample(metrics, "agentd_loop_lag_seconds_count") == 3
    assert sample(metrics, "agentd_loop_lag_seconds_sum") == pytest.approx(0.3)


async def test_p99_forgets_what_is_older_than_a_minute_but_max_does_not() -> None:
    lag, _ = await watched([2.0] * 10 + [0.01] * LAG_KEPT)
    assert lag.p99_s == pytest.approx(0.01)
    assert lag.max_s == pytest.approx(2.0)
    assert pytest.approx(60) == LAG_KEPT * LAG_EVERY_S


async def test_p99_sees_one_late_sample_in_fifty() -> None:
    lag, _ = await watched(([0.0] * 49 + [0.5]) * 2)
    assert lag.p99_s == pytest.approx(0.5)


async def test_a_clock_that_is_early_is_no_negative_lag() -> None:
    lag, _ = await watched([-0.01])
    assert lag.last_s == 0.0


def test_before_the_first_sample_there_is_no_lag() -> None:
    lag = LoopLag(SystemClock(), Metrics())
    assert (lag.last_s, lag.p99_s, lag.max_s) == (0.0, 0.0, 0.0)


def test_the_collector_measures_its_pauses_freezes_what_survives_and_leaves_no_trace() -> None:
    before = (gc.get_threshold(), list(gc.callbacks), gc.get_freeze_count())
    metrics = Metrics()
    collector = Collector(SystemClock(), metrics)
    collector.start()
    try:
        assert gc.get_threshold() == GC_THRESHOLDS
        assert gc.get_freeze_count() > 1_000
        circle: list[object] = []
        circle.append(circle)
        del circle
        assert collector.settle() >= 1
        assert sample(metrics, "agentd_gc_pause_seconds_count", generation="2") == 2
        assert collector.pause_max_s > 0
    finally:
        collector.stop()
    assert (gc.get_threshold(), list(gc.callbacks), gc.get_freeze_count()) == before
