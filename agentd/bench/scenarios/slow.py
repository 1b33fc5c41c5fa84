"""One tenth of the clients stop reading: the others must not notice, memory stays bounded, nothing durable is lost.

The slow ones have a small receive buffer and read on after the load; then they are told what they missed, every fact is
there, in order, and only deltas are gone, which `stream.lagged` has said. The server's outboxes are small here, so that
it comes to that within seconds.
"""

import msgspec

from agentd.bench.load import Ask
from agentd.bench.results import Scenario
from agentd.bench.schedule import Segment
from agentd.bench.stage import WARM_UP, Stage

NAME = "slow"
TITLE = "One tenth of the clients stop reading"
UNIT = "turn"
EVERY = 10
SHARE = 0.5
WORDS = 200
LONG = Ask(f"hello {{n}} [[chunks={WORDS}]]", WORDS)
SETTINGS = {"AGENTD_LIMITS__OUTBOX_BYTES": "65536"}
SESSIONS = 60


async def run(stage: Stage) -> Scenario:
    options = stage.options
    found = Scenario(name=NAME, title=TITLE, unit=UNIT, settings={"sessions": SESSIONS, "slow": SESSIONS // EVERY})
    async with stage.server(SETTINGS) as server:
        segments = [Segment(options.warm_up_s, 0.0, WARM_UP), Segment(options.seconds, 0.0, "closed loop")]
        job = msgspec.structs.replace(stage.job(server, segments, ask=LONG, sessions=SESSIONS), how="closed")
        peak = options.rate or (await stage.measure(server, job, "closed loop")).points[0].achieved
        for label, every in (("all read", 0), ("one tenth does not read", EVERY)):
            rate = peak * SHARE
            segments = [Segment(options.warm_up_s, rate, WARM_UP), Segment(2 * options.seconds, rate, label)]
            job = stage.job(server, segments, ask=LONG, sessions=SESSIONS)
            measured = await stage.measure(server, msgspec.structs.replace(job, slow_every=every), label)
            found.points += measured.points
            found.figures[f"lagged_sockets_{'slow' if every else 'all_read'}"] = measured.outcome.lagged
        found.series = measured.series()
    before, during = found.points[-2:]
    found.figures["others_p99_times"] = round(during.latency.p99 / max(before.latency.p99, 0.001), 2)
    found.figures["rss_more_mb"] = round(during.rss_mb - before.rss_mb, 1)
    return found
