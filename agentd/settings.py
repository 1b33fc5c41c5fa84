"""What can be set: one frozen struct for each section of the configuration file, with defaults, units and bounds.

The names are part of what operators rely on, so they are only added to. The unit is the end of a name (`_s` seconds,
`_ms` milliseconds, `_bytes`, `_days`); counts have none. The defaults here, in `config/agentd.toml` and in
`docs/settings.md` are the same, which a test checks. Where a value comes from is `config.py`'s business.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

KIB = 1024
MIB = 1024 * KIB

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Days = Annotated[int, Meta(ge=0, le=36_500)]
Seconds = Annotated[float, Meta(ge=0.05, le=86_400)]
Share = Annotated[float, Meta(gt=0, le=1)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of the sections."""


class Server(Section, frozen=True):
    """Where the server listens and keeps what it stores."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 18_790  # 0: any free port
    state_dir: str = ""  # empty: the user's state directory; absolute once loaded
    tls_cert: str = ""
    tls_key: str = ""
    origins: list[str] = msgspec.field(default_factory=list)  # beside the server's own


class Limits(Section, frozen=True):
    """Every bound of the server."""

    frame_bytes: Annotated[int, Meta(ge=KIB, le=64 * MIB)] = MIB
    chat_bytes: Annotated[int, Meta(ge=1, le=16 * MIB)] = 64 * KIB
    mailbox: Count = 256  # commands waiting for one session
    control: Count = 64  # control commands waiting for one session, beside the mailbox
    outbox_bytes: Annotated[int, Meta(ge=4 * KIB, le=1024 * MIB)] = MIB  # per socket
    outbox_frames: Count = 2_000  # per socket
    runs_per_session: Count = 32  # queued
    tasks_per_plan: Annotated[int, Meta(ge=1, le=10_000)] = 200
    dispatch: Count = 16  # tasks of one run admitted at once
    queued_per_session: Count = 64
    queued_global: Count = 1_024
    workers: Annotated[int, Meta(ge=1, le=10_000)] = 8
    model_calls: Annotated[int, Meta(ge=1, le=10_000)] = 16
    ram_entries: Annotated[int, Meta(ge=2, le=10_000)] = 64  # active entries of one session
    ram_bytes: Annotated[int, Meta(ge=KIB, le=64 * MIB)] = 48 * KIB
    ram_tokens: Annotated[int, Meta(ge=0, le=100_000_000)] = 16_384  # the same, estimated; 0: no bound of its own
    sessions_awake: Count = 10_000
    runs_global: Count = 2_048  # unfinished
    sockets: Count = 10_000
    sockets_per_session: Count = 64
    requests_per_socket: Count = 64  # unanswered
    fact_bytes: Annotated[int, Meta(ge=KIB, le=16 * MIB)] = 256 * KIB
    rss_bytes: Annotated[int, Meta(ge=0)] = 0  # 0: no limit


class Heartbeat(Section, frozen=True):
    """The regular word on how a session is doing."""

    enabled: bool = True
    interval_s: Seconds = 30
    warning_s: Seconds = 30  # saturated for so long: prolonged_saturation


class Memory(Section, frozen=True):
    """Working memory and what becomes of it. The marks are shares of limits.ram_entries and limits.ram_bytes."""

    high_water: Share = 0.9  # compaction begins
    low_water: Share = 0.7  # and ends
    rest_s: Seconds = 600  # a session in which nothing happened leaves memory; its sockets stay
    keep_days: Days = 0  # 0: for ever
    keep_entries: Annotated[int, Meta(ge=0, le=100_000_000)] = 0  # newest entries of a session; 0: all
    keep_snapshots: Annotated[int, Meta(ge=1, le=1_000)] = 2


class Identity(Section, frozen=True):
    """Who the agent is."""

    dir: str = ""  # empty: the files that agentd brings along
    budget_bytes: Annotated[int, Meta(ge=256, le=MIB)] = 32 * KIB  # of the merged text


class Provider(Section, frozen=True):
    """Who thinks. Keys are no settings: they come from the environment only."""

    name: str = ""  # empty: offline, told at start
    model: str = ""
    base_url: str = ""
    pace_ms: Annotated[int, Meta(ge=0, le=60_000)] = 0  # offline only: the wait before each piece of text


class Admission(Section, frozen=True):
    """What becomes of a task that the dispatch cap keeps out."""

    overflow: Literal["defer", "drop"] = "defer"


class Retention(Section, frozen=True):
    """How long facts are kept."""

    days: Days = 0  # 0: for ever
    keys_days: Annotated[int, Meta(ge=1, le=3_650)] = 7  # idempotency keys


class Runs(Section, frozen=True):
    """How many waiting inputs are placed at once."""

    steer: Literal["all", "one"] = "all"
    follow_up: Literal["all", "one"] = "one"


class Extensions(Section, frozen=True):
    """How long code that is not agentd's may take."""

    hook_timeout_s: Seconds = 5
    tool_timeout_s: Seconds = 30


class Settings(msgspec.Struct, frozen=True):
    """All settings. `sources` says for "section.key" where its value came from; what is not in it is a default."""

    server: Server = msgspec.field(default_factory=Server)
    limits: Limits = msgspec.field(default_factory=Limits)
    heartbeat: Heartbeat = msgspec.field(default_factory=Heartbeat)
    memory: Memory = msgspec.field(default_factory=Memory)
    identity: Identity = msgspec.field(default_factory=Identity)
    provider: Provider = msgspec.field(default_factory=Provider)
    admission: Admission = msgspec.field(default_factory=Admission)
    retention: Retention = msgspec.field(default_factory=Retention)
    runs: Runs = msgspec.field(default_factory=Runs)
    extensions: Extensions = msgspec.field(default_factory=Extensions)
    sources: dict[str, str] = msgspec.field(default_factory=dict)


SECTIONS: dict[str, type[Section]] = {
    field.name: field.type for field in msgspec.structs.fields(Settings) if field.name != "sources"
}
"""The sections by name, in the order they are written down."""
