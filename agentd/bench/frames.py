"""What the bench reads of a frame: the fields that its laws and clocks need, by another struct than the server's.

The server's own types are not used on purpose: what it would forget to send or send under another name must not be
filled in here by the same default. One decoder, made once; a frame that does not fit is a breach.
"""

import msgspec


class Limit(msgspec.Struct, gc=False):
    dispatch: int
    session: int
    server: int = msgspec.field(name="global")
    workers: int


class Figures(msgspec.Struct, gc=False):
    """The backpressure object; every field is on every one."""

    scope: str
    total: int
    pending: int
    accepted: int
    queued: int
    active: int
    settled: int
    dropped: int
    dropped_ids: list[str]
    limit: Limit


class Counts(msgspec.Struct, gc=False):
    total: int
    done: int
    failed: int
    cancelled: int
    skipped: int
    dropped: int


class Named(msgspec.Struct, gc=False):
    """A task of a plan, or a run in `agent.state`; only its name and kind are read."""

    id: str = ""
    kind: str = ""


class Details(msgspec.Struct, gc=False):
    cap: str = ""
    backpressure: Figures | None = None


class Cause(msgspec.Struct, gc=False):
    code: str = ""


class Frame(msgspec.Struct, gc=False):
    """Any frame of the server. A fact is what has `seq` and is no greeting and no `stream.lagged`."""

    type: str
    session: str = ""
    seq: int | None = None
    run: str | None = None
    run_seq: int | None = None
    request: str | None = None
    content: str | None = None
    message: str | None = None
    offset: int | None = None
    text: str | None = None
    phase: str | None = None
    status: str | None = None
    state: str | None = None
    task: str | None = None
    admitted: list[str] = []
    tasks: list[Named] = []
    backpressure: Figures | None = None
    counts: Counts | None = None
    code: str | None = None
    cause: Cause | None = None
    details: Details | None = None
    retry_after_ms: int | None = None
    finish_reason: str | None = None

    @property
    def is_fact(self) -> bool:
        return self.seq is not None and self.type not in NUMBERED_ONLY


NUMBERED_ONLY = ("session.ack", "stream.lagged")
"""Frames that tell a number and have none of their own."""
ENDS = ("run.completed", "run.failed", "run.cancelled")

decode = msgspec.json.Decoder(Frame).decode
"""Raises msgspec.DecodeError or UnicodeDecodeError."""
