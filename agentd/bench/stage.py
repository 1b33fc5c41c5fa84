"""What a scenario stands on: servers to measure, loads on them, their figures, and one place for all breaches.

`measure` carries one load out: sockets first, then a sample of the server at each border between segments, then the
outcome of the clients and what the server counted, side by side. What the two tell differently is a breach.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec

from agentd.bench import load as loads
from agentd.bench.checker import Found
from agentd.bench.child import Server, agentd_server, floor_server
from agentd.bench.crew import Crew
from agentd.bench.load import BIN_S, Ask, Job, Outcome
from agentd.bench.proxy import spoiled
from agentd.bench.recorder import Recorder, merged
from agentd.bench.results import Goal, Latency, Point, Series
from agentd.bench.sampling import DEPTHS, EVERY_S, Sampler, Window
from agentd.bench.schedule import Arrivals, Segment, bounds
from agentd.clock import Clock
from agentd.supervisor import Supervisor

WARM_UP = ""
SOON_S = 0.15
"""Between all sockets being open and the first request: the line that says when has to arrive."""
DELTAS = 20
CHAT = Ask(f"hello {{n}} [[chunks={DELTAS}]]", DELTAS)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the person who started the bench wants. `rate` 0: found by the scenario. `url` of a server that runs."""

    seconds: float = 10.0
    sessions: int = 64
    rate: float = 0.0
    arrivals: Arrivals = "poisson"
    repeats: int = 1
    seed: int = 1
    quick: bool = False
    floor: bool = False
    fault: str | None = None
    url: str | None = None
    token: str | None = None

    @property
    def warm_up_s(self) -> float:
        return max(min(self.seconds / 4, 3.0), 0.5)


class Measured(msgspec.Struct):
    """One load: its points, by label, and what they were made from."""

    job: Job
    points: list[Point]
    outcome: Outcome
    sampler: Sampler
    start_s: float
    windows: list[Window]

    def point(self, label: str) -> Point:
        return next(point for point in self.points if point.label == label)

    def bounds(self) -> list[tuple[float, float]]:
        """Begin and end of each segment, in seconds since the start."""
        return bounds(self.job.segments)

    def series(self) -> list[Series]:
        return [*loads.series(self.outcome), *self.sampler.series(self.start_s)]


class Stage:
    """Made anew for each scenario. `told` is where progress goes: what is going on, and its share."""

    def __init__(
        self,
        options: Options,
        clock: Clock,
        supervisor: Supervisor,
        cores: tuple[Sequence[int], Sequence[int]],
        told: Callable[[str, float], None],
    ) -> None:
        self.options = options
        self.clock = clock
        self.supervisor = supervisor
        self.found = Found()
        self._server_cores, self._client_cores = cores
        self._told = told
        self._names = 0

    def tell(self, what: str, share: float) -> None:
        self._told(what, share)

    def keys(self, count: int, name: str = "bench") -> list[str]:
        """Names of sessions that were not used before."""
        self._names += 1
        mark = self.clock.new_id(name)[-8:]
        return [f"{name}-{mark}-{self._names}-{number}" for number in range(count)]

    @asynccontextmanager
    async def server(self, settings: Mapping[str, str] | None = None) -> AsyncIterator[Server]:
        """The server to measure: a new one with `settings`, or the one that was named, whose settings are its own."""
        if self.options.url is not None:
            async with self._spoiled(Server(self.options.url, self.options.token, None)) as server:
                yield server
            return
        async with agentd_server(self._server_cores, settings or {}) as made, self._spoiled(made) as server:
            yield server

    @asynccontextmanager
    async def floor(self) -> AsyncIterator[Server]:
        async with floor_server(self._server_cores) as server:
            yield server

    def job(self, server: Server, segments: Sequence[Segment], *, ask: Ask = CHAT, sessions: int = 0) -> Job:
        """A load on new sessions, as the options say; further fields by `msgspec.structs.replace`."""
        return Job(
            url=server.url,
            token=server.token,
            sessions=self.keys(sessions or self.options.sessions),
            segments=list(segments),
            ask=ask,
            how=self.options.arrivals,
            seed=self.options.seed,
            floor=server.floor,
        )

    async def measure(
        self,
        server: Server,
        job: Job,
        what: str,
        *,
        alone: bool = True,
        beside: Callable[[float], object] | None = None,
    ) -> Measured:
        """Carry a load out. `alone`: nothing else asks this server meanwhile, so its counters have to agree with the
        clients'. `beside` is told when the load will begin, for what a scenario does at the same time.

        Raises CrewFailed.
        """
        sampler = Sampler(
            self.clock, server.url, server.token, server.pid, cores=self._server_cores, metrics=not server.floor
        )
        crew = Crew(self.supervisor, self._client_cores, lambda share, _: self._told(what, share))
        try:
            await crew.ready(job)
            before = await sampler.take()
            start_s = self.clock.monotonic_s() + SOON_S
            watching = self.supervisor.start("bench.sampler", self._sampled(sampler, job, start_s))
            if beside is not None:
                beside(start_s)
            outcome = await crew.run(start_s)
            watching.cancel()
            after = await sampler.take()
        finally:
            await crew.end()
        self.found.merge(outcome.breaches)
        if alone and not server.floor:
            self._compare(Window(before, after, []), outcome)
        windows = [sampler.window(start_s + begin, start_s + end) for begin, end in bounds(job.segments)]
        points = [
            _point(job, index, outcome, windows[index])
            for index, segment in enumerate(job.segments)
            if segment.label != WARM_UP
        ]
        return Measured(job, points, outcome, sampler, start_s, windows)

    async def _sampled(self, sampler: Sampler, job: Job, start_s: float) -> None:
        """A sample every half second, and one at each border of segments."""
        borders = [start_s, *(start_s + end for _, end in bounds(job.segments))]
        while True:
            now_s = self.clock.monotonic_s()
            coming = [border for border in borders if border > now_s]
            await self.clock.sleep(min(EVERY_S, coming[0] - now_s) if coming else EVERY_S)
            await sampler.take()

    @asynccontextmanager
    async def _spoiled(self, server: Server) -> AsyncIterator[Server]:
        """With a planted fault clients reach the server through a proxy that commits it."""
        if self.options.fault is None:
            yield server
            return
        async with spoiled(server.url, self.options.fault, self.supervisor) as url:
            yield msgspec.structs.replace(server, url=url)

    def _compare(self, window: Window, outcome: Outcome) -> None:
        """What the server counted beside what the clients saw."""
        kinds = [name for name in window.last.metrics if name.startswith("runs_accepted_total")]
        if not kinds:
            return
        accepted = sum(window.more(name) for name in kinds)
        ended = sum(
            window.more(f'runs_ended_total{{state="{state}"}}') for state in ("completed", "failed", "cancelled")
        )
        told = ((accepted, outcome.accepted, "accepted"), (ended, outcome.ended, "ended"))
        for counted, seen, word in told:
            if counted != seen:
                self.found.add("server-counts", f"the server counts {counted:.0f} runs {word}, clients saw {seen}")
        facts = window.more("facts_total")
        if facts < outcome.facts:  # more may be stored by now: memory is tidied up after the runs
            self.found.add("server-counts", f"the server stored {facts:.0f} facts, clients saw {outcome.facts}")


def goal(name: str, wanted: float, measured: float, unit: str, *, least: bool = False) -> Goal:
    """A goal that is a most, or with `least` a least."""
    met = measured >= wanted if least else measured <= wanted
    return Goal(name, wanted, round(measured, 4), round(measured / wanted, 3) if wanted else 0.0, met, unit)


def _point(job: Job, index: int, outcome: Outcome, window: Window) -> Point:
    segment, tally = job.segments[index], outcome.tallies[index]
    begin_s, end_s = bounds(job.segments)[index]
    bins = outcome.bins[round(begin_s / BIN_S) : round(end_s / BIN_S)]
    ended = sum(found.ended for found in bins)
    units = ended * (1 + job.followers)
    rate = units / segment.seconds
    closed = job.how == "closed"
    cpu = window.cpu_s / window.seconds
    point = Point(
        label=segment.label,
        offered=round(tally.offered / segment.seconds if closed else segment.rate, 2),
        achieved=round(ended / segment.seconds, 2),
        accepted=round(tally.accepted / segment.seconds, 2),
        shed=round(tally.shed / segment.seconds, 2),
        lost=round(tally.lost / segment.seconds, 2),
        seconds=segment.seconds,
        units=units,
        closed=closed,
        latency=_latency(tally.latency),
        first=_latency(tally.first),
        accept=_latency(tally.accept),
        client_late_ms=_latency(tally.late),
        client_cpu_share=round(outcome.cpu_share, 3),
        cpu_us_per_unit=round(cpu / rate * 1e6, 1) if rate else 0.0,
        cpu_share=round(cpu, 3),
        others_share=round(window.others_share, 3),
        refused=tally.refused,
    )
    _add_server_figures(point, window, rate)
    return point


def _add_server_figures(point: Point, window: Window, rate: float) -> None:
    """What the server tells of itself; `rate` is of the units."""
    per_s = {name: window.more(f"{name}_total") / window.seconds for name in ("facts", "appends", "commits")}
    point.rss_mb = round(window.rss_mb(), 1)
    point.loop_lag_p99_ms = round(window.percentile("loop_lag_seconds", 99) * 1000, 2)
    point.gc_pause_max_ms = window.largest("gc_pause_seconds") * 1000
    point.commit_facts_mean = round(window.mean("commit_facts"), 1)
    point.commit_ms_mean = round(window.mean("commit_seconds") * 1000, 3)
    point.commit_ms_p99 = round(window.percentile("commit_seconds", 99) * 1000, 3)
    point.facts_per_s = round(per_s["facts"], 1)
    point.depths = {name: window.most(name) for name in DEPTHS if name in window.last.metrics}
    if rate:
        point.facts_per_unit = round(per_s["facts"] / rate, 3)
        point.appends_per_unit = round(per_s["appends"] / rate, 3)
        point.commits_per_unit = round(per_s["commits"] / rate, 3)


def _latency(encoded: str) -> Latency:
    recorder: Recorder = merged([encoded])
    return recorder.latency()
