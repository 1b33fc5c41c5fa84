"""Goals under caps: plans of eight tasks that share the workers; the peak in a closed loop, then an open one at half.

The plans are made by rules, not by a model, so that what is measured is admission, scheduling and the log. The figures
in every frame are held against the law and against the tasks that were seen.
"""

import msgspec

from agentd.bench.child import Server
from agentd.bench.load import Ask
from agentd.bench.recorder import median_of
from agentd.bench.results import Point, Scenario
from agentd.bench.schedule import Segment
from agentd.bench.stage import WARM_UP, Stage, goal

NAME = "goal"
TITLE = "Goals of eight tasks under caps"
UNIT = "goal"
TASKS = 8
SESSIONS = 16
SHARE = 0.5
FACTS_GOAL = 20_000


def ask(tasks: int) -> Ask:
    return Ask("/goal " + "; ".join(f"name thing {number}" for number in range(1, tasks)) + "; name thing {n}")


async def run(stage: Stage) -> Scenario:
    options = stage.options
    found = Scenario(name=NAME, title=TITLE, unit=UNIT, settings={"sessions": SESSIONS, "tasks": TASKS})
    async with stage.server() as server:
        if not options.rate:
            peaks = [await _peak(stage, server, repeat) for repeat in range(options.repeats)]
            found.points.append(median_of(peaks))
            found.peak = found.points[0].achieved
            found.goals.append(
                goal("durable facts a second", FACTS_GOAL, found.points[0].facts_per_s, "1/s", least=True)
            )
        rate = options.rate or found.points[0].achieved * SHARE
        label = f"{rate:g}/s" if options.rate else f"{SHARE:.0%} of peak"
        segments = [Segment(options.warm_up_s, rate, WARM_UP), Segment(options.seconds, rate, label)]
        measured = await stage.measure(server, stage.job(server, segments, ask=ask(TASKS), sessions=SESSIONS), label)
        found.points += measured.points
        found.series = measured.series()
    return found


async def _peak(stage: Stage, server: Server, repeat: int) -> Point:
    segments = [Segment(stage.options.warm_up_s, 0.0, WARM_UP), Segment(stage.options.seconds, 0.0, "closed loop")]
    job = stage.job(server, segments, ask=ask(TASKS), sessions=SESSIONS)
    measured = await stage.measure(server, msgspec.structs.replace(job, how="closed"), f"closed loop {repeat + 1}")
    return measured.points[0]
