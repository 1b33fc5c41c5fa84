"""Counters of the log since it was opened: how many facts a commit takes, and how long."""

from bisect import bisect_left

import msgspec


class Histogram(msgspec.Struct):
    """Counts per bucket: `counts[i]` values up to `bounds[i]`, the last bucket holds what is larger."""

    bounds: tuple[float, ...]
    counts: list[int] = []
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


BATCH_FACTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
COMMIT_MS = (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class CommitFigures(msgspec.Struct):
    """Counters of the log since it was opened, for metrics."""

    commits: int = 0
    appends: int = 0
    facts: int = 0
    failed_commits: int = 0
    commit_ms_last: float = 0.0
    commit_ms_max: float = 0.0
    waiting: int = 0  # appends that wait for their commit now
    refused: int = 0  # appends told Conflict
    batch_facts: Histogram = msgspec.field(default_factory=lambda: Histogram(BATCH_FACTS))
    commit_ms: Histogram = msgspec.field(default_factory=lambda: Histogram(COMMIT_MS))
    checkpoints: int = 0
    wal_pages: int = 0  # pages in the write-ahead log at the last checkpoint
