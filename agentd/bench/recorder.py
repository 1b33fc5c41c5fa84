"""Latencies as HDR histograms: three significant digits from a microsecond to ten minutes, merged across processes.

What is recorded begins at the moment at which the request should have been sent. A request that had to wait because
its sender was stuck behind a slow answer counts with that wait; otherwise the worst moments would be the least seen
(coordinated omission). A value beyond the range is recorded as its end: it is never left out.
"""

import statistics
from collections.abc import Sequence
from typing import Any

import msgspec
from hdrh.histogram import HdrHistogram

from agentd.bench.results import Latency, Point

US_MAX = 600_000_000
DIGITS = 3
_FIGURES_OF_REPEATS = tuple(
    field.name for field in msgspec.structs.fields(Point) if field.type is float and field.name != "offered"
)


class Recorder:
    """One distribution of durations."""

    def __init__(self) -> None:
        self._histogram: Any = HdrHistogram(1, US_MAX, DIGITS)

    @property
    def count(self) -> int:
        return int(self._histogram.get_total_count())

    def add(self, seconds: float) -> None:
        self._histogram.record_value(min(max(int(seconds * 1e6), 1), US_MAX))

    def encoded(self) -> str:
        """To be sent to another process, for `merge`."""
        text: bytes = self._histogram.encode()
        return text.decode()

    def merge(self, encoded: str) -> None:
        self._histogram.decode_and_add(encoded.encode())

    def ms(self, percentile: float) -> float:
        """The latency that so many of a hundred do not exceed, in milliseconds."""
        return float(self._histogram.get_value_at_percentile(percentile)) / 1000

    def latency(self) -> Latency:
        if not self.count:
            return Latency()
        return Latency(
            count=self.count,
            mean=round(float(self._histogram.get_mean_value()) / 1000, 3),
            p50=self.ms(50),
            p90=self.ms(90),
            p99=self.ms(99),
            p999=self.ms(99.9),
            max=float(self._histogram.get_max_value()) / 1000,
        )


def merged(encoded: Sequence[str]) -> Recorder:
    recorder = Recorder()
    for text in encoded:
        recorder.merge(text)
    return recorder


def median_of(points: Sequence[Point]) -> Point:
    """One point for the repeats of the same load: the median of each figure, with the least and the most of the figures
    that differ. Latencies are those of the repeat whose p99 is the median (the lower of two)."""
    middle = sorted(points, key=lambda point: point.latency.p99)[(len(points) - 1) // 2]
    changed: dict[str, Any] = {}
    spread: dict[str, tuple[float, float]] = {}
    for name in _FIGURES_OF_REPEATS:
        values = [getattr(point, name) for point in points]
        changed[name] = statistics.median(values)
        if min(values) != max(values):
            spread[name] = (min(values), max(values))
    p99 = [point.latency.p99 for point in points]
    if min(p99) != max(p99):
        spread["latency_p99"] = (min(p99), max(p99))
    return msgspec.structs.replace(middle, spread=spread, **changed)
