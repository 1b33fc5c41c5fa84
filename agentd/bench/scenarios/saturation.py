"""Offered load from a quarter of the peak to four times the knee and back: what is shed, what still gets done, how
soon it is over. Once limited by the CPU, once by permits (each reply is paced, so the model calls in flight are few).

The knee is the highest offered load of the way up of which at least `KNEE_SHARE` was achieved, with the next point's
achieved load when that is more. Recovery is measured after the overload, at `BACK_SHARE` of the peak: the time until
no later request took longer than `NORMAL_TIMES` the p99 that this load had on the way up.
"""

import msgspec

from agentd.bench.child import Server
from agentd.bench.load import BIN_S, Ask
from agentd.bench.results import Point, Scenario, Series
from agentd.bench.schedule import Segment
from agentd.bench.stage import CHAT, WARM_UP, Measured, Stage, goal

NAME = "saturation"
TITLE = "A sweep of offered load to four times the knee and back"
UNIT = "turn"
UP = (0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
UP_QUICK = (0.5, 1.0, 4.0)
DOWN = 2.0
BACK_SHARE = 0.5
BACK_S = 6.0
BACK_QUICK_S = 3.0
KNEE_SHARE = 0.95
NORMAL_TIMES = 2.0
NORMAL_MS = 25.0
"""Latencies under this are normal, whatever they were before: half the time of a blink."""
CALM_BINS = 4
RUNS_MAX = 2_048
RUNS_MAX_QUICK = 512
"""What is accepted has to be worked off before the next load: with fewer it takes a quarter of the time."""
SESSIONS_PERMITS = 128
PACED = Ask("hello {n} [[chunks=5]] [[pace_ms=10]]", 5)
GOODPUT_GOAL = 0.9
RECOVERY_GOAL_S = 2.0
LAG_GOAL_MS = 50.0


async def run(stage: Stage) -> Scenario:
    runs_max = RUNS_MAX_QUICK if stage.options.quick else RUNS_MAX
    settings: dict[str, str | int | float | bool] = {"sessions": stage.options.sessions, "limits.runs_global": runs_max}
    found = Scenario(name=NAME, title=TITLE, unit=UNIT, settings=settings)
    for name, ask, sessions in (("cpu", CHAT, stage.options.sessions), ("permits", PACED, SESSIONS_PERMITS)):
        async with stage.server({"AGENTD_LIMITS__RUNS_GLOBAL": str(runs_max)}) as server:
            peak = await _peak(stage, server, name, ask, sessions)
            measured = await _sweep(stage, server, name, ask, sessions, peak)
        _judge(found, name, peak, measured, runs_max)
    found.knee, found.recovery_s = found.figures["cpu_knee_per_s"], found.figures["cpu_recovery_s"]
    found.peak = found.figures["cpu_peak_per_s"]
    return found


async def _peak(stage: Stage, server: Server, name: str, ask: Ask, sessions: int) -> Point:
    segments = [
        Segment(stage.options.warm_up_s, 0.0, WARM_UP),
        Segment(stage.options.seconds, 0.0, f"{name}, closed loop"),
    ]
    job = msgspec.structs.replace(stage.job(server, segments, ask=ask, sessions=sessions), how="closed")
    return (await stage.measure(server, job, f"{name}, peak")).points[0]


async def _sweep(stage: Stage, server: Server, name: str, ask: Ask, sessions: int, peak: Point) -> Measured:
    """One load of many segments, so that each begins with what the one before left behind."""
    seconds, rate = stage.options.seconds, stage.options.rate or peak.achieved
    up = UP_QUICK if stage.options.quick else UP
    segments = [Segment(stage.options.warm_up_s, rate * up[0], WARM_UP)]
    segments += [Segment(seconds, rate * share, f"{name}, {share:g} × peak") for share in up]
    if not stage.options.quick:
        segments.append(Segment(seconds, rate * DOWN, f"{name}, back at {DOWN:g} × peak"))
    back_s = BACK_QUICK_S if stage.options.quick else max(2 * seconds, BACK_S)
    segments.append(Segment(back_s, rate * BACK_SHARE, f"{name}, back at {BACK_SHARE:g} × peak"))
    job = stage.job(server, segments, ask=ask, sessions=sessions)
    return await stage.measure(server, job, f"{name}, sweep")


def _judge(found: Scenario, name: str, peak: Point, measured: Measured, runs_max: int) -> None:
    points = [peak, *measured.points]
    up = [point for point in measured.points if "back" not in point.label]
    knee = _knee(up)
    best = max(point.achieved for point in up)
    past = min(up, key=lambda point: abs(point.offered - 4 * knee))
    recovery = recovery_s(measured, up)
    found.points += points
    found.series += [Series(f"{name}: {line.name}", line.unit, line.times, line.values) for line in measured.series()]
    found.figures |= {
        f"{name}_knee_per_s": round(knee, 1),
        f"{name}_peak_per_s": round(best, 1),
        f"{name}_goodput_past_knee": round(past.achieved / best, 3),
        f"{name}_recovery_s": round(recovery, 2),
        f"{name}_refused_share_at_4": round(past.shed / past.offered, 3) if past.offered else 0.0,
    }
    bound_ms = 2 * runs_max / best * 1000
    lag = max(point.loop_lag_p99_ms for point in up)
    found.goals += [
        goal(f"{name}: goodput at 4 × knee", GOODPUT_GOAL, past.achieved / best, "of the peak", least=True),
        goal(f"{name}: p99 of accepted work at 4 × knee, ms", bound_ms, past.latency.p99, "ms"),
        goal(f"{name}: loop lag p99, ms", LAG_GOAL_MS, lag, "ms"),
        goal(f"{name}: back to normal, s", RECOVERY_GOAL_S, recovery, "s"),
    ]


def _knee(up: list[Point]) -> float:
    """See the head of this file."""
    kept = [point for point in up if point.offered and point.achieved >= KNEE_SHARE * point.offered]
    if not kept:
        return up[0].achieved
    last = kept[-1]
    return max(last.offered, min(point.achieved for point in up[up.index(last) + 1 : up.index(last) + 2] or [last]))


def recovery_s(measured: Measured, up: list[Point]) -> float:
    """Seconds from the end of the overload until requests were answered as before; all of the segment when never."""
    begin_s, end_s = measured.bounds()[-1]
    before = [point for point in up if point.offered and point.achieved >= KNEE_SHARE * point.offered]
    normal_ms = max(NORMAL_TIMES * (before[0].latency.p99 if before else 0.0), NORMAL_MS)
    bins = measured.outcome.bins[round(begin_s / BIN_S) : round(end_s / BIN_S)]
    slow = [place for place, found in enumerate(bins) if found.asked and found.latency_max_s * 1000 > normal_ms]
    calm = [place for place in range(len(bins)) if not any(other in slow for other in range(place, place + CALM_BINS))]
    return calm[0] * BIN_S if calm else end_s - begin_s
