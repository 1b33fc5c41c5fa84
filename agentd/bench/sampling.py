"""How the server is while it works: CPU and memory from /proc, the rest from its /metrics, every half second.

A sample is cumulative where the server counts; a `Window` is the difference of two. Without a process id (a server on
another machine) CPU and memory come from the same page. Figures out of a histogram are only as fine as its buckets.
"""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from agentd.bench.results import Series
from agentd.clock import Clock

EVERY_S = 0.5
HAS_PROC = Path("/proc/stat").exists()
ANSWER_S = 5.0
DEPTHS = (
    "runs_unfinished", "tasks_queued", "workers_active", "model_calls_in_flight", "mailbox_depth_max",
    "outbox_bytes_max", "sockets", "sessions_awake",
)  # fmt: skip


class Sample(msgspec.Struct, frozen=True):
    """`metrics` by name, labels included, `agentd_` left out."""

    at_s: float
    cpu_s: float
    rss_mb: float
    metrics: dict[str, float]
    core_s: float = 0.0
    """CPU seconds that the server's cores gave to anybody."""


class Window:
    """What happened between two samples."""

    def __init__(self, first: Sample, last: Sample, between: list[Sample]) -> None:
        self.first = first
        self.last = last
        self.between = between

    @property
    def seconds(self) -> float:
        return max(self.last.at_s - self.first.at_s, 1e-6)

    @property
    def cpu_s(self) -> float:
        return self.last.cpu_s - self.first.cpu_s

    @property
    def others_share(self) -> float:
        """Of the server's core, what went to other processes: it is missing in every figure of the server."""
        return max(self.last.core_s - self.first.core_s - self.cpu_s, 0.0) / self.seconds if self.last.core_s else 0.0

    def more(self, name: str) -> float:
        """By how much a counter rose."""
        return self.last.metrics.get(name, 0.0) - self.first.metrics.get(name, 0.0)

    def mean(self, histogram: str) -> float:
        """The mean of what the histogram observed; 0 when nothing."""
        count = self.more(f"{histogram}_count")
        return self.more(f"{histogram}_sum") / count if count else 0.0

    def percentile(self, histogram: str, percentile: float) -> float:
        """Within the bucket that holds it values are taken as evenly spread. 0 when nothing was observed."""
        begin = f'{histogram}_bucket{{le="'
        bounds = sorted(
            (float(name[len(begin) : -2]), name) for name in self.last.metrics if name.startswith(begin)
        )  # +Inf is last
        wanted = self.more(f"{histogram}_count") * percentile / 100
        below, least = 0.0, 0.0
        for bound, name in bounds:
            count = self.more(name)
            if count >= wanted and count > below:
                most = bound if bound != float("inf") else least
                return least + (most - least) * (wanted - below) / (count - below)
            below, least = count, bound if bound != float("inf") else least
        return 0.0

    def largest(self, histogram: str) -> float:
        """The upper bound of the highest bucket in which something was observed, over all labels."""
        found = 0.0
        for name in self.last.metrics:
            if name.startswith(f"{histogram}_bucket{{") and self._alone(name):
                found = max(found, _bound(name))
        return found

    def most(self, name: str) -> float:
        return max((sample.metrics.get(name, 0.0) for sample in [*self.between, self.last]), default=0.0)

    def rss_mb(self) -> float:
        return max(sample.rss_mb for sample in [*self.between, self.last])

    def _alone(self, name: str) -> bool:
        """Something fell into this very bucket: its count rose more than that of the next lower one."""
        head = name[: name.index('le="')]
        lower = max(
            (other for other in self.last.metrics if other.startswith(head) and _bound(other) < _bound(name)),
            key=_bound, default=None,
        )  # fmt: skip
        return self.more(name) > (self.more(lower) if lower is not None else 0.0)


class Sampler:
    """Takes samples of one server; `watch` is run as a task for as long as it matters."""

    def __init__(
        self,
        clock: Clock,
        url: str,
        token: str | None,
        pid: int | None,
        *,
        cores: Sequence[int] = (),
        metrics: bool = True,
    ) -> None:
        """`cores`: where the server is pinned; with `pid` only. Without `metrics` the server has no such page."""
        self.samples: list[Sample] = []
        self._clock = clock
        self._parts = urlsplit(url)
        self._token = token
        self._pid = pid
        self._cores = cores if pid is not None else ()
        self._has_metrics = metrics

    async def watch(self) -> None:
        while True:
            await self.take()
            await self._clock.sleep(EVERY_S)

    async def take(self) -> Sample:
        """A sample now. A server that does not answer gives one without metrics; /proc still counts."""
        metrics = await self._metrics() if self._has_metrics else {}
        cpu_s, rss_mb = usage(self._pid) if self._pid and HAS_PROC else _told(metrics)
        sample = Sample(self._clock.monotonic_s(), cpu_s, rss_mb, metrics, busy_s(self._cores))
        self.samples.append(sample)
        return sample

    async def _metrics(self) -> dict[str, float]:
        try:
            return parsed(await fetch(self._parts.hostname, self._parts.port, "/metrics", self._token))
        except (OSError, TimeoutError, ValueError):
            return dict(self.samples[-1].metrics) if self.samples else {}

    def window(self, begin_s: float, end_s: float) -> Window:
        """Between the samples nearest to two moments."""
        near = [min(self.samples, key=lambda sample: abs(sample.at_s - at_s)) for at_s in (begin_s, end_s)]
        between = [sample for sample in self.samples if near[0].at_s < sample.at_s < near[1].at_s]
        return Window(near[0], near[1], between)

    def series(self, start_s: float) -> list[Series]:
        """CPU, memory, loop lag and unfinished runs over time since `start_s`."""
        pairs = list(zip(self.samples, self.samples[1:], strict=False))
        times = [round(later.at_s - start_s, 3) for _, later in pairs]
        windows = [Window(earlier, later, []) for earlier, later in pairs]
        lines = {
            ("cpu", "share of a core"): [window.cpu_s / window.seconds for window in windows],
            ("rss", "MB"): [later.rss_mb for _, later in pairs],
            ("loop lag p99", "ms"): [window.percentile("loop_lag_seconds", 99) * 1000 for window in windows],
            ("runs unfinished", "runs"): [later.metrics.get("runs_unfinished", 0.0) for _, later in pairs],
            ("facts", "1/s"): [window.more("facts_total") / window.seconds for window in windows],
        }
        return [
            Series(name, unit, times, [round(value, 4) for value in values]) for (name, unit), values in lines.items()
        ]


def usage(pid: int) -> tuple[float, float]:
    """CPU seconds and resident MB of a process on this machine. Raises OSError where there is no /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def busy_s(cores: Sequence[int]) -> float:
    """CPU seconds that these cores have worked for anybody since the machine's start; 0 for none."""
    if not cores or not HAS_PROC:
        return 0.0
    lines = Path("/proc/stat").read_text().splitlines()
    fields = [line.split() for line in lines if line.split(" ", 1)[0] in {f"cpu{core}" for core in cores}]
    ticks = sum(sum(map(int, found[1:4])) + sum(map(int, found[6:9])) for found in fields)  # not idle, not iowait
    return ticks / os.sysconf("SC_CLK_TCK")


def parsed(page: str) -> dict[str, float]:
    """Prometheus text as name → value, `agentd_` left out."""
    lines = (line.rsplit(" ", 1) for line in page.splitlines() if line and not line.startswith("#"))
    return {name.removeprefix("agentd_"): float(value) for name, value in lines}


async def fetch(host: str | None, port: int | None, path: str, token: str | None) -> str:
    """The body of a GET. Raises OSError, TimeoutError, or ValueError for an answer that is not 200."""
    async with asyncio.timeout(ANSWER_S):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            credential = f"Authorization: Bearer {token}\r\n" if token is not None else ""
            head = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{credential}Connection: close\r\n\r\n"
            writer.write(head.encode())
            answer = (await reader.read(-1)).decode()
        finally:
            writer.close()
    status, _, rest = answer.partition("\r\n")
    if " 200 " not in status:
        raise ValueError(f"{path} answered {status}")
    return rest.split("\r\n\r\n", 1)[1]


def _told(metrics: dict[str, float]) -> tuple[float, float]:
    return metrics.get("process_cpu_seconds_total", 0.0), metrics.get("process_resident_memory_bytes", 0.0) / 2**20


def _bound(name: str) -> float:
    return float(name[name.index('le="') + 4 : -2])
