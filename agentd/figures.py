"""Fills the metrics when they are asked for: every figure is kept where it arises, and read here."""

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from agentd.actors.directory import Directory
from agentd.actors.shared import Shared
from agentd.edge.server import EdgeServer
from agentd.store.store import CommitFigures, Histogram
from agentd.telemetry import Metrics


class Scrape:
    """Counters only rise: what was already counted is remembered between two scrapes."""

    def __init__(self, metrics: Metrics, shared: Shared, directory: Directory, edge: EdgeServer) -> None:
        self._metrics = metrics
        self._shared = shared
        self._directory = directory
        self._edge = edge
        self._seen: dict[str, float] = {}
        metrics.registry.register(LogHistograms(shared.store.figures))

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
        metrics.mailbox_depth_max.set(max((actor.waiting for actor in self._directory), default=0))

    def _counters(self) -> None:
        metrics, shared = self._metrics, self._shared
        figures = shared.store.figures
        metrics.facts.inc(self._more("facts", figures.facts))
        metrics.appends.inc(self._more("appends", figures.appends))
        metrics.commits.inc(self._more("commits", figures.commits))
        metrics.commits_failed.inc(self._more("commits_failed", figures.failed_commits))
        for cap, count in shared.load.refused.items():
            metrics.refused.labels(cap).inc(self._more(f"refused.{cap}", count))
        for word, count in shared.load.runs.items():
            more = self._more(f"runs.{word}", count)
            if word == "accepted":
                metrics.runs_accepted.labels("all").inc(more)
            elif word == "started":
                metrics.runs_started.labels("all").inc(more)
            else:
                metrics.runs_ended.labels(word).inc(more)
        edge = self._edge.figures
        metrics.sockets_opened.inc(self._more("sockets_opened", edge.accepted))
        metrics.read_pauses.inc(self._more("read_pauses", edge.reading_pauses))
        metrics.deltas_lagged.inc(self._more("lagged", sum(actor.feed.lagged for actor in self._directory)))

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
