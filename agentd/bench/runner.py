"""A run of the bench: its scenarios one after the other, each on a stage of its own, and the result they make.

A breach, a server that does not start and a client that fails are all told in the result of their scenario, so that one
of them does not hide what the others found.
"""

import asyncio
import resource
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from agentd.bench import machine, results, screen
from agentd.bench.child import NotStarted
from agentd.bench.client import NotOpened
from agentd.bench.compare import compare
from agentd.bench.crew import CrewFailed
from agentd.bench.proxy import FAULTS
from agentd.bench.results import Machine, Result, Scenario
from agentd.bench.scenarios import (
    chat,
    control,
    fanout,
    goal,
    growth,
    idle,
    reconnect,
    saturation,
    slow,
    soak,
)
from agentd.bench.stage import Options, Stage
from agentd.clock import SystemClock
from agentd.supervisor import Supervisor

PAGE = "bench.html"
BUSY_CLIENTS = 0.85
LATE_SHARE = 0.25
BUSY_MACHINE = 0.05


class Known(NamedTuple):
    title: str
    run: Callable[[Stage], Awaitable[Scenario]]


MODULES = (chat, goal, saturation, fanout, reconnect, slow, control, soak, idle, growth)
SCENARIOS: dict[str, Known] = {module.NAME: Known(module.TITLE, module.run) for module in MODULES}
"""By name, in the order in which they run."""


class Failed(Exception):
    """The bench could not measure; the text says why. No figure of it counts."""


class Unusable(Exception):
    """What was asked for does not go together."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def run(names: Sequence[str], options: Options, command: str) -> Result:
    """Run these scenarios. Raises Failed or Unusable."""
    _check(names, options)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    server_cores, client_cores = machine.cores()
    about = machine.machine()
    machine.pin(0, client_cores)
    try:
        return asyncio.run(_run(names, options, command, (server_cores, client_cores), about))
    finally:
        machine.pin(0, {*server_cores, *client_cores})


def show(result: Result, folder: Path | None, *, as_json: bool) -> None:
    """Write the result and its page to `folder` when one is given, and to stdout as JSON or as tables."""
    if folder is not None:
        from agentd.bench import report  # matplotlib takes half a second, which only a page needs

        folder.mkdir(parents=True, exist_ok=True)
        results.write(result, folder / results.FILE)
        (folder / PAGE).write_text(report.page(result), encoding="utf-8")
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(result), indent=1).decode())
    else:
        screen.show(result)


def compared(names: Sequence[str], threshold: float, *, as_json: bool) -> bool:
    """Show how the second of two result files differs from the first; whether nothing is worse. Raises Unusable."""
    if len(names) != 2 or threshold < 0:
        raise Unusable("compare takes two results, and a threshold of at least 0", "agentd bench compare OLD NEW")
    try:
        older, newer = (results.read(Path(name)) for name in names)
    except results.UnreadableResult as error:
        raise Unusable(str(error), "Give files or folders that `agentd bench --out DIR` wrote.") from error
    found = compare(older, newer, threshold)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=1).decode())
    else:
        screen.show_comparison(found, threshold)
    return not found.worse


def _check(names: Sequence[str], options: Options) -> None:
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        raise Unusable(f"there is no scenario {unknown[0]!r}", f"There are: {', '.join(SCENARIOS)}.")
    if options.fault is not None and options.fault not in FAULTS:
        raise Unusable(f"there is no fault {options.fault!r}", f"There are: {', '.join(FAULTS)}.")
    if options.seconds < 0.5 or options.sessions < 1 or options.repeats < 1 or options.rate < 0:
        raise Unusable("seconds are at least 0.5, sessions and repeats 1, the rate 0", "See agentd bench --help.")
    if options.url is not None and not options.url.startswith("http://"):
        raise Unusable(f"{options.url} is not an address like http://HOST:PORT", "Give --url http://HOST:PORT.")


async def _run(
    names: Sequence[str],
    options: Options,
    command: str,
    cores: tuple[list[int], list[int]],
    about: Machine,
) -> Result:
    clock, progress = SystemClock(), screen.Screen()
    started_ts, began_s = clock.now_ms(), clock.monotonic_s()
    scenarios = []
    for name in names:
        supervisor = Supervisor(clock, lambda task: None)
        stage = Stage(options, clock, supervisor, cores, progress.tell)
        with progress.scenario(name):
            scenarios.append(await _scenario(name, stage))
        await supervisor.stop(5.0)
    told = msgspec.structs.asdict(options)
    told.pop("token")
    return Result(
        machine=about,
        versions=machine.versions(),
        commit=machine.commit(),
        started_ts=started_ts,
        seconds=round(clock.monotonic_s() - began_s, 1),
        command=command,
        settings={key: value for key, value in told.items() if value is not None},
        scenarios=scenarios,
    )


async def _scenario(name: str, stage: Stage) -> Scenario:
    began_s = stage.clock.monotonic_s()
    try:
        found = await SCENARIOS[name].run(stage)
    except (NotStarted, CrewFailed, NotOpened) as error:
        raise Failed(f"{name}: {error}") from error
    found.breaches = stage.found.breaches()
    found.seconds = round(stage.clock.monotonic_s() - began_s, 1)
    found.notes += _doubts(found)
    return found


def _doubts(found: Scenario) -> list[str]:
    """Loads in which the clients were the bottleneck, or somebody else had the server's core."""
    doubts = []
    for point in found.points:
        if point.client_cpu_share > BUSY_CLIENTS:
            doubts.append(f"{point.label}: the clients used {point.client_cpu_share:.0%} of their core")
        elif point.client_late_ms.p99 > max(LATE_SHARE * point.latency.p99, 5.0) and not point.closed:
            doubts.append(f"{point.label}: requests went out up to {point.client_late_ms.p99:.1f} ms late (p99)")
        if point.others_share > BUSY_MACHINE:
            doubts.append(f"{point.label}: other processes took {point.others_share:.0%} of the server's core")
    return doubts
