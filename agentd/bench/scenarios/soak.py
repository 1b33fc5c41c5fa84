"""A steady load for six times as long: does anything grow that should not? Memory, latency, open files, loop lag.

The load is 60 % of the peak in equal parts; the last is compared with the first. Memory that grows with what the
sessions hold levels off; what does not is a leak, and shows as MB a minute.
"""

import msgspec

from agentd.bench.results import Scenario
from agentd.bench.schedule import Segment
from agentd.bench.stage import WARM_UP, Measured, Stage

NAME = "soak"
TITLE = "A steady load, and what grows meanwhile"
UNIT = "turn"
SHARE = 0.6
PARTS = 3
TIMES = 6
TIMES_QUICK = 2


async def run(stage: Stage) -> Scenario:
    options = stage.options
    found = Scenario(name=NAME, title=TITLE, unit=UNIT, settings={"sessions": options.sessions, "share of peak": SHARE})
    async with stage.server() as server:
        rate = options.rate
        if not rate:
            segments = [Segment(options.warm_up_s, 0.0, WARM_UP), Segment(options.seconds, 0.0, "closed loop")]
            job = msgspec.structs.replace(stage.job(server, segments), how="closed")
            rate = (await stage.measure(server, job, "closed loop")).points[0].achieved * SHARE
        part_s = options.seconds * (TIMES_QUICK if options.quick else TIMES) / PARTS
        segments = [Segment(options.warm_up_s, rate, WARM_UP)]
        segments += [Segment(part_s, rate, f"part {number + 1} of {PARTS}") for number in range(PARTS)]
        measured = await stage.measure(server, stage.job(server, segments), f"{rate:.0f}/s")
    found.points, found.series = measured.points, measured.series()
    _grown(found, measured)
    return found


def _grown(found: Scenario, measured: Measured) -> None:
    first, last = found.points[0], found.points[-1]
    window = measured.windows[-1]
    minutes = window.seconds / 60
    found.figures |= {
        "rss_mb_a_minute_at_the_end": round((window.last.rss_mb - window.first.rss_mb) / minutes, 2),
        "cpu_a_turn_last_to_first": round(last.cpu_us_per_unit / max(first.cpu_us_per_unit, 1e-9), 3),
        "p99_last_to_first": round(last.latency.p99 / max(first.latency.p99, 1e-9), 3),
        "open_files_more": window.last.metrics.get("process_open_fds", 0.0)
        - measured.windows[1].first.metrics.get("process_open_fds", 0.0),
    }
