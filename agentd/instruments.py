"""Counters and histograms that the loop counts on: plain numbers, made into families of the scrape when it asks.

The client library's own take a lock for each bucket and label: 18 µs of a chat turn, 3 % of its CPU, where these cost
three. They are called as the library's are. Who counts outside the loop (a collection in another thread) may lose one.
"""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

T = TypeVar("T", "Count", "Spread")


class Count:
    """One series of a counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, more: float = 1.0) -> None:
        self.value += more


class Spread:
    """One series of a histogram: `counts[i]` values up to `bounds[i]`, the last bucket holds what is larger."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class _Family(Collector, Generic[T]):
    """The series of one name, by the value of its label; one without a label has its series from the start."""

    def __init__(self, name: str, text: str, label: str | None, registry: CollectorRegistry) -> None:
        self._name, self._text, self._label = name, text, label
        self._series: dict[str, T] = {}
        if label is None:
            self._series[""] = self._make()
        registry.register(self)

    def labels(self, value: str) -> T:
        series = self._series.get(value)
        if series is None:
            series = self._series[value] = self._make()
        return series

    def _make(self) -> T:
        raise NotImplementedError

    def _names(self) -> list[str]:
        return [] if self._label is None else [self._label]

    def _values(self, value: str) -> list[str]:
        return [] if self._label is None else [value]


class Counter(_Family[Count]):
    """Only ever rises; its name has no `_total`, the page adds it."""

    def inc(self, more: float = 1.0) -> None:
        self._series[""].value += more

    def _make(self) -> Count:
        return Count()

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._text, labels=self._names())
        for value, series in self._series.items():
            family.add_metric(self._values(value), series.value)
        yield family


class Histogram(_Family[Spread]):
    """How values spread over the bounds of its buckets."""

    def __init__(
        self, name: str, text: str, label: str | None, registry: CollectorRegistry, bounds: tuple[float, ...]
    ) -> None:
        self._bounds = bounds
        super().__init__(name, text, label, registry)

    def observe(self, value: float) -> None:
        self._series[""].observe(value)

    def _make(self) -> Spread:
        return Spread(self._bounds)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._text, labels=self._names())
        bounds = [*map(str, map(float, self._bounds)), "+Inf"]
        for value, series in self._series.items():
            counts = zip(bounds, accumulate(series.counts), strict=True)
            family.add_metric(self._values(value), buckets=list(counts), sum_value=series.total)
        yield family
