"""The log's histograms on the page of the metrics."""

from prometheus_client import CollectorRegistry, generate_latest

from agentd.figures import LogHistograms
from agentd.store.store import CommitFigures


def test_what_the_log_counted_is_told_in_cumulative_buckets_and_seconds() -> None:
    figures = CommitFigures()
    for facts, ms in ((1, 0.4), (3, 0.9), (600, 3.0)):
        figures.batch_facts.observe(facts)
        figures.commit_ms.observe(ms)
    registry = CollectorRegistry()
    registry.register(LogHistograms(figures))
    lines = generate_latest(registry).decode().splitlines()
    told = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert told['agentd_commit_facts_bucket{le="4.0"}'] == "2.0"
    assert told['agentd_commit_facts_bucket{le="+Inf"}'] == told["agentd_commit_facts_count"] == "3.0"
    assert told["agentd_commit_facts_sum"] == "604.0"
    assert told['agentd_commit_seconds_bucket{le="0.001"}'] == "2.0"
    assert float(told["agentd_commit_seconds_sum"]) * 1000 == 4.3
