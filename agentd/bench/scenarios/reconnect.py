"""Clients come back: one that missed 10,000 facts, then a storm of many at once, while others go on talking.

Timed is from the intention to connect until the last fact that the greeting told of. The others' latencies are told
for the time before and the time of it.
"""

import asyncio

import msgspec

from agentd.bench.child import Server
from agentd.bench.recorder import Recorder
from agentd.bench.results import Scenario
from agentd.bench.resume import come_back
from agentd.bench.scenarios.goal import ask
from agentd.bench.schedule import Segment
from agentd.bench.stage import WARM_UP, Stage, goal

NAME = "reconnect"
TITLE = "Re-attaching with a backlog, alone and in a storm"
UNIT = "turn"
BACKLOG = 10_000
BACKLOG_QUICK = 3_000
BUILD_S = 2.0
BUILDS_MAX = 60
TASKS = 8
TIMES = 3
STORM = 300
STORM_QUICK = 100
STORM_AFTER = 200
"""Facts that each socket of the storm has missed, at most."""
RATE = 150.0
REATTACH_GOAL_MS = 250.0


async def run(stage: Stage) -> Scenario:
    options = stage.options
    backlog, storm = (BACKLOG_QUICK, STORM_QUICK) if options.quick else (BACKLOG, STORM)
    found = Scenario(name=NAME, title=TITLE, unit=UNIT, settings={"missed": backlog, "storm": storm})
    async with stage.server() as server:
        key = stage.keys(1, "long")[0]
        facts = await _build(stage, server, key, backlog)
        rate = options.rate or RATE
        seconds = max(options.seconds, 3.0)
        segments = [
            Segment(options.warm_up_s, rate, WARM_UP),
            Segment(seconds, rate, "others, before"),
            Segment(seconds, rate, "others, while one returns"),
            Segment(seconds, rate, "others, in the storm"),
        ]
        alone, stormed = Recorder(), Recorder()
        tasks: list[asyncio.Task[None]] = []

        def beside(start_s: float) -> None:
            at_s = start_s + options.warm_up_s + seconds
            work = _return(stage, server, key, facts - backlog, facts, storm, (at_s, at_s + seconds), alone, stormed)
            tasks.append(stage.supervisor.start("bench.return", work))

        measured = await stage.measure(server, stage.job(server, segments), "returning", beside=beside)
        await asyncio.gather(*tasks)
    found.points, found.series = measured.points, measured.series()
    before, during, in_storm = (point.latency.p99 for point in found.points)
    found.figures = {
        "facts_missed": float(backlog),
        "reattach_p50_ms": round(alone.ms(50), 1),
        "storm_p50_ms": round(stormed.ms(50), 1),
        "storm_p99_ms": round(stormed.ms(99), 1),
        "others_p99_times_while_one_returns": round(during / max(before, 0.001), 2),
        "others_p99_times_in_the_storm": round(in_storm / max(before, 0.001), 2),
    }
    found.goals.append(goal(f"re-attach with {backlog} missed facts, ms", REATTACH_GOAL_MS, alone.ms(50), "ms"))
    return found


async def _build(stage: Stage, server: Server, key: str, wanted: int) -> int:
    """Goals in one session until its log is long enough; how many facts it has."""
    facts = 0
    for _ in range(BUILDS_MAX):
        job = stage.job(server, [Segment(BUILD_S, 0.0, "building")], ask=ask(TASKS), sessions=1)
        job = msgspec.structs.replace(job, how="closed", sessions=[key])
        facts += (await stage.measure(server, job, "building a backlog")).outcome.facts
        if facts >= wanted:
            break
    return facts


async def _return(
    stage: Stage,
    server: Server,
    key: str,
    after: int,
    last: int,
    storm: int,
    when: tuple[float, float],
    alone: Recorder,
    stormed: Recorder,
) -> None:
    clock = stage.clock
    await clock.sleep(max(when[0] - clock.monotonic_s(), 0.0))
    for _ in range(TIMES):
        alone.add(await come_back(server, key, max(after, 0), stage.found, clock))
    await clock.sleep(max(when[1] - clock.monotonic_s(), 0.0))
    # The per-session cap of sockets is kept: the storm goes over many cursors of one long log in waves that fit.
    gate = asyncio.Semaphore(60)

    async def one(number: int) -> None:
        async with gate:
            missed = 1 + number % STORM_AFTER
            stormed.add(await come_back(server, key, max(last - missed, 0), stage.found, clock))

    await asyncio.gather(*(one(number) for number in range(storm)))
