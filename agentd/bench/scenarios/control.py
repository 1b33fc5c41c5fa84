"""Operators during saturation: the state asked for fifty times a second, pauses, resumptions and cancellations.

The load is twice the peak. The answer to `agent.control state` is a question and must not wait behind the work, and
neither must a pause or a cancel. Latency begins when the operator should have asked.
"""

import asyncio
from typing import Any

import msgspec

from agentd.bench.checker import Request, StreamChecker
from agentd.bench.child import Server
from agentd.bench.client import connect
from agentd.bench.frames import Frame
from agentd.bench.recorder import Recorder
from agentd.bench.results import Scenario
from agentd.bench.schedule import Segment
from agentd.bench.stage import WARM_UP, Stage, goal
from agentd.bench.talker import Watcher

NAME = "control"
TITLE = "Operators during saturation"
UNIT = "turn"
TIMES = 2.0
STATES_PER_S = 50
CHANGE_EVERY = 25
"""Every so manieth question one session is paused and resumed, and another's work is cancelled."""
STATE_GOAL_MS = 50.0
QUICK_SETTINGS = {"AGENTD_LIMITS__RUNS_GLOBAL": "512"}
"""What is accepted has to be worked off at the end."""
CHANGES = ("pause", "resume", "cancel")


class Operator(Watcher):
    """Asks about other sessions, and changes them."""

    def __init__(self, stage: Stage, key: str) -> None:
        super().__init__(StreamChecker(stage.found, key, alone=False))
        self.latencies = {action: Recorder() for action in ("state", *CHANGES)}
        self._waiting: dict[str, tuple[str, float]] = {}
        self._number = 0
        self._clock = stage.clock
        self.late = Recorder()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def ask(self, action: str, session: str, intended_s: float) -> None:
        self.late.add(self._clock.monotonic_s() - intended_s)
        self._number += 1
        request = f"op{self._number}"
        self._waiting[request] = (action, intended_s)
        self.checker.sent(request, Request())
        frame: dict[str, Any] = {"type": "agent.control", "id": request, "action": action, "session": session}
        self.socket.send(frame)

    def heard(self, frame: Frame, now_s: float, data: bytes) -> None:
        self.checker.feed(frame)
        if frame.request in self._waiting:
            action, intended_s = self._waiting.pop(frame.request)
            self.latencies[action].add(now_s - intended_s)


async def run(stage: Stage) -> Scenario:
    options = stage.options
    found = Scenario(name=NAME, title=TITLE, unit=UNIT, settings={"sessions": options.sessions, "times peak": TIMES})
    async with stage.server(QUICK_SETTINGS if options.quick else {}) as server:
        segments = [Segment(options.warm_up_s, 0.0, WARM_UP), Segment(options.seconds, 0.0, "closed loop")]
        job = msgspec.structs.replace(stage.job(server, segments), how="closed")
        peak = options.rate or (await stage.measure(server, job, "closed loop")).points[0].achieved
        label = f"{TIMES:g} × peak"
        segments = [Segment(options.warm_up_s, peak * TIMES, WARM_UP), Segment(options.seconds, peak * TIMES, label)]
        job = stage.job(server, segments)
        operator = await _operator(stage, server)
        tasks: list[asyncio.Task[None]] = []

        def beside(start_s: float) -> None:
            begin_s = start_s + options.warm_up_s  # each session has its first fact by then
            work = _operate(stage, operator, job.sessions, begin_s, begin_s + options.seconds)
            tasks.append(stage.supervisor.start("bench.operator", work))

        measured = await stage.measure(server, job, label, beside=beside)
        await asyncio.gather(*tasks)
        operator.checker.finish()
        await operator.socket.close()
    found.points, found.series = measured.points, measured.series()
    for action, recorder in operator.latencies.items():
        found.figures[f"{action}_p50_ms"] = round(recorder.ms(50), 2)
        found.figures[f"{action}_p99_ms"] = round(recorder.ms(99), 2)
        found.figures[f"{action}_count"] = float(recorder.count)
    found.figures["operator_late_p99_ms"] = round(operator.late.ms(99), 2)
    cancelled = sum(tally.cancelled for tally in measured.outcome.tallies)
    found.figures["runs_cancelled"] = float(cancelled)
    found.goals.append(goal("state p99 during saturation, ms", STATE_GOAL_MS, operator.latencies["state"].ms(99), "ms"))
    return found


async def _operator(stage: Stage, server: Server) -> Operator:
    key = stage.keys(1, "operator")[0]
    operator = Operator(stage, key)
    address = f"{server.url.replace('http', 'ws', 1)}/v1/agents/default/stream?session={key}"
    operator.socket = await connect(address, server.token, operator, stage.clock)
    return operator


async def _operate(stage: Stage, operator: Operator, sessions: list[str], start_s: float, over_s: float) -> None:
    """Fifty times a second; what is paused is resumed at the next change at the latest."""
    clock = stage.clock
    paused: str | None = None
    number = 0
    while (due_s := start_s + number / STATES_PER_S) < over_s:
        await clock.sleep(max(due_s - clock.monotonic_s(), 0.0))
        operator.ask("state", sessions[number % len(sessions)], due_s)
        if number % CHANGE_EVERY == CHANGE_EVERY - 1:
            if paused is not None:
                operator.ask("resume", paused, due_s)
            paused = sessions[number // CHANGE_EVERY % len(sessions)]
            operator.ask("pause", paused, due_s)
            operator.ask("cancel", sessions[-1 - number // CHANGE_EVERY % len(sessions)], due_s)
        number += 1
    if paused is not None:
        operator.ask("resume", paused, clock.monotonic_s())
    deadline_s = clock.monotonic_s() + 20.0
    while operator.waiting and clock.monotonic_s() < deadline_s:
        await clock.sleep(0.02)
