"""When each request should be sent: arrivals that do not wait for answers, constant or Poisson, the same for a seed.

Open loop: a slow server does not make its clients ask less, so its queues show. Everything here is relative to the
start of the load, in seconds. The clients' processes share one schedule: each takes its part, and together they are it.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Literal

import msgspec
import numpy as np

Arrivals = Literal["constant", "poisson"]


class Segment(msgspec.Struct, frozen=True):
    """A stretch of constant offered load: `rate` requests a second by all clients; 0 is silence. `label` names its
    point in the result; without one it is a warm-up and in no figure."""

    seconds: float
    rate: float
    label: str = ""


class Part(msgspec.Struct, frozen=True):
    """One of `of` equal parts of a schedule; `index` from 0."""

    index: int = 0
    of: int = 1


WHOLE = Part()


def arrivals(segments: Sequence[Segment], how: Arrivals, seed: int, part: Part = WHOLE) -> Iterator[tuple[float, int]]:
    """(seconds since the start, index of the segment) of each request of this part, rising."""
    if how == "constant":
        return islice(_constant(segments), part.index, None, part.of)
    return _poisson(segments, seed, part)


def total_s(segments: Sequence[Segment]) -> float:
    return sum(segment.seconds for segment in segments)


def bounds(segments: Sequence[Segment]) -> list[tuple[float, float]]:
    """Begin and end of each segment."""
    found, begin = [], 0.0
    for segment in segments:
        found.append((begin, begin + segment.seconds))
        begin += segment.seconds
    return found


def _constant(segments: Sequence[Segment]) -> Iterator[tuple[float, int]]:
    for index, (begin, end) in enumerate(bounds(segments)):
        for number in range(round((end - begin) * segments[index].rate)):
            yield begin + number / segments[index].rate, index


def _poisson(segments: Sequence[Segment], seed: int, part: Part) -> Iterator[tuple[float, int]]:
    """Poisson processes add up to one, so each part is one of its share of the rate. Since they have no memory, a new
    rate simply begins at the segment's start."""
    random = np.random.default_rng([seed, part.index])
    for index, (begin, end) in enumerate(bounds(segments)):
        rate = segments[index].rate / part.of
        if rate <= 0:
            continue
        at = begin + random.exponential(1 / rate)
        while at < end:
            yield float(at), index
            at += random.exponential(1 / rate)
