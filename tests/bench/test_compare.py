"""Two results side by side: what counts as worse, and what is noise, overload or another machine."""

import msgspec
import pytest

from agentd.bench.compare import Comparison, compare
from agentd.bench.results import Breach, Latency, Point, Result
from tests.bench.test_results import a_result


def with_point(**fields: object) -> Result:
    result = a_result()
    point = Point(label="a", offered=100.0, achieved=100.0, cpu_us_per_unit=800.0, latency=Latency(p99=10.0))
    result.scenarios[0].points = [msgspec.structs.replace(point, **fields)]
    return result


def changes(found: Comparison) -> dict[str, float]:
    return {difference.figure: difference.change for difference in found.worse}


def test_a_result_is_not_worse_than_itself() -> None:
    found = compare(with_point(), with_point())
    assert [difference.change for difference in found.differences] == [0.0, 0.0]
    assert (found.worse, found.notes) == ([], [])


def test_more_than_the_threshold_is_worse_less_is_not() -> None:
    assert changes(compare(with_point(), with_point(cpu_us_per_unit=900.0))) == {"cpu_us_per_unit": 12.5}
    assert changes(compare(with_point(), with_point(cpu_us_per_unit=900.0), 15.0)) == {}
    assert changes(compare(with_point(), with_point(cpu_us_per_unit=700.0))) == {}
    assert changes(compare(with_point(), with_point(latency=Latency(p99=12.0)))) == {"latency_p99": 20.0}


def test_a_lower_peak_is_worse_and_only_peaks_of_closed_loops_count() -> None:
    assert changes(compare(with_point(closed=True), with_point(closed=True, achieved=80.0))) == {"achieved": 20.0}
    assert changes(compare(with_point(), with_point(achieved=97.0))) == {}


def test_latencies_under_overload_tell_the_queue_and_are_left_out() -> None:
    overloaded = with_point(achieved=60.0, latency=Latency(p99=9000.0))
    assert "latency_p99" not in {difference.figure for difference in compare(overloaded, overloaded).differences}


def test_a_difference_within_the_spread_of_repeats_is_none() -> None:
    before = with_point(spread={"cpu_us_per_unit": (780.0, 950.0)})
    assert compare(before, with_point(cpu_us_per_unit=940.0, spread={"cpu_us_per_unit": (900.0, 960.0)})).worse == []
    apart = with_point(cpu_us_per_unit=990.0, spread={"cpu_us_per_unit": (980.0, 999.0)})
    assert changes(compare(before, apart)) == pytest.approx({"cpu_us_per_unit": 23.8}, abs=0.1)


def test_a_breach_is_worse_whatever_the_figures() -> None:
    broken = with_point()
    broken.scenarios[0].breaches = [Breach("ended-twice", 2, ["run r"])]
    assert list(changes(compare(with_point(), broken))) == ["breach ended-twice"]


def test_what_makes_a_comparison_doubtful_is_noted() -> None:
    other = with_point(others_share=0.4)
    other.machine = msgspec.structs.replace(other.machine, cpu="another")
    other.settings = {"seconds": 9}
    assert len(compare(with_point(), other).notes) == 3
