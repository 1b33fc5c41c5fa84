"""A store in memory for simulations: the same group commit, a dictionary for a disk, faults on demand.

It passes the contract suite that the store on SQLite passes. `before_commit` is awaited before each transaction (a
slow disk), `fail` makes the next transactions fail, `crash` gives the store that a restart would find: exactly what
was committed, nothing of what was under way.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace

from agentd.clock import Clock
from agentd.protocol.errors import AgentdError, Conflict, StorageUnavailable
from agentd.store.figures import CommitFigures
from agentd.store.fulltext import words_in, words_of
from agentd.store.log import GroupCommit, Position
from agentd.store.store import (
    Append,
    Blanked,
    ContentRow,
    EntryRow,
    ForgetRow,
    Found,
    KeptRun,
    Key,
    KeyRow,
    Loaded,
    Node,
    Opening,
    Page,
    Prunable,
    PrunedRow,
    Record,
    RunRow,
    SessionInfo,
    SessionRow,
    SnapshotRow,
    StepPage,
)
from agentd.store.tree import SNIPPET_CHARS
from agentd.supervisor import Supervisor

SNAPSHOTS_KEPT = 2
BeforeCommit = Callable[[list[Append]], Awaitable[None]]


class Disk:
    """What was committed."""

    def __init__(self) -> None:
        self.facts: dict[str, list[Record]] = {}
        self.terms: dict[str, int] = {}
        self.by_run: dict[str, dict[int, Record]] = {}
        self.sessions: dict[str, SessionRow] = {}
        self.runs: dict[str, RunRow] = {}
        self.entries: dict[str, EntryRow] = {}
        self.keys: dict[tuple[str, str], KeyRow] = {}
        self.snapshots: dict[str, list[SnapshotRow]] = {}
        self.forgetting: dict[tuple[str, int], ForgetRow] = {}

    def copy(self) -> "Disk":
        other = Disk()
        for name, value in vars(self).items():
            setattr(other, name, {key: _copied(item) for key, item in value.items()})
        return other

    def refusal(self, append: Append) -> AgentdError | None:
        for record in append.records:
            if record.run is not None and record.run_seq in self.by_run.get(record.run, {}):
                return Conflict(f"a fact of run {record.run} is there already", details={"reason": "row"})
        return None

    def write(self, append: Append) -> None:
        if append.session not in self.facts:
            self.facts[append.session] = []
        for record in append.records:
            self.facts[append.session].append(record)
            self.terms[append.session] = append.term
            if record.run is not None and record.run_seq is not None:
                self.by_run.setdefault(record.run, {})[record.run_seq] = record
        for row in append.rows:
            self._write_row(row)

    def _write_row(self, row: object) -> None:
        match row:
            case SessionRow():
                self.sessions[row.key] = row
                self.facts.setdefault(row.key, [])
            case RunRow():
                self.runs[row.run] = row
            case EntryRow():
                self.entries.setdefault(row.id, row)
            case ContentRow():
                self.change(row.id, row.content, forgotten=False)
            case PrunedRow():
                for name in row.ids:
                    self.change(name, "", forgotten=True)
            case ForgetRow():
                self.forgetting[row.session, row.seq] = row
            case KeyRow():
                self.keys[row.session, row.key] = row
            case SnapshotRow():
                others = [old for old in self.snapshots.get(row.session, []) if old.seq != row.seq]
                self.snapshots[row.session] = sorted([*others, row], key=lambda old: old.seq)[-SNAPSHOTS_KEPT:]

    def change(self, name: str, content: str, *, forgotten: bool) -> None:
        row = self.entries.get(name)
        if row is not None and not row.forgotten:
            size = row.bytes if row.bytes is not None else len(row.content.encode("utf-8", "surrogatepass"))
            self.entries[name] = replace(
                row, content=content, forgotten=forgotten, bytes=size if forgotten else None
            )  # fmt: skip

    def path(self, leaf: str | None) -> list[EntryRow]:
        found: list[EntryRow] = []
        row = self.entries.get(leaf or "")
        while row is not None:
            found.append(row)
            row = self.entries.get(row.parent or "")
        return found


class MemoryStore:
    """`Store` in memory."""

    def __init__(self, *, clock: Clock, supervisor: Supervisor, disk: Disk | None = None, log_id: str = "") -> None:
        self.opening = Opening(log_id or clock.new_id("log"), created=disk is None)
        self.figures = CommitFigures()
        self.disk = disk or Disk()
        self.before_commit: BeforeCommit | None = None
        self._failures: list[AgentdError] = []
        self._clock = clock
        self._supervisor = supervisor
        self._log = GroupCommit(_Backend(self), self.figures, clock, supervisor)

    def fail(self, times: int = 1, error: AgentdError | None = None) -> None:
        """Let the next `times` transactions fail."""
        self._failures += [error or StorageUnavailable("the disk is full", hint="free space")] * times

    def crash(self) -> "MemoryStore":
        """What a restart finds. The old store goes on writing to nothing that the new one sees."""
        return MemoryStore(
            clock=self._clock, supervisor=self._supervisor, disk=self.disk.copy(), log_id=self.opening.log_id
        )

    async def append(self, append: Append) -> None:
        await self._log.append(append)

    async def load(self, session: str) -> Loaded | None:
        info = self._info(session)
        if info is None:
            return None
        snapshots = self.disk.snapshots.get(session)
        snapshot = snapshots[-1] if snapshots else None
        bodies = tuple(record.body for record in self.disk.facts[session] if not snapshot or record.seq > snapshot.seq)
        return Loaded(info.row, info.first, info.last, snapshot, bodies)

    async def read(self, session: str, after: int, limit: int = 500, limit_bytes: int = 1 << 20) -> Page:
        facts = self.disk.facts.get(session, [])
        return _page([(r.seq, r.body) for r in facts if r.seq > after], after, limit, limit_bytes)

    async def read_run(self, run: str, after: int = 0, limit: int = 500, limit_bytes: int = 1 << 20) -> Page:
        facts = sorted(self.disk.by_run.get(run, {}).items())
        return _page([(number, r.body) for number, r in facts if number > after], after, limit, limit_bytes)

    async def read_steps(self, session: str, after: int, limit: int = 500, limit_bytes: int = 1 << 20) -> StepPage:
        page = await self.read(session, after, limit, limit_bytes)
        steps = {record.seq: record.step for record in self.disk.facts.get(session, [])}
        return StepPage(page.first, tuple(steps[page.first + n] for n in range(len(page.bodies))), page.bodies)

    async def kept_run(self, run: str) -> KeptRun | None:
        row = self.disk.runs.get(run)
        if row is None:
            return None
        seqs = [record.seq for _, record in sorted(self.disk.by_run.get(run, {}).items())]
        return KeptRun(row, seqs[0], seqs[-1]) if seqs else KeptRun(row, None, None)

    async def snapshot(self, session: str, seq: int) -> SnapshotRow | None:
        return next((row for row in self.disk.snapshots.get(session, []) if row.seq >= seq), None)

    async def sessions(
        self, *, owner: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> list[SessionInfo]:
        found = [self._info(key) for key in sorted(self.disk.facts) if cursor is None or key > cursor]
        return [info for info in found if info and owner in (None, info.row.owner)][:limit]

    async def unfinished(self) -> list[str]:
        return sorted(key for key, row in self.disk.sessions.items() if row.unfinished > 0)

    async def run(self, run: str) -> RunRow | None:
        return self.disk.runs.get(run)

    async def runs(self, session: str, limit: int = 100) -> list[RunRow]:
        found = [row for row in self.disk.runs.values() if row.session == session]
        return sorted(reversed(found), key=lambda row: row.accepted, reverse=True)[:limit]

    async def key(self, session: str, key: str) -> Key | None:
        row = self.disk.keys.get((session, key))
        return None if row is None else Key(row.run, row.body_hash)

    async def entries(self, ids: list[str]) -> dict[str, EntryRow]:
        return {name: self.disk.entries[name] for name in ids if name in self.disk.entries}

    async def path(self, leaf: str, limit: int = 64, limit_bytes: int = 1 << 20) -> list[EntryRow]:
        found: list[EntryRow] = []
        size = 0
        entry = self.disk.entries.get(leaf)
        while entry is not None and len(found) < limit:
            size += len(entry.content.encode("utf-8", "surrogatepass"))
            if found and size > limit_bytes:
                break
            found.append(entry)
            entry = self.disk.entries.get(entry.parent) if entry.parent else None
        return found

    async def summaries(self, leaf: str, limit: int) -> list[tuple[EntryRow, bytes]]:
        depths = {row.id: -at for at, row in enumerate(self.disk.path(leaf))}
        rows = [row for row in self.disk.entries.values() if row.kind == "summary" and not row.forgotten]
        rows = [row for row in reversed(rows) if row.related_to in depths]
        rows.sort(key=lambda row: depths[row.related_to or ""], reverse=True)
        return [(row, self.disk.facts[row.session][row.seq - 1].body) for row in rows[:limit]]

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
        """The same answers as by the index, by looking at every row; the order of equals is by words and newness."""
        path = {row.id for row in self.disk.path(leaf)}
        own = [row for row in self.disk.entries.values() if row.session == session]
        known = {one.id for row in own for one in self.disk.path(row.id)}
        wanted = words_of(topic) if topic is not None else []
        if rare is not None:
            said = [set(words_in(row.content)) for row in self.disk.entries.values()]
            wanted = [word for word in wanted if 0 < sum(word in one for one in said) <= rare]
        found: list[tuple[int, int, Found]] = []
        for number, row in enumerate(self.disk.entries.values()):
            place = row.id if row.kind == "message" else row.related_to
            on_path = place in path
            ours = row.session == session or place in known
            seen = (on_path or (ours and not path_only)) and not row.forgotten
            fits = (
                (ids is None or row.id in ids)
                and (kinds is None or row.kind in kinds)
                and (since is None or row.ts >= since)
                and (until is None or row.ts <= until)
                and (epoch is None or row.epoch == epoch)
            )
            count = len(set(words_in(row.content)).intersection(wanted))
            if seen and fits and (count or topic is None):
                found.append((-count, -number, Found(row, on_path, float(count))))
        found.sort(key=lambda one: one[:2])
        return [one for _, _, one in found[offset : offset + limit]]

    async def tree(self, session: str, leaf: str | None, *, limit: int = 200, before: str | None = None) -> list[Node]:
        path = {row.id for row in self.disk.path(leaf)}
        rows = [row for row in self.disk.entries.values() if row.kind == "message"]
        rows = [row for row in rows if row.session == session or row.id in path]
        names = [row.id for row in rows]
        rows = rows[: names.index(before)] if before in names else rows if before is None else []
        return [
            Node(row.id, row.parent, row.role, row.kind, row.content[:SNIPPET_CHARS], row.run, row.ts)
            for row in reversed(rows[-limit:])
        ]

    async def sessions_at(self, entry: str) -> list[str]:
        row = self.disk.entries.get(entry)
        if row is None:
            return []
        found = [row.session]
        if row.kind != "message":
            entry = row.related_to or ""
        for other in self.disk.entries.values():
            if other.session not in found and any(one.id == entry for one in self.disk.path(other.id)):
                found.append(other.session)
        for key, info in self.disk.sessions.items():
            if key not in found and any(one.id == entry for one in self.disk.path(info.leaf)):
                found.append(key)
        return found

    async def index(self, limit: int = 500) -> int:
        """A dictionary has no index."""
        return 0

    async def blank(
        self, entries: list[str], sessions: list[str], rewrite: Callable[[bytes], bytes | None], *, runs: list[str]
    ) -> Blanked:
        facts = 0
        for name in entries:
            self.disk.change(name, "", forgotten=True)
        for key, records in self.disk.facts.items():
            for place, record in enumerate(records):
                memory = key in sessions and record.type.startswith("memory.")
                fresh = rewrite(record.body) if memory or record.run in runs else None
                if fresh is not None:
                    facts += 1
                    records[place] = less = replace(record, body=fresh)
                    if record.run is not None and record.run_seq is not None:
                        self.disk.by_run[record.run][record.run_seq] = less
        for key in sessions:
            self.disk.snapshots.pop(key, None)
        for at, row in self.disk.forgetting.items():
            if row.session in sessions and set(entries).issuperset(row.ids):
                self.disk.forgetting[at] = replace(row, blanked=True)
        return Blanked(entries=len(entries), facts=facts)

    async def purge(self) -> bool:
        self.disk.forgetting = {name: row for name, row in self.disk.forgetting.items() if not row.blanked}
        return True

    async def forgetting(self) -> list[ForgetRow]:
        return list(self.disk.forgetting.values())

    async def prunable(
        self, *, before_ms: int = 0, keep: int = 0, limit: int = 200, after: tuple[int, int] | None = None
    ) -> Prunable:
        numbers = {name: number for number, name in enumerate(self.disk.entries, 1)}
        kept = [row for row in self.disk.entries.values() if not row.forgotten]
        sessions = list(dict.fromkeys(row.session for row in kept))
        if before_ms:
            old = sorted((row.ts, numbers[row.id], row) for row in kept if row.ts < before_ms)
        else:
            old = []
            for at, key in enumerate(sessions if keep else []):
                own = [row for row in kept if row.session == key]
                old += [(at, numbers[row.id], row) for row in own[: max(len(own) - keep, 0)]]
        part = [one for one in old if after is None or one[:2] > after][:limit]
        found: dict[str, list[str]] = {}
        for _, _, row in part:
            found.setdefault(row.session, []).append(row.id)
        return Prunable(found, part[-1][:2] if len(part) == limit else None)

    async def keep_snapshot(self, row: SnapshotRow) -> None:
        self.disk._write_row(row)

    async def prune_keys(self, before_ms: int) -> int:
        old = [name for name, row in self.disk.keys.items() if row.ts < before_ms]
        for name in old:
            del self.disk.keys[name]
        return len(old)

    async def close(self) -> None:
        await self._log.close()

    def _info(self, session: str) -> SessionInfo | None:
        if session not in self.disk.facts:
            return None
        facts = self.disk.facts[session]
        row = self.disk.sessions.get(session) or SessionRow(session, "", "", 0, "running", 0, None, 0, None, 0)
        kept = self.disk.snapshots.get(session)
        last = max(facts[-1].seq if facts else 0, kept[-1].seq if kept else 0)
        return SessionInfo(row, facts[0].seq if facts else last + 1, last)

    async def _commit(self, batch: list[Append]) -> list[AgentdError | None]:
        if self.before_commit is not None:
            await self.before_commit(batch)
        if self._failures:
            raise self._failures.pop(0)
        outcome: list[AgentdError | None] = []
        for append in batch:
            refusal = self.disk.refusal(append)
            if refusal is None:
                self.disk.write(append)
            outcome.append(refusal)
        return outcome


class _Backend:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._batch: list[Append] = []

    async def positions(self, sessions: list[str]) -> dict[str, Position]:
        disk = self._store.disk
        found = {}
        for key in sessions:
            info = self._store._info(key)
            if info is not None:
                found[key] = Position(info.last, disk.terms.get(key, 0))
        return found

    async def commit(self, batch: list[Append]) -> list[AgentdError | None]:
        self._batch = batch
        return await self._store._commit(batch)

    async def finish(self) -> list[AgentdError | None]:
        return await self._store._commit(self._batch)

    async def checkpoint(self) -> None:
        """A dictionary has no log to bring in."""


def _page(facts: list[tuple[int, bytes]], after: int, limit: int, limit_bytes: int) -> Page:
    bodies: list[bytes] = []
    size = 0
    for _, body in facts[: max(1, limit)]:
        size += len(body)
        if bodies and size > limit_bytes:
            break
        bodies.append(body)
    return Page(facts[0][0] if bodies else after + 1, tuple(bodies))


def _copied(item: Any) -> Any:
    return item.copy() if isinstance(item, list | dict) else item
