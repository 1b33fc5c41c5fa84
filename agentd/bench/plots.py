"""The pictures of a report, as SVG text: what a person should see at a glance, one thought to a picture.

Drawn from a result alone, so that an old file gives the same picture. Colours are told apart by the colour-blind and in
print; a legend stands only where there is more than one line.
"""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from agentd.bench.results import Point, Scenario, Series

BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#888888"
SIZE = (5.6, 3.0)
OPEN_MIN = 4
STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "agentd", "font.size": 9, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#e4e4e4", "axes.axisbelow": True,
    "legend.frameon": False,
}  # fmt: skip


def of_scenario(scenario: Scenario) -> list[tuple[str, str]]:
    """(caption, SVG) of everything that can be drawn of it."""
    with mpl.rc_context(STYLE):
        found = []
        for name, points in sweeps(scenario).items():
            found.append((f"{name}: what was offered and what was done", _goodput(points, scenario.unit)))
            found.append((f"{name}: latency against offered load", _latency(points)))
        for name, lines in groups(scenario.series).items():
            found.append((f"{name} over time", _over_time(lines)))
        if "usl_rate" in scenario.figures:
            found.append(("throughput against sessions at once, with the fitted law", _scaling(scenario)))
        return found


def sweeps(scenario: Scenario) -> dict[str, list[Point]]:
    """Open points on the way up that belong together, by what stands before the comma in their label."""
    found: dict[str, list[Point]] = {}
    for point in scenario.points:
        if not point.closed and "back" not in point.label:
            name = point.label.split(",")[0] if "," in point.label else scenario.name
            found.setdefault(name, []).append(point)
    return {
        name: sorted(points, key=lambda point: point.offered)
        for name, points in found.items()
        if len({point.offered for point in points}) >= OPEN_MIN
    }


def groups(series: Sequence[Series]) -> dict[str, list[Series]]:
    """Series that share a picture: loads together, latencies together, the rest alone."""
    found: dict[str, list[Series]] = {}
    for line in series:
        stem = line.name.split(":")[-1].split(",")[0].strip()
        before = line.name.split(":")[0] + ": " if ":" in line.name else ""
        name = {"goodput": "load", "shed": "load", "latency mean": "latency", "latency max": "latency"}.get(stem, stem)
        found.setdefault(before + name, []).append(line)
    return found


def _goodput(points: list[Point], unit: str) -> str:
    figure, axes = _axes("offered, 1/s", f"{unit}s, 1/s")
    offered = [point.offered for point in points]
    axes.plot(offered, offered, color=GREY, linestyle=":", label="all of it")
    axes.plot(offered, [point.achieved for point in points], color=BLUE, marker="o", label="done")
    axes.plot(offered, [point.shed for point in points], color=ORANGE, marker="s", label="refused")
    axes.set_ylim(0, max(point.achieved for point in points) * 1.5 or 1)
    axes.legend()
    return _svg(figure)


def _latency(points: list[Point]) -> str:
    figure, axes = _axes("offered, 1/s", "ms")
    offered = [point.offered for point in points]
    for name, colour, marker in (("p50", GREEN, "o"), ("p99", BLUE, "s"), ("p999", ORANGE, "^")):
        values = [max(getattr(point.latency, name), 0.01) for point in points]
        axes.plot(offered, values, color=colour, marker=marker, label=name.replace("999", "99.9"))
    axes.set_yscale("log")
    axes.legend()
    return _svg(figure)


def _over_time(lines: list[Series]) -> str:
    figure, axes = _axes("seconds", lines[0].unit)
    for line, colour in zip(lines, (BLUE, ORANGE, GREEN, GREY), strict=False):
        axes.plot(line.times, line.values, color=colour, linewidth=1, label=line.name.split(":")[-1].split(",")[0])
    axes.set_ylim(bottom=0)
    if len(lines) > 1:
        axes.legend()
    return _svg(figure)


def _scaling(scenario: Scenario) -> str:
    figure, axes = _axes("sessions at once", f"{scenario.unit}s, 1/s")
    points = [point for point in scenario.points if point.label.endswith(" sessions")]
    counts = [int(point.label.split()[0]) for point in points]
    axes.plot(counts, [point.achieved for point in points], color=BLUE, marker="o", linestyle="", label="measured")
    rate, sigma, kappa = (scenario.figures[f"usl_{name}"] for name in ("rate", "sigma", "kappa"))
    steps = [min(counts) * (max(counts) / min(counts)) ** (step / 60) for step in range(61)] if counts else []
    fitted = [rate * n / (1 + sigma * (n - 1) + kappa * n * (n - 1)) for n in steps]
    axes.plot(steps, fitted, color=ORANGE, label="fitted")
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.legend()
    return _svg(figure)


def _axes(x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
