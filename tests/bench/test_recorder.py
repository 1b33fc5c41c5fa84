"""Histograms: percentiles within three digits, merged across processes, and medians of repeats with their spread."""

import pytest

from agentd.bench.recorder import US_MAX, Recorder, median_of, merged
from agentd.bench.results import Latency, Point


def test_percentiles_are_right_to_three_digits() -> None:
    recorder = Recorder()
    for ms in range(1, 1001):
        recorder.add(ms / 1000)
    latency = recorder.latency()
    assert latency.count == 1000
    assert (latency.p50, latency.p90, latency.p99, latency.p999) == pytest.approx((500, 900, 990, 999), rel=0.002)
    assert latency.max == pytest.approx(1000, rel=0.002)


def test_what_two_processes_saw_is_one_distribution() -> None:
    whole, parts = Recorder(), [Recorder(), Recorder()]
    for number in range(1, 2001):
        whole.add(number / 500)
        parts[number % 2].add(number / 500)
    assert merged([part.encoded() for part in parts]).latency() == whole.latency()


def test_nothing_is_left_out_however_long_it_took() -> None:
    recorder = Recorder()
    recorder.add(1e9)
    recorder.add(0.0)
    assert recorder.count == 2
    assert recorder.latency().max * 1000 == pytest.approx(US_MAX, rel=0.001)


def test_an_empty_one_is_all_zeros() -> None:
    assert Recorder().latency() == merged([Recorder().encoded()]).latency() == Latency()


def test_repeats_become_their_medians_with_the_least_and_the_most() -> None:
    points = [
        Point(label="a", offered=100.0, achieved=achieved, cpu_us_per_unit=cpu, latency=Latency(p99=p99))
        for achieved, cpu, p99 in ((99.0, 500.0, 9.0), (97.0, 700.0, 12.0), (100.0, 600.0, 7.0))
    ]
    found = median_of(points)
    assert (found.achieved, found.cpu_us_per_unit, found.latency.p99) == (99.0, 600.0, 9.0)
    assert found.spread["cpu_us_per_unit"] == (500.0, 700.0)
    assert found.spread["latency_p99"] == (7.0, 12.0)
    assert "offered" not in found.spread
