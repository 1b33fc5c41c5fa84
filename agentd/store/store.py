"""What a store must do: one durable log of numbered facts, the views derived from it, and the reads that serve them.

The writing half takes `Append`s; it never interprets a body. An append is one step of one session: its records are
consecutive, carry the session's next seq, and go down together with their rows in one transaction, or not at all.
The reading half answers questions from separate read-only connections and never waits for a writer.
"""

from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from agentd.store.figures import CommitFigures

# ---- writing ----------------------------------------------------------------------------------------------------


class Record(msgspec.Struct, frozen=True, gc=False):
    """One fact as it is stored; `body` is the frame as it is sent, byte for byte. `step`: first seq of its step."""

    seq: int
    step: int
    ts: int
    type: str
    body: bytes
    run: str | None = None
    run_seq: int | None = None


class SessionRow(msgspec.Struct, frozen=True, gc=False):
    """The session as lists show it and as the next start needs it. Written when it changes."""

    key: str
    agent: str
    owner: str
    created: int
    mode: str
    epoch: int
    leaf: str | None
    unfinished: int  # runs that have not ended; recovery looks at sessions where this is not 0
    wake_at: int | None  # Unix ms of the next timer of a resting session
    updated: int


class RunRow(msgspec.Struct, frozen=True, gc=False):
    """A run's record, which can be looked up at any time. `cause` is JSON."""

    run: str
    session: str
    kind: str
    state: str
    accepted: int
    started: int | None
    ended: int | None
    cause: bytes | None


class EntryRow(msgspec.Struct, frozen=True, gc=False):
    """An entry of the transcript; `id` is unique over all sessions, `parent` may belong to another one (a branch)."""

    id: str
    session: str
    parent: str | None
    epoch: int
    role: str
    kind: str  # message, summary, plan, note
    origin: str  # user, agent, tool, system
    content: str
    run: str | None
    ts: int
    seq: int
    related_to: str | None = None  # what a summary or a plan, which stand outside the tree, belong to
    first: str | None = None  # the range that a summary stands for
    last: str | None = None
    bytes: int | None = None  # of the words that were forgotten
    forgotten: bool = False


class ContentRow(msgspec.Struct, frozen=True, gc=False):
    """Other words for an entry that is there; its place, and the fact that made it, stay."""

    session: str
    id: str
    content: str


class PrunedRow(msgspec.Struct, frozen=True, gc=False):
    """Entries that lose their words: retention of long-term memory. Their places stay."""

    session: str
    ids: tuple[str, ...]


class ForgetRow(msgspec.Struct, frozen=True, gc=False):
    """A fact that forgets, until no copy of the words is left: `ids` are what it names, beside the plans made of them.
    `blanked`: no row and no fact has them any more, free pages and the write-ahead log may."""

    session: str
    seq: int
    ids: tuple[str, ...]
    blanked: bool = False


class KeyRow(msgspec.Struct, frozen=True, gc=False):
    """An idempotency key of a session and what it was used for."""

    session: str
    key: str
    body_hash: str
    run: str
    ts: int


class SnapshotRow(msgspec.Struct, frozen=True, gc=False):
    """A session's state after `seq`; `version` is the format's. A new one replaces the session's older ones but
    for the newest two."""

    session: str
    seq: int
    version: int
    ts: int
    body: bytes


Row = SessionRow | RunRow | EntryRow | ContentRow | PrunedRow | ForgetRow | KeyRow | SnapshotRow


class Append(msgspec.Struct, frozen=True, gc=False):
    """One step of one session. `records` are consecutive and start at the session's next seq."""

    session: str
    term: int
    records: tuple[Record, ...]
    rows: tuple[Row, ...] = ()


# ---- reading ----------------------------------------------------------------------------------------------------


class Page(msgspec.Struct, frozen=True, gc=False):
    """Bodies of consecutive facts, ascending: the first has seq `first`, so bodies[i] has first + i."""

    first: int
    bodies: tuple[bytes, ...]


class KeptRun(msgspec.Struct, frozen=True, gc=False):
    """A run and the seqs of its first and last fact that are kept; None when none is any more."""

    row: RunRow
    first: int | None
    last: int | None


class StepPage(msgspec.Struct, frozen=True, gc=False):
    """As `Page`, with the step that made each fact: `steps[i]` is the first seq of the step of `bodies[i]`."""

    first: int
    steps: tuple[int, ...]
    bodies: tuple[bytes, ...]


class Loaded(msgspec.Struct, frozen=True):
    """What a session's state is rebuilt from: evolve over `bodies` (seq > snapshot.seq, ascending) since `snapshot`."""

    row: SessionRow
    first: int  # oldest seq that is still kept
    last: int
    snapshot: SnapshotRow | None
    bodies: tuple[bytes, ...]


class Found(msgspec.Struct, frozen=True, gc=False):
    """An entry that was looked for; `on_path`: it is on the path of the leaf that was given."""

    row: EntryRow
    on_path: bool
    score: float


class Node(msgspec.Struct, frozen=True, gc=False):
    """An entry in the tree; `snippet` is the beginning of its words."""

    id: str
    parent: str | None
    role: str
    kind: str
    snippet: str
    run: str | None
    ts: int


class Prunable(msgspec.Struct, frozen=True, gc=False):
    """Entries beyond the retention, by session; `after`: where to go on, None at the end."""

    entries: dict[str, list[str]]
    after: tuple[int, int] | None


class Blanked(msgspec.Struct, frozen=True, gc=False):
    """What forgetting took words from."""

    entries: int
    facts: int


class SessionInfo(msgspec.Struct, frozen=True, gc=False):
    """A line of session.list."""

    row: SessionRow
    first: int
    last: int


class Key(msgspec.Struct, frozen=True, gc=False):
    run: str
    body_hash: str


class Opening(msgspec.Struct, frozen=True):
    """What opening found: `created` anew, or `quarantined` with where the damaged files went and what was lost."""

    log_id: str
    created: bool
    quarantined: str | None = None  # folder of the damaged files
    recovered_sessions: int = 0
    recovered_facts: int = 0
    notes: tuple[str, ...] = ()  # one sentence each: session, first seq that could not be read
    restored: str | None = None  # the file was a backup of the log with this id; it has another one now


class Store(Protocol):
    """A durable log with its views. One object per server; `opening` is set after `open`."""

    opening: Opening
    figures: CommitFigures

    async def append(self, append: Append) -> None:
        """Resolve when the facts are on the disk (fsync), together with their rows.

        Appends that wait are committed in one transaction (at most 512 facts; none is split), at once.

        Raises:
            StorageUnavailable: the commit failed; nothing of it is stored. Disk full is told by name.
            Conflict: stale term or not the session's next seq; told before the transaction, so it fails alone.
        """
        ...

    async def load(self, session: str) -> Loaded | None: ...

    async def read(self, session: str, after: int, limit: int = 500, limit_bytes: int = 1 << 20) -> Page:
        """Facts with seq > `after`, at least one when there is one, up to `limit` and about `limit_bytes`."""
        ...

    async def read_run(self, run: str, after: int = 0, limit: int = 500, limit_bytes: int = 1 << 20) -> Page:
        """Facts of one run with run_seq > `after`; `first` is a run_seq."""
        ...

    async def read_steps(self, session: str, after: int, limit: int = 500, limit_bytes: int = 1 << 20) -> StepPage:
        """As `read`, with the step of each fact: for exports."""
        ...

    async def kept_run(self, run: str) -> KeptRun | None:
        """As `run`, with where its facts are: in one read."""
        ...

    async def snapshot(self, session: str, seq: int) -> SnapshotRow | None:
        """The oldest kept snapshot at or after `seq`."""
        ...

    async def sessions(
        self, *, owner: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> list[SessionInfo]:
        """By key, ascending, keys > `cursor`."""
        ...

    async def unfinished(self) -> list[str]:
        """Keys of the sessions with unfinished runs."""
        ...

    async def run(self, run: str) -> RunRow | None: ...

    async def runs(self, session: str, limit: int = 100) -> list[RunRow]:
        """Newest first."""
        ...

    async def key(self, session: str, key: str) -> Key | None: ...

    async def entries(self, ids: list[str]) -> dict[str, EntryRow]: ...

    async def path(self, leaf: str, limit: int = 64, limit_bytes: int = 1 << 20) -> list[EntryRow]:
        """From `leaf` towards the root, newest first, the leaf itself included."""
        ...

    async def summaries(self, leaf: str, limit: int) -> list[tuple[EntryRow, bytes]]:
        """Summaries of the path that ends in `leaf`, those of its newest entries first, each with the body of the fact
        that made it. Forgotten ones are not among them."""
        ...

    async def query(
        self,
        session: str,
        *,
        leaf: str | None = None,
        topic: str | None = None,
        ids: list[str] | None = None,
        kinds: list[str] | None = None,
        since: int | None = None,
        until: int | None = None,
        epoch: int | None = None,
        path_only: bool = False,
        rare: int | None = None,
        limit: int = 25,
        offset: int = 0,
    ) -> list[Found]:
        """Entries of the session and of the path that its `leaf` shares with others: ranked by `topic` (recall.py) or
        newest first. `path_only`: only those on that path. `rare`: look only for words that at most so many rows have.
        Forgotten ones are not there."""
        ...

    async def tree(self, session: str, leaf: str | None, *, limit: int = 200, before: str | None = None) -> list[Node]:
        """Entries of the session and of the path that it shares, newest first, ids older than `before`."""
        ...

    async def sessions_at(self, entry: str) -> list[str]:
        """Sessions whose history holds the entry: its own first, then those that branched at or after it."""
        ...

    async def index(self, limit: int = 500) -> int:
        """Take the next rows into the full-text index; how many, 0 when it is level."""
        ...

    async def blank(
        self, entries: list[str], sessions: list[str], rewrite: Callable[[bytes], bytes | None], *, runs: list[str]
    ) -> Blanked:
        """Take the words out of these entries, the index, and what `rewrite` changes of the facts of `runs` and of the
        sessions' memory; snapshots of the sessions go. In slices; `forgetting` names what is not done to its end.

        Raises:
            StorageUnavailable: it can't be written now; a part may have been done.
        """
        ...

    async def purge(self) -> bool:
        """Leave no copy of what was blanked in index and write-ahead log; False while a reader is in the way."""
        ...

    async def forgetting(self) -> list[ForgetRow]:
        """What was said to be forgotten and may not be everywhere yet: not `blanked`, or not purged since."""
        ...

    async def prunable(
        self, *, before_ms: int = 0, keep: int = 0, limit: int = 200, after: tuple[int, int] | None = None
    ) -> Prunable:
        """A slice of the entries that are older than `before_ms`, or else not among the newest `keep` of their session;
        one that stays keeps no other from being told, because the next slice begins after it."""
        ...

    async def keep_snapshot(self, row: SnapshotRow) -> None:
        """A session's state at rest. Raises StorageUnavailable."""
        ...

    async def prune_keys(self, before_ms: int) -> int: ...

    async def close(self) -> None:
        """Commit what waits, checkpoint, close every connection."""
        ...


Health = Literal["ok", "warning", "error"]
