"""What a unit costs as things grow: a session's length, the number of sessions, the tasks of a plan.

Each is a row of closed loops. The figure of a row is the cost at its end over the cost at its beginning: 1 is what one
would like, and what grows steadily is told by the points between. Over the number of sessions the throughput is fitted
with the universal scalability law, each coefficient with its error.
"""

import msgspec

from agentd.bench.child import Server
from agentd.bench.fit import scalability
from agentd.bench.results import Point, Scenario
from agentd.bench.scenarios.goal import ask
from agentd.bench.schedule import Segment
from agentd.bench.stage import WARM_UP, Stage

NAME = "growth"
TITLE = "Cost against length, sessions and tasks"
UNIT = "turn"
LENGTH_SESSIONS = 8
LENGTH_PARTS = 4
SESSIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TASKS = (2, 10, 50, 150)
SESSIONS_QUICK = (1, 8, 64, 128)
TASKS_QUICK = (2, 50)
TASK_SESSIONS = 4


async def run(stage: Stage) -> Scenario:
    found = Scenario(name=NAME, title=TITLE, unit=UNIT)
    session_counts, task_counts = (SESSIONS_QUICK, TASKS_QUICK) if stage.options.quick else (SESSIONS, TASKS)
    async with stage.server() as server:
        length = await _length(stage, server)
        sessions = [await _sessions(stage, server, count) for count in session_counts]
        tasks = [await _tasks(stage, server, count) for count in task_counts]
    found.points = [*length, *sessions, *tasks]
    a_task = [point.cpu_us_per_unit / count for point, count in zip(tasks, task_counts, strict=True)]
    found.figures = {
        "length_cpu_times": _times(length),
        "sessions_cpu_times_from_8": _times([point for point in sessions if point.label != "1 sessions"]),
        "cpu_us_per_task_least": round(min(a_task), 1),
        "cpu_us_per_task_at_most_tasks": round(a_task[-1], 1),
    }
    fitted = scalability([(count, point.achieved) for count, point in zip(session_counts, sessions, strict=True)])
    if fitted is not None:
        told = msgspec.structs.asdict(fitted)
        found.figures |= {f"usl_{name}": round(value, 6) for name, value in told.items() if value is not None}
    return found


def _times(points: list[Point]) -> float:
    return round(points[-1].cpu_us_per_unit / max(points[0].cpu_us_per_unit, 1e-9), 3)


async def _length(stage: Stage, server: Server) -> list[Point]:
    part_s = max(stage.options.seconds / 2, 1.0)
    segments = [Segment(part_s, 0.0, f"length, part {number + 1}") for number in range(LENGTH_PARTS)]
    job = stage.job(server, segments, sessions=LENGTH_SESSIONS)
    return (await stage.measure(server, msgspec.structs.replace(job, how="closed"), "length")).points


async def _sessions(stage: Stage, server: Server, count: int) -> Point:
    seconds = max(stage.options.seconds / 2, 1.0)
    segments = [Segment(stage.options.warm_up_s, 0.0, WARM_UP), Segment(seconds, 0.0, f"{count} sessions")]
    job = msgspec.structs.replace(stage.job(server, segments, sessions=count), how="closed")
    return (await stage.measure(server, job, f"{count} sessions")).points[0]


async def _tasks(stage: Stage, server: Server, count: int) -> Point:
    seconds = max(stage.options.seconds / 2, 1.0)
    segments = [Segment(stage.options.warm_up_s, 0.0, WARM_UP), Segment(seconds, 0.0, f"goals of {count} tasks")]
    job = stage.job(server, segments, ask=ask(count), sessions=TASK_SESSIONS)
    job = msgspec.structs.replace(job, how="closed")
    return (await stage.measure(server, job, f"{count} tasks")).points[0]
