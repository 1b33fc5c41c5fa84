"""Two results side by side: what became better, what worse, and whether that is more than the threshold.

Compared are points of the same scenario and label. Of a closed loop the peak and the CPU of a unit count, of an open
one the CPU and, when it was not overloaded, the p99. Where there were repeats a difference within their spread is none.
A breach in the newer result is worse than any figure.
"""

import msgspec

from agentd.bench.results import Machine, Point, Result, Scenario

THRESHOLD = 10.0
ACHIEVED_MIN = 0.95
"""Of the offered load: below it a latency tells the length of the queue, not the speed of the server."""
OTHERS_MAX = 0.05


class Difference(msgspec.Struct, frozen=True):
    """One figure of one point. `change` in percent, positive when it became worse; `worse` when that counts."""

    scenario: str
    label: str
    figure: str
    before: float
    after: float
    change: float
    worse: bool


class Comparison(msgspec.Struct, frozen=True):
    differences: list[Difference]
    notes: list[str]

    @property
    def worse(self) -> list[Difference]:
        return [difference for difference in self.differences if difference.worse]


def compare(before: Result, after: Result, threshold: float = THRESHOLD) -> Comparison:
    """`threshold` in percent."""
    differences: list[Difference] = []
    notes = _notes(before, after)
    older = {scenario.name: scenario for scenario in before.scenarios}
    for scenario in after.scenarios:
        for breach in scenario.breaches:
            differences.append(Difference(scenario.name, "", f"breach {breach.name}", 0, breach.count, 100.0, True))
        if scenario.name in older:
            differences += _points(older[scenario.name], scenario, threshold)
        else:
            notes.append(f"{scenario.name} is only in the newer result")
    return Comparison(differences, notes)


def _points(before: Scenario, after: Scenario, threshold: float) -> list[Difference]:
    older = {point.label: point for point in before.points}
    found = []
    for point in after.points:
        earlier = older.get(point.label)
        if earlier is not None:
            found += [_difference(after.name, earlier, point, figure, threshold) for figure in _figures(earlier, point)]
    return found


def _figures(before: Point, after: Point) -> list[str]:
    found = ["cpu_us_per_unit"] if before.cpu_us_per_unit and after.cpu_us_per_unit else []
    if before.closed and after.closed and before.achieved:
        return [*found, "achieved"]
    kept_up = all(point.achieved >= ACHIEVED_MIN * point.offered for point in (before, after))
    return [*found, "latency_p99"] if kept_up and before.latency.p99 else found


def _difference(scenario: str, before: Point, after: Point, figure: str, threshold: float) -> Difference:
    old, new = _value(before, figure), _value(after, figure)
    change = (old - new if figure == "achieved" else new - old) / old * 100
    worse = change > threshold and not _overlap(before, after, figure)
    return Difference(scenario, after.label, figure, old, new, round(change, 1), worse)


def _value(point: Point, figure: str) -> float:
    return point.latency.p99 if figure == "latency_p99" else float(getattr(point, figure))


def _overlap(before: Point, after: Point, figure: str) -> bool:
    """The repeats of the two have values in common."""
    one, other = before.spread.get(figure), after.spread.get(figure)
    return one is not None and other is not None and one[0] <= other[1] and other[0] <= one[1]


def _notes(before: Result, after: Result) -> list[str]:
    notes = []
    if _kind(before.machine) != _kind(after.machine):
        notes.append("the two were measured on different machines: only ratios within one of them say something")
    for name, result in (("older", before), ("newer", after)):
        if any(point.others_share > OTHERS_MAX for scenario in result.scenarios for point in scenario.points):
            notes.append(f"while the {name} was measured other processes had a share of the server's core")
    if before.settings != after.settings:
        notes.append("the settings differ")
    return notes


def _kind(machine: Machine) -> tuple[str, int, str]:
    return machine.cpu, machine.cores, machine.python
