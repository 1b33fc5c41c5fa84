"""What a person sees: a bar while a load runs, on a terminal; a table of what was found, in any case.

Everything but the result itself goes to stderr. In a pipe there are no bars, one line says what begins.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from agentd.bench.compare import Comparison
from agentd.bench.results import Point, Result, Scenario


class Screen:
    """Progress of the scenarios."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr, highlight=False)
        self._progress: Progress | None = None
        self._said = ""

    @contextmanager
    def scenario(self, name: str) -> Iterator[None]:
        if not self._console.is_terminal:
            print(f"{name} …", file=sys.stderr, flush=True)
            yield
            return
        columns = TextColumn(f"{name:>10}"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
        with Progress(*columns, console=self._console, transient=True) as self._progress:
            self._progress.add_task("", total=1.0)
            yield
        self._progress = None

    def tell(self, what: str, share: float) -> None:
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=share, description=what)


def show(result: Result) -> None:
    """The figures of a run as tables on stdout."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    for scenario in result.scenarios:
        _show_points(console, scenario)
        _show_rest(console, scenario)
    verdict = "everything that was accepted happened" if result.ok else "BREACHES: this result counts for nothing"
    console.print(f"{verdict}; {result.seconds:.0f} s, {result.machine.cpu}, commit {result.commit or 'unknown'}")


def _show_points(console: Console, scenario: Scenario) -> None:
    table = Table(title=f"{scenario.name}: {scenario.title}", title_justify="left", box=None, pad_edge=False)
    heads = ("load", "offered/s", "achieved/s", "shed/s", "p50 ms", "p99 ms", "p99.9 ms", f"CPU µs a {scenario.unit}")
    for number, head in enumerate((*heads, "CPU", "lag p99 ms", "RSS MB", "late p99 ms")):
        table.add_column(head, justify="left" if not number else "right")
    for point in scenario.points:
        table.add_row(*_row(point, ""))
    for point in scenario.floor:
        table.add_row(*_row(point, "floor, "))
    console.print(table)


def _row(point: Point, of: str) -> tuple[str, ...]:
    latency = point.latency
    return (
        of + point.label, f"{point.offered:.0f}", f"{point.achieved:.0f}", f"{point.shed:.0f}", f"{latency.p50:.1f}",
        f"{latency.p99:.1f}", f"{latency.p999:.1f}", f"{point.cpu_us_per_unit:.0f}", f"{point.cpu_share:.0%}",
        f"{point.loop_lag_p99_ms:.1f}", f"{point.rss_mb:.0f}", f"{point.client_late_ms.p99:.1f}",
    )  # fmt: skip


def _show_rest(console: Console, scenario: Scenario) -> None:
    for name, value in scenario.figures.items():
        console.print(f"  {name} = {value:g}")
    for each in scenario.goals:
        console.print(f"  goal {'met   ' if each.met else 'MISSED'} {each.name}: {each.measured:g} of {each.goal:g}")
    for note in scenario.notes:
        console.print(f"  note: {note}")
    for breach in scenario.breaches:
        console.print(f"  [bold red]BREACH[/] {breach.name}, {breach.count} times")
        for example in breach.examples:
            console.print(f"    {example}", markup=False)
    console.print()


def show_comparison(found: Comparison, threshold: float) -> None:
    """Every difference, the worse ones marked, on stdout."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    table = Table(box=None, pad_edge=False)
    for number, head in enumerate(("scenario", "load", "figure", "before", "after", "change", "")):
        table.add_column(head, justify="right" if number in (3, 4, 5) else "left")
    for each in found.differences:
        better = each.change if each.figure != "achieved" else -each.change
        row = (each.scenario, each.label, each.figure, f"{each.before:g}", f"{each.after:g}", f"{better:+.1f} %")
        table.add_row(*row, "WORSE" if each.worse else "")
    console.print(table)
    for note in found.notes:
        console.print(f"note: {note}")
    console.print(f"{len(found.worse)} of {len(found.differences)} figures are worse by more than {threshold:g} %")
