"""Samples of a server: the page read, counters as differences, percentiles out of buckets."""

import os

import pytest

from agentd.bench.sampling import Sample, Window, parsed, usage

PAGE = """# HELP agentd_facts_total Facts stored
# TYPE agentd_facts_total counter
agentd_facts_total {facts}
agentd_runs_unfinished 3.0
agentd_lag_bucket{{le="0.01"}} {fast}
agentd_lag_bucket{{le="0.1"}} {all}
agentd_lag_bucket{{le="+Inf"}} {all}
agentd_lag_count {all}
agentd_lag_sum 2.0
"""


def window(before: tuple[int, int, int], after: tuple[int, int, int]) -> Window:
    first, last = (
        Sample(at_s, at_s / 2, 50.0, parsed(PAGE.format(facts=facts, fast=fast, all=every)))
        for at_s, (facts, fast, every) in ((10.0, before), (12.0, after))
    )
    return Window(first, last, [])


def test_a_page_is_names_and_numbers() -> None:
    page = parsed(PAGE.format(facts=7, fast=1, all=2))
    assert page["facts_total"] == 7.0
    assert page['lag_bucket{le="+Inf"}'] == 2.0


def test_counters_are_told_as_what_came_between() -> None:
    found = window((5, 0, 0), (25, 0, 0))
    assert (found.more("facts_total"), found.seconds, found.cpu_s) == (20.0, 2.0, 1.0)
    assert found.most("runs_unfinished") == 3.0


def test_percentiles_come_from_what_was_observed_between() -> None:
    found = window((0, 100, 100), (0, 150, 200))
    assert found.percentile("lag", 50) == pytest.approx(0.01)
    assert found.percentile("lag", 25) == pytest.approx(0.005)
    assert found.percentile("lag", 75) == pytest.approx(0.055)
    assert found.largest("lag") == 0.1
    assert window((0, 5, 5), (0, 9, 9)).largest("lag") == 0.01


def test_nothing_observed_is_zero() -> None:
    found = window((0, 5, 5), (0, 5, 5))
    assert (found.percentile("lag", 99), found.mean("lag"), found.largest("lag")) == (0.0, 0.0, 0.0)


def test_the_usage_of_this_process_is_plausible() -> None:
    cpu_s, rss_mb = usage(os.getpid())
    assert cpu_s > 0
    assert 5 < rss_mb < 10_000
