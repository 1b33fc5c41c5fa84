"""What a clients' process is told to do, and what it brings back: the two ends of the pipe to it.

A load is a list of segments with a rate each, a number of sessions, and what is asked. `closed` is for peaks: each
session asks anew as soon as it was answered, so the rate is found, not offered, and latency begins at the sending.
"""

from typing import Literal

import msgspec

from agentd.bench.recorder import Recorder, merged
from agentd.bench.results import Breach, Series
from agentd.bench.schedule import WHOLE, Part, Segment

BIN_S = 0.25
"""Width of the bins that series are made of."""


class Ask(msgspec.Struct, frozen=True):
    """What a request says: `{n}` in `content` becomes a number, so that no two are alike. `words` of the reply, where
    they are known."""

    content: str
    words: int | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A load, or the part of it that one process carries."""

    url: str
    token: str | None
    sessions: list[str]
    segments: list[Segment]
    ask: Ask
    how: Literal["constant", "poisson", "closed"] = "poisson"
    seed: int = 1
    part: Part = WHOLE
    drain_s: float = 60.0
    """How long accepted work may take to end after the last request, while something still moves."""
    followers: int = 0
    """Sockets beside the one that asks, on every session."""
    slow_every: int = 0
    """Every so manieth session stops reading during the load and is in no latency; 0: none."""
    floor: bool = False
    """The server is the floor, which has no sessions, numbers or requests: answers come in order."""


class Bin(msgspec.Struct):
    """What fell into `BIN_S`: ends and refusals by when they came, latencies by when the request should have gone."""

    ended: int = 0
    shed: int = 0
    asked: int = 0
    latency_sum_s: float = 0.0
    latency_max_s: float = 0.0


class Tally(msgspec.Struct):
    """One segment in figures; histograms encoded."""

    offered: int = 0
    accepted: int = 0
    shed: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    refused: dict[str, int] = {}
    latency: str = ""
    first: str = ""
    accept: str = ""
    late: str = ""

    @property
    def lost(self) -> int:
        return self.offered - self.shed - self.completed - self.failed - self.cancelled


class Outcome(msgspec.Struct):
    """What a load came to. `accepted`, `ended` and `facts` are of all segments, as the sockets that ask saw them."""

    tallies: list[Tally]
    bins: list[Bin]
    breaches: list[Breach]
    accepted: int = 0
    ended: int = 0
    facts: int = 0
    lagged: int = 0
    bytes_received: int = 0
    cpu_share: float = 0.0
    """Of one core, during the segments."""


class Recorders:
    """The histograms of one segment, while it runs or when processes are put together."""

    def __init__(self) -> None:
        self.latency, self.first, self.accept, self.late = Recorder(), Recorder(), Recorder(), Recorder()

    def encode_into(self, tally: Tally) -> None:
        tally.latency, tally.first = self.latency.encoded(), self.first.encoded()
        tally.accept, tally.late = self.accept.encoded(), self.late.encoded()


def joined(outcomes: list[Outcome]) -> Outcome:
    """What the processes of one load brought, as one."""
    first = outcomes[0]
    return Outcome(
        tallies=[_joined_tally([outcome.tallies[i] for outcome in outcomes]) for i in range(len(first.tallies))],
        bins=_joined_bins([outcome.bins for outcome in outcomes]),
        breaches=[breach for outcome in outcomes for breach in outcome.breaches],
        accepted=sum(outcome.accepted for outcome in outcomes),
        ended=sum(outcome.ended for outcome in outcomes),
        facts=sum(outcome.facts for outcome in outcomes),
        lagged=sum(outcome.lagged for outcome in outcomes),
        bytes_received=sum(outcome.bytes_received for outcome in outcomes),
        cpu_share=max(outcome.cpu_share for outcome in outcomes),
    )


def series(outcome: Outcome) -> list[Series]:
    """Goodput, refusals and latency over the time of the load."""
    times = [round(number * BIN_S, 3) for number in range(len(outcome.bins))]
    bins = outcome.bins
    means = [found.latency_sum_s / found.asked * 1000 if found.asked else 0.0 for found in bins]
    return [
        Series("goodput", "1/s", times, [found.ended / BIN_S for found in bins]),
        Series("shed", "1/s", times, [found.shed / BIN_S for found in bins]),
        Series("latency mean", "ms", times, [round(value, 3) for value in means]),
        Series("latency max", "ms", times, [round(found.latency_max_s * 1000, 3) for found in bins]),
    ]


def _joined_tally(tallies: list[Tally]) -> Tally:
    whole = Tally(
        offered=sum(tally.offered for tally in tallies),
        accepted=sum(tally.accepted for tally in tallies),
        shed=sum(tally.shed for tally in tallies),
        completed=sum(tally.completed for tally in tallies),
        failed=sum(tally.failed for tally in tallies),
        cancelled=sum(tally.cancelled for tally in tallies),
    )
    for tally in tallies:
        for cap, count in tally.refused.items():
            whole.refused[cap] = whole.refused.get(cap, 0) + count
    for name in ("latency", "first", "accept", "late"):
        setattr(whole, name, merged([getattr(tally, name) for tally in tallies]).encoded())
    return whole


def _joined_bins(all_bins: list[list[Bin]]) -> list[Bin]:
    whole = [Bin() for _ in range(max(map(len, all_bins)))]
    for bins in all_bins:
        for into, found in zip(whole, bins, strict=False):
            into.ended += found.ended
            into.shed += found.shed
            into.asked += found.asked
            into.latency_sum_s += found.latency_sum_s
            into.latency_max_s = max(into.latency_max_s, found.latency_max_s)
    return whole
