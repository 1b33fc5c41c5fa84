"""A result as one page that stands for itself: no script, no file beside it, nothing fetched.

First whether it counts, then on what it was measured, the goals, then each scenario: breaches and doubts before
figures, pictures last. Everything that comes from the result is escaped.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

from agentd.bench import plots
from agentd.bench.results import Point, Result, Scenario

CSS = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2em auto;padding:0 1em;color:#1c1c1c;background:#fff}
h1,h2{line-height:1.2}h2{margin-top:2.4em;border-top:1px solid #ccc;padding-top:1em}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px;display:block;overflow-x:auto}
th,td{padding:.25em .7em;text-align:right;border-bottom:1px solid #e4e4e4;white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{font-weight:600}
.good{color:#00664b}.bad{color:#b3261e;font-weight:600}
.plots{display:flex;flex-wrap:wrap;gap:1.2em}figure{margin:0;flex:1 1 460px}
figcaption{font-weight:600}svg{max-width:100%;height:auto}
code{background:#f3f3f3;padding:.1em .3em}small{color:#555}
"""
COLUMNS: tuple[tuple[str, str], ...] = (
    ("offered /s", "offered"), ("achieved /s", "achieved"), ("refused /s", "shed"), ("p50 ms", "p50"),
    ("p90 ms", "p90"), ("p99 ms", "p99"), ("p99.9 ms", "p999"), ("CPU µs", "cpu_us_per_unit"), ("CPU", "cpu_share"),
    ("RSS MB", "rss_mb"), ("loop lag p99 ms", "loop_lag_p99_ms"), ("facts/s", "facts_per_s"),
    ("facts a commit", "commit_facts_mean"), ("commit p99 ms", "commit_ms_p99"), ("late p99 ms", "late"),
    ("others", "others_share"),
)  # fmt: skip


def page(result: Result) -> str:
    """The page as HTML."""
    verdict = (
        '<p class="good">Everything that was accepted happened: no law was broken.</p>'
        if result.ok
        else '<p class="bad">Laws were broken: no figure of this result counts.</p>'
    )
    body = "".join(_scenario(scenario) for scenario in result.scenarios)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>agentd bench</title><style>{CSS}</style><h1>agentd bench</h1>{verdict}{_machine(result)}"
        f"{_all_goals(result)}{body}</html>\n"
    )


def _machine(result: Result) -> str:
    about = result.machine
    when = datetime.fromtimestamp(result.started_ts / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    pinned = f"server on {about.server_cores}, clients on {about.client_cores}"
    rows = {
        "machine": f"{about.cpu}, {about.cores} cores ({pinned}), {about.memory_mb} MB, Linux {about.kernel}",
        "software": ", ".join(f"{name} {version}" for name, version in result.versions.items())
        + f", Python {about.python}, commit {result.commit or 'unknown'}",
        "when": f"{when}, {result.seconds:.0f} s",
        "command": result.command,
        "settings": ", ".join(f"{name} {value}" for name, value in result.settings.items()),
    }
    return "<p>" + "<br>".join(f"<b>{name}</b> {escape(text)}" for name, text in rows.items()) + "</p>"


def _all_goals(result: Result) -> str:
    goals = [(scenario.name, each) for scenario in result.scenarios for each in scenario.goals]
    if not goals:
        return ""
    rows = [
        (
            f"{name}: {each.name}",
            f"{each.goal:g}",
            f"{each.measured:g}",
            f"{each.ratio:g}",
            "met" if each.met else "missed",
        )
        for name, each in goals
    ]
    return "<h2>Goals</h2>" + _table(("goal", "wanted", "measured", "ratio", ""), rows)


def _scenario(scenario: Scenario) -> str:
    parts = [f"<h2>{escape(scenario.name)}: {escape(scenario.title)}</h2>"]
    parts += [
        f'<p class="bad">{escape(breach.name)}, {breach.count} times: {escape("; ".join(breach.examples))}</p>'
        for breach in scenario.breaches
    ]
    parts += [f"<p><small>{escape(note)}</small></p>" for note in scenario.notes]
    parts.append(_points(scenario))
    if scenario.figures:
        figures = [(name, f"{value:g}") for name, value in scenario.figures.items()]
        parts.append(_table(("figure", "value"), figures))
    drawn = [
        f"<figure><figcaption>{escape(text)}</figcaption>{svg}</figure>" for text, svg in plots.of_scenario(scenario)
    ]
    parts.append(f'<div class="plots">{"".join(drawn)}</div>')
    return "".join(parts)


def _points(scenario: Scenario) -> str:
    head = f"load (a unit is a {scenario.unit})"
    rows = [(point.label + _range(point), *_cells(point)) for point in scenario.points]
    rows += [("floor, " + point.label, *_cells(point)) for point in scenario.floor]
    return _table((head, *(name for name, _ in COLUMNS)), rows)


def _cells(point: Point) -> list[str]:
    return [_cell(point, name) for _, name in COLUMNS]


def _cell(point: Point, name: str) -> str:
    if name == "late":
        return f"{point.client_late_ms.p99:.1f}"
    if name in ("cpu_share", "others_share"):
        return f"{getattr(point, name):.0%}"
    value = getattr(point.latency, name) if name in ("p50", "p90", "p99", "p999") else getattr(point, name)
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _range(point: Point) -> str:
    """What the repeats of a load spread over, for the figure that is looked at first."""
    least_most = point.spread.get("cpu_us_per_unit")
    return f" (CPU {least_most[0]:.0f} to {least_most[1]:.0f})" if least_most else ""


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(_td(cell) for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _td(cell: str) -> str:
    kind = {"met": ' class="good"', "missed": ' class="bad"'}.get(cell, "")
    return f"<td{kind}>{escape(cell)}</td>"
