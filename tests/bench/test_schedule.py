"""Arrivals: as many as offered, when they should be, the same for a seed, and the parts are the whole."""

import statistics
from itertools import pairwise

import pytest

from agentd.bench.schedule import Arrivals, Part, Segment, arrivals, bounds, total_s

SEGMENTS = [Segment(1.0, 50.0), Segment(2.0, 400.0, "busy"), Segment(1.0, 0.0), Segment(1.0, 100.0, "calm")]


def test_constant_arrivals_are_evenly_apart() -> None:
    found = [at for at, _ in arrivals([Segment(2.0, 100.0)], "constant", 1)]
    assert len(found) == 200
    assert all(later - earlier == pytest.approx(0.01) for earlier, later in pairwise(found))


def test_constant_parts_are_together_the_whole() -> None:
    whole = list(arrivals(SEGMENTS, "constant", 1))
    parts = [list(arrivals(SEGMENTS, "constant", 1, Part(index, 3))) for index in range(3)]
    assert sorted(arrival for part in parts for arrival in part) == whole


def test_poisson_arrivals_have_the_offered_rate_and_the_spread_of_chance() -> None:
    found = [at for at, _ in arrivals([Segment(100.0, 100.0)], "poisson", 7)]
    gaps = [later - earlier for earlier, later in pairwise(found)]
    assert len(found) == pytest.approx(10_000, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(0.01, rel=0.05)


def test_poisson_parts_add_up_to_the_offered_rate_and_differ() -> None:
    parts = [[at for at, _ in arrivals([Segment(50.0, 100.0)], "poisson", 7, Part(index, 2))] for index in range(2)]
    assert sum(map(len, parts)) == pytest.approx(5_000, rel=0.06)
    assert parts[0] != parts[1]


@pytest.mark.parametrize("how", ["constant", "poisson"])
def test_arrivals_rise_stay_in_their_segment_and_repeat_for_a_seed(how: Arrivals) -> None:
    found = list(arrivals(SEGMENTS, how, 3))
    assert found == sorted(found) == list(arrivals(SEGMENTS, how, 3))
    assert all(bounds(SEGMENTS)[index][0] <= at < bounds(SEGMENTS)[index][1] for at, index in found)
    assert {index for _, index in found} == {0, 1, 3}
    assert total_s(SEGMENTS) == 5.0


def test_another_seed_gives_other_arrivals() -> None:
    assert list(arrivals(SEGMENTS, "poisson", 3)) != list(arrivals(SEGMENTS, "poisson", 4))
