"""Chat turns with 20 streamed deltas: the peak in a closed loop, then latency in an open one at shares of that peak.

Beside the floor (`--floor`) the closed rounds alternate between the two servers, so that a noisy machine is noisy for
both. With `--rate` nothing is looked for and that rate is offered.
"""

from contextlib import AsyncExitStack

import msgspec

from agentd.bench.child import Server
from agentd.bench.recorder import median_of
from agentd.bench.results import Point, Scenario, Series
from agentd.bench.schedule import Segment
from agentd.bench.stage import WARM_UP, Measured, Stage, goal

NAME = "chat"
TITLE = "Chat turns with 20 streamed deltas"
UNIT = "turn"
SHARES = (0.5, 0.8)
CLOSED = "closed loop"
CPU_GOAL = 2.0


async def run(stage: Stage) -> Scenario:
    options = stage.options
    found = Scenario(name=NAME, title=TITLE, unit=UNIT, settings={"sessions": options.sessions, "deltas": 20})
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(stage.server())
        floor = await stack.enter_async_context(stage.floor()) if options.floor else None
        found.figures["start_s"] = round(server.started_s, 3)
        if not options.rate:
            await _closed(stage, server, floor, found)
        peak = options.rate or found.points[0].achieved
        rates = (
            {f"{options.rate:g}/s": peak}
            if options.rate
            else {f"{share:.0%} of peak": peak * share for share in SHARES}
        )
        await _open(stage, server, floor, rates, found)
    return found


async def _closed(stage: Stage, server: Server, floor: Server | None, found: Scenario) -> None:
    ours: list[Point] = []
    theirs: list[Point] = []
    for repeat in range(stage.options.repeats):
        if floor is not None:
            theirs += (await _peak(stage, floor, f"floor, closed loop {repeat + 1}")).points
        measured = await _peak(stage, server, f"closed loop {repeat + 1}")
        ours += measured.points
    found.runs += [[point] for point in ours]
    found.points.append(median_of(ours))
    found.peak = found.points[0].achieved
    found.goals.append(goal("loop lag p99, ms", 50, found.points[0].loop_lag_p99_ms, "ms"))
    if theirs:
        found.floor.append(median_of(theirs))
        ratio = found.points[0].cpu_us_per_unit / found.floor[0].cpu_us_per_unit
        found.figures["cpu_times_floor"] = round(ratio, 3)
        found.goals.append(goal("CPU a turn beside the floor", CPU_GOAL, ratio, "times"))


async def _peak(stage: Stage, server: Server, what: str) -> Measured:
    segments = [Segment(stage.options.warm_up_s, 0.0, WARM_UP), Segment(stage.options.seconds, 0.0, CLOSED)]
    return await stage.measure(server, msgspec.structs.replace(stage.job(server, segments), how="closed"), what)


async def _open(stage: Stage, server: Server, floor: Server | None, rates: dict[str, float], found: Scenario) -> None:
    options = stage.options
    for label, rate in rates.items():
        segments = [Segment(options.warm_up_s, rate, WARM_UP), Segment(options.seconds, rate, label)]
        runs = []
        for repeat in range(options.repeats):
            job = msgspec.structs.replace(stage.job(server, segments), seed=options.seed + repeat)
            measured = await stage.measure(server, job, f"{label} ({rate:.0f}/s) {repeat + 1}")
            runs.append(measured.points[0])
        found.runs.append(runs)
        found.points.append(median_of(runs))
        found.series = _named(measured.series(), label)
        if floor is not None:
            found.floor += (await stage.measure(floor, stage.job(floor, segments), f"floor, {label}")).points


def _named(lines: list[Series], label: str) -> list[Series]:
    return [Series(f"{line.name}, {label}", line.unit, line.times, line.values) for line in lines]
