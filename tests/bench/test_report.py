"""The page of a result: whole in itself, escaped, drawn from the file alone, breaches first."""

import re

from agentd.bench import plots, report
from agentd.bench.results import Breach, Goal, Latency, Point, Result, Series
from tests.bench.test_results import a_result


def swept() -> Result:
    result = a_result()
    scenario = result.scenarios[0]
    scenario.points = [
        Point(label="closed loop", closed=True, achieved=900.0),
        *(
            Point(
                label=f"cpu, {share} × peak",
                offered=share * 900.0,
                achieved=min(share, 1) * 880.0,
                latency=Latency(p50=4.0),
            )
            for share in (0.25, 0.5, 1, 2, 4)
        ),
        Point(label="cpu, back at 0.5 × peak", offered=450.0, achieved=450.0),
    ]
    scenario.series = [
        Series("cpu: goodput", "1/s", [0.0, 0.25], [400.0, 880.0]),
        Series("cpu: shed", "1/s", [0.0, 0.25], [0.0, 300.0]),
        Series("cpu: rss", "MB", [0.5, 1.0], [60.0, 61.0]),
    ]
    scenario.goals = [Goal("loop lag, ms", 50.0, 20.0, 0.4, True, "ms"), Goal("start, s", 0.6, 0.9, 1.5, False, "s")]
    return result


def test_the_page_needs_nothing_beside_it() -> None:
    page = report.page(swept())
    assert page.startswith("<!doctype html>")
    assert not re.search(r"<script|<link|<img|\bsrc=|@import|url\((?!#)", page)
    assert page.count("<figure>") == 4


def test_it_says_what_was_measured_on_what() -> None:
    page = report.page(swept())
    for said in ("a cpu", "websockets 17.4", "commit abc", "agentd bench chat", "no law was broken", "2 × peak"):
        assert said in page
    assert re.search(r'class="good">met.*class="bad">missed', page)


def test_breaches_come_first_and_nothing_of_a_result_is_markup() -> None:
    result = swept()
    result.scenarios[0].breaches = [Breach("ended-twice", 2, ["run <script>alert(1)</script>"])]
    page = report.page(result)
    assert "no figure of this result counts" in page
    assert "<script" not in page
    assert page.index("ended-twice") < page.index("<table", page.index("<h2>chat"))


def test_a_sweep_is_what_went_up_and_needs_enough_points() -> None:
    scenario = swept().scenarios[0]
    assert {name: len(points) for name, points in plots.sweeps(scenario).items()} == {"cpu": 5}
    scenario.points = scenario.points[:4]
    assert plots.sweeps(scenario) == {}


def test_series_that_belong_together_share_a_picture() -> None:
    assert {name: len(lines) for name, lines in plots.groups(swept().scenarios[0].series).items()} == {
        "cpu: load": 2, "cpu: rss": 1,
    }  # fmt: skip


def test_the_fitted_law_is_drawn_with_its_points() -> None:
    scenario = a_result().scenarios[0]
    scenario.series = []
    scenario.points = [Point(label=f"{n} sessions", closed=True, achieved=400.0 + n) for n in (1, 8, 64)]
    scenario.figures = {"usl_rate": 500.0, "usl_sigma": 0.05, "usl_kappa": 0.0005}
    [(caption, svg)] = plots.of_scenario(scenario)
    assert "fitted law" in caption
    assert svg.startswith("<svg")


def test_the_same_result_gives_the_same_page() -> None:
    assert report.page(swept()) == report.page(swept())
