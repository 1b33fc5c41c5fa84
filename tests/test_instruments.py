"""What the loop counts stands on the page as the client library's own would."""

from collections.abc import Callable
from typing import Any

import prometheus_client as library
from prometheus_client import CollectorRegistry, generate_latest

from agentd.instruments import Counter, Histogram

BOUNDS = (0.01, 0.1, 1.0)


Instruments = tuple[Any, Any, Any, Any]


def theirs(registry: CollectorRegistry) -> Instruments:
    return (
        library.Counter("a", "A", registry=registry),
        library.Counter("b", "B", ["kind"], registry=registry),
        library.Histogram("c", "C", registry=registry, buckets=BOUNDS),
        library.Histogram("d", "D", ["state"], registry=registry, buckets=BOUNDS),
    )


def ours(registry: CollectorRegistry) -> Instruments:
    return (
        Counter("a", "A", None, registry),
        Counter("b", "B", "kind", registry),
        Histogram("c", "C", None, registry, BOUNDS),
        Histogram("d", "D", "state", registry, BOUNDS),
    )


def page(make: Callable[[CollectorRegistry], Instruments]) -> bytes:
    registry = CollectorRegistry()
    count, by_kind, spread, by_state = make(registry)
    count.inc()
    count.inc(2)
    by_kind.labels("x").inc()
    by_kind.labels('y"\n').inc(4)
    for value in (0.0, 0.01, 0.05, 1.0, 7.5):
        spread.observe(value)
        by_state.labels("done").observe(value)
    return generate_latest(registry)


def test_the_page_is_the_one_that_the_librarys_own_instruments_make() -> None:
    library.disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        assert page(ours) == page(theirs)
    finally:
        library.enable_created_metrics()  # type: ignore[no-untyped-call]


def test_a_figure_without_label_is_there_before_it_was_counted_and_one_with_a_label_is_not() -> None:
    registry = CollectorRegistry()
    Counter("a", "A", None, registry)
    Counter("b", "B", "kind", registry)
    assert registry.get_sample_value("a_total") == 0
    assert registry.get_sample_value("b_total", {"kind": "x"}) is None
