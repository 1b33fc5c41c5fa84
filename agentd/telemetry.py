"""What is measured: every figure of a server under one name, the lag of its event loop, the pauses of its collector.

One `Metrics` belongs to one server and has a registry of its own, so that two servers in one process don't add up. Who
causes something counts it; what is a state (sockets, mailboxes) is read when it is asked for, through
`Gauge.set_function`. No label takes a value from a client: the number of series is bounded.
"""

import gc
import resource
import sys
from collections import deque
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from agentd.clock import Clock
from agentd.instruments import Counter, Histogram

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
LAG_EVERY_S = 0.1
LAG_KEPT = 600  # a minute of samples
# A full collection takes 60 ms with 5,000 sockets: none comes by itself, `Collector.settle` is called when it is quiet.
# The others are kept small: with (10,000, 4) a middle one took 13 ms while 10,000 sessions came, with these 6 ms.
GC_THRESHOLDS = (5_000, 3, 1_000_000)

_SHORT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_LONG = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Metrics:
    """All metrics of one server. Durations are seconds, sizes bytes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._define_work()
        self._define_calls()
        self._define_log()
        self._define_edge()
        self._define_process()

    def render(self) -> bytes:
        """The page of `GET /metrics`, of type `CONTENT_TYPE`."""
        return generate_latest(self.registry)

    def show_limits(self, limits: Mapping[str, float]) -> None:
        """Every limit as `agentd_limit{name}`, to be drawn beside what it bounds."""
        for name, value in limits.items():
            self.limit.labels(name).set(value)

    def _define_work(self) -> None:
        self.runs_accepted = self._counter("runs_accepted", "Runs accepted", "kind")
        self.runs_started = self._counter("runs_started", "Runs started")
        self.runs_ended = self._counter("runs_ended", "Runs ended: completed, failed or cancelled", "state")
        self.run_seconds = self._histogram("run_seconds", "From accepted to ended", _LONG, "state")
        self.runs_unfinished = self._gauge("runs_unfinished", "Accepted and not ended")
        self.sessions_recovered = self._counter("sessions_recovered", "Sessions with unfinished runs found at start")
        self.tasks_ended = self._counter("tasks_ended", "Attempts of tasks ended", "status")
        self.task_seconds = self._histogram("task_seconds", "One attempt of a task", _LONG)
        self.tasks_queued = self._gauge("tasks_queued", "Admitted tasks without a permit")
        self.workers_active = self._gauge("workers_active", "Tasks that run")
        self.attempts_abandoned = self._gauge(
            "attempts_abandoned", "Cancelled work that has not ended and keeps a permit"
        )
        self.refused = self._counter("refused", "Requests refused for load", "cap")

    def _define_calls(self) -> None:
        self.model_calls = self._counter(
            "model_calls", "Model calls ended: ok, cancelled or the kind of error", "outcome"
        )
        self.model_call_seconds = self._histogram("model_call_seconds", "One model call, retries included", _LONG)
        self.model_first_token_seconds = self._histogram("model_first_token_seconds", "To the first text", _LONG)
        self.model_retries = self._counter("model_retries", "Repeated asks of a provider", "kind")
        self.model_calls_in_flight = self._gauge("model_calls_in_flight", "Model calls that run")
        self.tool_calls = self._counter("tool_calls", "Tool calls ended: ok, failed, timeout or cancelled", "outcome")
        self.tool_call_seconds = self._histogram("tool_call_seconds", "One tool call", _LONG)

    def _define_log(self) -> None:
        self.facts = self._counter("facts", "Facts stored")
        self.appends = self._counter("appends", "Steps appended")
        self.commits = self._counter("commits", "Transactions of the log")
        self.commits_failed = self._counter("commits_failed", "Transactions that failed with all their appends")
        self.wal_bytes = self._gauge("wal_bytes", "Size of the write-ahead log at its last checkpoint")
        self.replays = self._counter("replays", "Followers that read from the log before they were live")
        self.replays_reset = self._counter("replays_reset", "Cursors that could not be honoured", "reason")
        self.replayed_facts = self._counter("replayed_facts", "Facts read for followers")

    def _define_edge(self) -> None:
        self.sockets = self._gauge("sockets", "Open sockets")
        self.sockets_opened = self._counter("sockets_opened", "Sockets opened")
        self.sockets_cut = self._counter(
            "sockets_cut", "Sockets that the server closed: silent, stalled, failed, faulty", "reason"
        )
        self.streams = self._gauge("streams", "Open streams of events over HTTP")
        self.streams_opened = self._counter("streams_opened", "Streams of events opened")
        self.streams_stalled = self._counter("streams_stalled", "Streams cut off because nothing was read")
        self.reconnects = self._counter("reconnects", "Sockets and streams that resumed with a cursor")
        self.upgrades_refused = self._counter("upgrades_refused", "Upgrades refused", "code")
        self.errors = self._counter("errors", "Error frames that answered a client's frame", "code")
        self.deltas_lagged = self._counter("deltas_lagged", "Times a slow socket was told stream.lagged")
        self.read_pauses = self._counter("read_pauses", "Times a refused socket was not read for a while")
        self.outbox_bytes_max = self._gauge("outbox_bytes_max", "The fullest outbox now")
        self.mailbox_depth_max = self._gauge("mailbox_depth_max", "The fullest mailbox now")
        self.sessions_awake = self._gauge("sessions_awake", "Sessions whose state is in memory")

    def _define_process(self) -> None:
        self.loop_lag_seconds = self._histogram("loop_lag_seconds", "How late the event loop was", _SHORT)
        self.gc_pause_seconds = self._histogram("gc_pause_seconds", "One collection", _SHORT, "generation")
        self.limit = self._gauge("limit", "The limits in force", "name")
        self.build = self._gauge("build_info", "Always 1", "version")

    def _counter(self, name: str, text: str, label: str | None = None) -> Counter:
        return Counter(f"agentd_{name}", text, label, self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"agentd_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, bounds: tuple[float, ...], label: str | None = None) -> Histogram:
        return Histogram(f"agentd_{name}", text, label, self.registry, bounds)


class LoopLag:
    """How late the event loop is, sampled every 100 ms: `Supervisor.keep("loop lag", lag.watch)`."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._histogram = metrics.loop_lag_seconds
        self._samples: deque[float] = deque(maxlen=LAG_KEPT)
        self.max_s = 0.0

    @property
    def last_s(self) -> float:
        return self._samples[-1] if self._samples else 0.0

    @property
    def p99_s(self) -> float:
        """Of the last minute; 0 before the first sample."""
        if not self._samples:
            return 0.0
        return sorted(self._samples)[len(self._samples) * 99 // 100]

    async def watch(self) -> None:
        while True:
            before = self._clock.monotonic_s()
            await self._clock.sleep(LAG_EVERY_S)
            self._sampled(max(0.0, self._clock.monotonic_s() - before - LAG_EVERY_S))

    def _sampled(self, lag_s: float) -> None:
        self._samples.append(lag_s)
        self.max_s = max(self.max_s, lag_s)
        self._histogram.observe(lag_s)


class Collector:
    """Python's garbage collector: told when it may pause the server, and its pauses measured.

    Most of what agentd makes is freed by reference counts. Full collections are left to `settle`, which is for moments
    in which nobody waits (after the start, when sessions went to rest); it also freezes what survived, so that the
    next collection does not walk through it again.
    """

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._pauses = [metrics.gc_pause_seconds.labels(str(generation)) for generation in range(3)]
        self._thresholds = gc.get_threshold()
        self._began_s = 0.0
        self.pause_max_s = 0.0

    def start(self) -> None:
        gc.set_threshold(*GC_THRESHOLDS)
        gc.callbacks.append(self._measure)
        self.settle()

    def settle(self) -> int:
        """One full collection and a freeze; the number of objects found unreachable."""
        found = gc.collect()
        gc.freeze()
        return found

    def stop(self) -> None:
        """As it was before `start`."""
        gc.callbacks.remove(self._measure)
        gc.set_threshold(*self._thresholds)
        gc.unfreeze()

    def _measure(self, phase: str, info: dict[str, int]) -> None:
        now_s = self._clock.monotonic_s()
        if phase == "start":
            self._began_s = now_s
            return
        self.pause_max_s = max(self.pause_max_s, now_s - self._began_s)
        self._pauses[info["generation"]].observe(now_s - self._began_s)


def resident_bytes() -> int:
    """Memory that this process has in RAM; where the system does not say, the most that it ever had."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
