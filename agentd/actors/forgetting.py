"""`memory.forget`: first the sessions that hold the words say that they are forgotten, then every copy is blanked.

The order matters: once the fact is stored no prompt and no new snapshot is made from the words, so that nothing writes
them again while the disk is cleaned. A crash in between leaves the fact and the store's note of it, from which `finish`
does it again; so it does when a reader kept the write-ahead log from being truncated (29, 30).
"""

import asyncio
from itertools import count

import structlog

from agentd.actors.ahead import owned
from agentd.actors.directory import Directory
from agentd.actors.shared import Shared
from agentd.core import intents as i
from agentd.core.forgetting import Gone, blanked, touched_runs
from agentd.core.state import Session
from agentd.protocol.errors import AgentdError, NotFound
from agentd.protocol.facts import By
from agentd.protocol.replies import MemoryForgetDone, Reply
from agentd.protocol.signals import Signal
from agentd.store.store import EntryRow, Store

STORED_S = 30.0
SUMMARIES_AT_ONCE = 512

log = structlog.get_logger(__name__)


async def forget(
    shared: Shared, directory: Directory, state: Session, ids: tuple[str, ...], by: By
) -> MemoryForgetDone:
    """Forget these entries of a session, in every session that has them.

    Raises:
        NotFound: one of them is not this session's own. Conflict: one belongs to a run that has not ended.
    """
    store = shared.store
    for name in ids:
        row = await owned(store, state, name)
        if row is None or row.session != state.key:
            raise NotFound(
                f"no entry {name} of this session", kind="entry",
                hint="What a branch shares is forgotten where it was said.",
            )  # fmt: skip
    sessions = await _sessions(shared, state.key, ids)
    plans = tuple(f"{run}.p" for run in Gone(frozenset(ids)).runs)
    shared.forgetting.update(sessions)
    try:
        return await _forget(shared, directory, state, ids, (*ids, *plans), sessions, by)
    finally:
        shared.forgetting.difference_update(sessions)
        for key in sessions:
            seat = directory.get(key)
            if seat is not None and seat.actor is not None:
                shared.look(seat.actor.state)


async def finish(shared: Shared, directory: Directory, by: By) -> None:
    """Do to its end what was to be forgotten when a process ended before it was done; what can't be now stays noted.

    Raises:
        StorageUnavailable: the store can't be asked.
    """
    left = [row for row in await shared.store.forgetting() if row.session not in shared.forgetting]
    again = {name for row in left if not row.blanked for name in row.ids}
    own: dict[str, list[str]] = {}  # what a branch was told is forgotten where it was said
    for row in (await shared.store.entries(sorted(again))).values():
        own.setdefault(row.session, []).append(row.id)
    for key, ids in own.items():
        try:
            seat = await directory.find(key)
            if seat is not None:
                await forget(shared, directory, (await seat.awake()).state, tuple(ids), by)
        except (AgentdError, TimeoutError) as error:
            log.warning("forget.not_finished", session=key, reason=str(error))
    if left and not own:
        await shared.store.purge()


async def _forget(
    shared: Shared,
    directory: Directory,
    state: Session,
    asked: tuple[str, ...],
    ids: tuple[str, ...],
    sessions: list[str],
    by: By,
) -> MemoryForgetDone:
    """Say it in every session, then clean the disk. No summary is made of the words meanwhile."""
    said: dict[str, MemoryForgetDone] = {}
    words = set(ids)
    while True:
        # One may have been made between this look and the facts; after them none can be made of these words.
        found = [name for key in sessions for name in await _summaries(shared, key, ids)]
        summaries = tuple(name for name in dict.fromkeys(found) if name not in words)
        if said and not summaries:
            break
        words.update(summaries)
        for key in sessions:  # each is told of all: a session may hold a summary that another one made of their path
            reply = await _told(directory, key, i.ForgetMemory(by=by, ids=ids, summaries=summaries))
            said.setdefault(key, reply)
    told = said[state.key]
    gone = Gone(frozenset(words))
    done = await shared.store.blank(
        sorted(words), sessions, lambda body: blanked(body, gone), runs=sorted(touched_runs(gone.ids))
    )
    purged = await shared.store.purge()
    return MemoryForgetDone(
        session=told.session, ts=told.ts, memory_ids=asked, bytes_before=told.bytes_before,
        bytes_after=told.bytes_after, purged=purged, facts=done.facts, sessions=tuple(sessions),
    )  # fmt: skip


async def _sessions(shared: Shared, own: str, ids: tuple[str, ...]) -> list[str]:
    """The session itself first, then those branched at or after one of the entries."""
    found = [own]
    for name in ids:
        found.extend(key for key in await shared.store.sessions_at(name) if key not in found)
    return found


async def _summaries(shared: Shared, session: str, ids: tuple[str, ...]) -> list[str]:
    """Summaries of that session whose range holds one of the entries, or that were made from such ones."""
    store, found = shared.store, list[str]()
    for offset in count(0, SUMMARIES_AT_ONCE):
        page = await store.query(session, kinds=["summary"], limit=SUMMARIES_AT_ONCE, offset=offset)
        ends = {end for one in page for end in (one.row.first, one.row.last) if end is not None}
        rows = await store.entries([*ids, *ends])
        found += [one.row.id for one in page if await _holds(store, session, one.row, ids, rows)]
        if len(page) < SUMMARIES_AT_ONCE:
            break
    return found


async def _holds(
    store: Store, session: str, summary: EntryRow, ids: tuple[str, ...], rows: dict[str, EntryRow]
) -> bool:
    """Whether an entry lies between both ends: on the path to the last, with the first on its own path."""
    if summary.first is None or summary.last is None:
        return summary.related_to in ids
    first, last = rows.get(summary.first), rows.get(summary.last)
    for name in ids:
        row = rows.get(name)
        if row is None or _later(first, row) or _later(row, last):
            continue
        before = await store.query(session, leaf=summary.last, ids=[name], path_only=True, limit=1)
        if before and await store.query(session, leaf=name, ids=[summary.first], path_only=True, limit=1):
            return True
    return False


def _later(one: EntryRow | None, other: EntryRow | None) -> bool:
    """Whether it surely came after the other, so that it is not on the path to it."""
    return one is not None and other is not None and one.session == other.session and one.seq > other.seq


async def _told(directory: Directory, key: str, intent: i.ForgetMemory) -> MemoryForgetDone:
    seat = await directory.find(key)
    if seat is None:
        raise NotFound(f"no session {key}", kind="session")
    heard = _Heard()
    seat.tell(intent, "control", heard)
    async with asyncio.timeout(STORED_S):
        reply = await heard.reply
    assert isinstance(reply, MemoryForgetDone)
    return reply


class _Heard:
    """A caller that is told what came of its command."""

    def __init__(self) -> None:
        self.waits = False
        self.reply: asyncio.Future[Reply | Signal] = asyncio.get_running_loop().create_future()

    def is_fact(self, session: str, seq: int, body: bytes) -> None:
        raise AssertionError("to forget starts no run")

    def done(self, session: str, seq: int, reply: Reply | Signal) -> None:
        if not self.reply.done():
            self.reply.set_result(reply)

    def refused(self, session: str, seq: int, error: AgentdError) -> None:
        if not self.reply.done():
            self.reply.set_exception(error)

    def repeated(self, session: str, run: str) -> None:
        raise AssertionError("to forget has no idempotency key")
