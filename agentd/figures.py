"""Fills the metrics when they are asked for: every figure is kept where it arises, and read here."""

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from agentd.actors.directory import Directory
from agentd.actors.shared import Shared
from agentd.edge.server import EdgeServer
from agentd.edge.streams import Streams
from agentd.store.connection import PAGE_BYTES
from agentd.store.figures import CommitFigures, Histogram

CUT = ("silent", "stalled", "failed", "faults")


class Scrape:
    """Counters only rise: what was already counted is remembered between two scrapes."""

    def __init__(self, shared: Shared, directory: Directory, edge: EdgeServer, streams: Streams) -> None:
        self._metrics = shared.metrics
        self._shared = shared
        self._directory = directory
        self._edge = edge
        self._streams = streams
        self._seen: dict[str, float] = {}
        shared.metrics.registry.register(LogHistograms(shared.store.figures))

    def render(self) -> bytes:
        """The metrics as Prometheus text."""
        self._gauges()
        self._counters()
        return self._metrics.render()

    def _gauges(self) -> None:
        metrics, shared = self._metrics, self._shared
        dispatcher = shared.dispatcher
        metrics.runs_unfinished.set(shared.load.unfinished)
        metrics.tasks_queued.set(dispatcher.queued)
        metrics.workers_active.set(dispatcher.workers.in_use)
        metrics.model_calls_in_flight.set(dispatcher.models.in_use)
        metrics.sockets.set(self._edge.open_sockets)
        metrics.sessions_awake.set(self._directory.awake)
        metrics.mailbox_depth_max.set(max((seat.waiting for seat in self._directory), default=0))
        actors = [seat.actor for seat in self._directory if seat.actor is not None]
        metrics.attempts_abandoned.set(sum(actor.attempts.abandoned for actor in actors))
        metrics.streams.set(len(self._streams))
        metrics.outbox_bytes_max.set(max(self._edge.outbox_bytes_max, self._streams.outbox_bytes_max))
        metrics.wal_bytes.set(shared.store.figures.wal_pages * PAGE_BYTES)

    def _counters(self) -> None:
        metrics, shared = self._metrics, self._shared
        figures = shared.store.figures
        metrics.facts.inc(self._more("facts", figures.facts))
        metrics.appends.inc(self._more("appends", figures.appends))
        metrics.commits.inc(self._more("commits", figures.commits))
        metrics.commits_failed.inc(self._more("commits_failed", figures.failed_commits))
        for cap, count in shared.load.refused.items():
            metrics.refused.labels(cap).inc(self._more(f"refused.{cap}", count))
        edge = self._edge.figures
        metrics.sockets_opened.inc(self._more("sockets_opened", edge.accepted))
        metrics.read_pauses.inc(self._more("read_pauses", edge.reading_pauses))
        for code, count in edge.refusals.items():
            metrics.upgrades_refused.labels(code).inc(self._more(f"upgrades.{code}", count))
        for reason in CUT:
            metrics.sockets_cut.labels(reason).inc(self._more(f"cut.{reason}", getattr(edge, reason)))
        metrics.streams_opened.inc(self._more("streams_opened", self._streams.opened))
        metrics.streams_stalled.inc(self._more("streams_stalled", self._streams.stalled))
        metrics.deltas_lagged.inc(self._more("lagged", shared.followed.lagged))
        metrics.replayed_facts.inc(self._more("replayed_facts", shared.followed.replayed_facts))

    def _more(self, name: str, total: float) -> float:
        before = self._seen.get(name, 0.0)
        self._seen[name] = max(total, before)
        return max(total - before, 0.0)


class LogHistograms(Collector):
    """The log's own histograms, told when they are asked for: the writer's thread counts them without a lock."""

    def __init__(self, figures: CommitFigures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[HistogramMetricFamily]:
        figures = self._figures
        yield _family("agentd_commit_facts", "Facts in one commit", figures.batch_facts, 1.0)
        yield _family("agentd_commit_seconds", "One commit, sync included", figures.commit_ms, 0.001)


def _family(name: str, text: str, histogram: Histogram, unit: float) -> HistogramMetricFamily:
    """`unit`: what the counted values are multiplied with."""
    bounds = [*(str(round(bound * unit, 9)) for bound in map(float, histogram.bounds)), "+Inf"]
    counts = list(accumulate(histogram.counts))
    return HistogramMetricFamily(
        name, text, buckets=list(zip(bounds, counts, strict=True)), sum_value=histogram.total * unit
    )
