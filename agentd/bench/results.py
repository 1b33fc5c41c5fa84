"""What a bench found out, as values: the result file of `agentd bench`, read by its report and by `compare`.

A figure says its unit in its name. A `Point` is what was measured under one load; with several repeats its figures are
the medians and `spread` holds the least and the most of each. A breach is never a figure: a result with one is not
`ok`, however fast it was. The format only grows: fields are added, with a default.
"""

from pathlib import Path

import msgspec

FORMAT = 1
FILE = "bench.json"


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds from the moment at which the request should have been sent (in a closed loop: was sent)."""

    count: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    max: float = 0.0


class Point(msgspec.Struct, kw_only=True):
    """One load, measured after its warm-up. Rates are per second; a unit is a turn, a run, a frame: see the scenario.

    `achieved` counts what ended well of the accepted; `shed` what the server refused as overloaded; `lost` what did
    neither in time, for which a breach tells more. `client_late_ms` is how late the bench itself sent: when its p99 is
    not small beside the latencies, the clients were the bottleneck. `cpu_share` is of one core.
    """

    label: str
    offered: float = 0.0
    achieved: float = 0.0
    accepted: float = 0.0
    shed: float = 0.0
    lost: float = 0.0
    seconds: float = 0.0
    units: int = 0
    closed: bool = False
    latency: Latency = Latency()
    first: Latency = Latency()
    accept: Latency = Latency()
    client_late_ms: Latency = Latency()
    client_cpu_share: float = 0.0
    cpu_us_per_unit: float = 0.0
    cpu_share: float = 0.0
    rss_mb: float = 0.0
    loop_lag_p99_ms: float = 0.0
    gc_pause_max_ms: float = 0.0
    commit_facts_mean: float = 0.0
    commit_ms_mean: float = 0.0
    commit_ms_p99: float = 0.0
    facts_per_s: float = 0.0
    facts_per_unit: float = 0.0
    appends_per_unit: float = 0.0
    commits_per_unit: float = 0.0
    depths: dict[str, float] = {}
    """The most seen in the samples: runs_unfinished, tasks_queued, workers_active, model_calls_in_flight, mailbox…"""
    refused: dict[str, int] = {}
    """By the cap that refused."""
    spread: dict[str, tuple[float, float]] = {}
    others_share: float = 0.0
    """Of the server's core, what other processes took meanwhile: a shared machine is not a slow server."""


class Series(msgspec.Struct, frozen=True):
    """One line over time: seconds since the scenario's load began, and a value for each."""

    name: str
    unit: str
    times: list[float]
    values: list[float]


class Breach(msgspec.Struct, frozen=True):
    """A law that was broken: `name` is one of `checker.LAWS`, `count` how often, `examples` the first few."""

    name: str
    count: int
    examples: list[str]


class Goal(msgspec.Struct, frozen=True):
    """A figure that somebody has to reach: `ratio` is measured ÷ goal; `met` says which side of it is good."""

    name: str
    goal: float
    measured: float
    ratio: float
    met: bool
    unit: str


class Scenario(msgspec.Struct, kw_only=True):
    """What one scenario found. `figures` are its own, by name (their unit is the end of the name); `knee` is an offered
    load per second; `recovery_s` from the end of the overload until latency was normal again. `floor` holds the points
    of the floor server beside those of the same label. `runs` are the points of each repeat."""

    name: str
    title: str
    unit: str
    settings: dict[str, str | int | float | bool] = {}
    points: list[Point] = []
    floor: list[Point] = []
    knee: float | None = None
    peak: float | None = None
    recovery_s: float | None = None
    figures: dict[str, float] = {}
    goals: list[Goal] = []
    series: list[Series] = []
    breaches: list[Breach] = []
    notes: list[str] = []
    seconds: float = 0.0
    runs: list[list[Point]] = []

    @property
    def ok(self) -> bool:
        return not self.breaches


class Machine(msgspec.Struct, kw_only=True):
    """What it ran on. `server_cores` and `client_cores` are those that the bench pinned the processes to."""

    cpu: str
    cores: int
    memory_mb: int
    kernel: str
    python: str
    server_cores: list[int] = []
    client_cores: list[int] = []


class Result(msgspec.Struct, kw_only=True):
    """A whole run of `agentd bench`. `started_ts` is Unix milliseconds."""

    machine: Machine
    versions: dict[str, str]
    commit: str
    started_ts: int
    seconds: float
    command: str
    settings: dict[str, str | int | float | bool]
    scenarios: list[Scenario]
    format: int = FORMAT

    @property
    def ok(self) -> bool:
        """The work that was accepted happened, all of it."""
        return all(scenario.ok for scenario in self.scenarios)


class UnreadableResult(Exception):
    """The file is no result of this or an older `agentd bench`."""


def write(result: Result, path: Path) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")


def read(path: Path) -> Result:
    """The result in a file, or in a folder that `--out` named. Raises UnreadableResult."""
    file = path / FILE if path.is_dir() else path
    try:
        found = msgspec.json.decode(file.read_bytes(), type=Result)
    except OSError as error:
        raise UnreadableResult(f"{file}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise UnreadableResult(f"{file} is no result of agentd bench: {error}") from None
    if found.format > FORMAT:
        raise UnreadableResult(f"{file} was written by a newer agentd (format {found.format}, this one reads {FORMAT})")
    return found
