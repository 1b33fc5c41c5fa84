"""What is said over HTTP beside the frames: the opening of a stream of events, and one session or run as a document.

Everything else that HTTP answers is a frame of the wire (`replies.py`) or the facts themselves.
"""

import msgspec

from agentd.protocol.facts import Mode, RunKind, RunState
from agentd.protocol.replies import Reset


class Document(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What they have in common. `ts`: Unix ms, as are all times."""

    session: str
    ts: int


class StreamOpened(Document, frozen=True, kw_only=True, omit_defaults=True, tag="stream.opened"):
    """The first event of every stream, without id. `first` and `seq`: the oldest fact that is kept and the last
    durable one, in a run's stream `first` is the run's own first; `log` names the database. `reset`: why the stream
    does not go on where the client asked, but from `first`."""

    run: str | None = None
    log: str
    first: int
    seq: int
    reset: Reset | None = None


class SessionView(Document, frozen=True, kw_only=True, tag="session"):
    """One session. `first` and `seq` as in `session.ack`; `unfinished` counts its runs."""

    agent: str
    owner: str
    created: int
    mode: Mode
    epoch: int
    leaf: str | None
    first: int
    seq: int
    log: str
    unfinished: int
    last_goal: str | None


class RunView(Document, frozen=True, kw_only=True, tag="run"):
    """One run, also long after its end. `first` and `last` are the seqs of its kept facts."""

    run: str
    kind: RunKind
    state: RunState
    accepted: int
    started: int | None
    ended: int | None
    cause: msgspec.Raw | None
    first: int
    last: int
