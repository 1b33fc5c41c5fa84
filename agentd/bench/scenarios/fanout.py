"""Many sockets on one session: each turn of one of them is delivered to all. A unit is a turn seen by one socket.

Latency is that of every delivery, from when the turn should have been asked for until this socket saw its end.
"""

import msgspec

from agentd.bench.results import Scenario
from agentd.bench.schedule import Segment
from agentd.bench.stage import WARM_UP, Stage

NAME = "fanout"
TITLE = "Many sockets on one session"
UNIT = "delivery"
SESSIONS = 2
FOLLOWERS = 63  # with the one that asks: limits.sockets_per_session
SHARE = 0.5


async def run(stage: Stage) -> Scenario:
    options = stage.options
    settings: dict[str, str | int | float | bool] = {"sessions": SESSIONS, "sockets of each": FOLLOWERS + 1}
    found = Scenario(name=NAME, title=TITLE, unit=UNIT, settings=settings)
    async with stage.server() as server:
        rate = options.rate
        if not rate:
            segments = [Segment(options.warm_up_s, 0.0, WARM_UP), Segment(options.seconds, 0.0, "closed loop")]
            job = stage.job(server, segments, sessions=SESSIONS)
            job = msgspec.structs.replace(job, how="closed", followers=FOLLOWERS)
            found.points += (await stage.measure(server, job, "closed loop")).points
            rate = max(found.points[0].achieved * SHARE, 1.0)
        label = f"{rate:.0f} turns a second"
        segments = [Segment(options.warm_up_s, rate, WARM_UP), Segment(options.seconds, rate, label)]
        job = msgspec.structs.replace(stage.job(server, segments, sessions=SESSIONS), followers=FOLLOWERS)
        measured = await stage.measure(server, job, label)
        found.points += measured.points
        found.series = measured.series()
    return found
