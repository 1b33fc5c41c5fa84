"""Takes the older format in: each snapshot becomes facts of its session, once (S9; rulings 31).

Reading is done in a thread, one snapshot at a time; a session takes it in parts that fit a fact. A session that has no
words of its own goes on from the newest snapshot; in another one the entries stand beside, to be recalled.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec

from agentd.actors.directory import Directory
from agentd.actors.seat import Seat
from agentd.core import intents as i
from agentd.core.tokens import byte_length, cut_to_bytes
from agentd.core.tree import IMPORTED
from agentd.protocol import facts as f
from agentd.protocol.errors import AgentdError
from agentd.protocol.replies import ControlDone, Reply
from agentd.protocol.signals import Signal
from agentd.store.legacy import SKIPPED_TOLD, Legacy, Skipped, read_legacy

AGENT = "default"
OWNER = "local"
PART_ITEMS = 100
PART_BYTES = 128 * 1024
CONTENT_BYTES_MAX = 64 * 1024
STORED_S = 30.0
ROLES = frozenset({"user", "assistant", "system", "tool"})


class Progress(msgspec.Struct, omit_defaults=True):
    """How far it is; the last one is `done`. `cut`: entries that were longer than 64 KiB."""

    snapshots: int = 0
    already: int = 0
    entries: int = 0
    summaries: int = 0
    cut: int = 0
    skipped: int = 0
    reasons: list[Skipped] = []
    done: bool = False


async def import_folder(directory: Directory, folder: Path, by: f.By) -> AsyncIterator[Progress]:
    """Import everything that the index of `folder` names; a progress after each snapshot, the last one `done`."""
    told = Progress()
    reader = read_legacy(folder)
    while (found := await asyncio.to_thread(_next, reader)) is not None:
        if isinstance(found, Skipped):
            _skip(told, found)
        else:
            await _take(directory, found, by, told)
        yield told
    told.done = True
    yield told


def _next(reader: Iterator[Legacy | Skipped]) -> Legacy | Skipped | None:
    return next(reader, None)


def _skip(told: Progress, skipped: Skipped) -> None:
    told.skipped += 1
    if len(told.reasons) < SKIPPED_TOLD:
        told.reasons.append(skipped)


async def _take(directory: Directory, legacy: Legacy, by: f.By, told: Progress) -> None:
    place = f"{legacy.session_id[:128]} at {legacy.timestamp_ms}"
    if not _key(legacy.session_id):
        _skip(told, Skipped(place, "this is no key of a session: letters, digits, . _ : - , at most 128"))
        return
    try:
        seat = await directory.open(legacy.session_id, AGENT, OWNER, operator=True)
        items, cut = _items(legacy)
        parts = list(_parts(items)) or [()]
        for number, part in enumerate(parts, 1):
            intent = i.Import(
                by=by, timestamp_ms=legacy.timestamp_ms, reason=legacy.reason[:1_000], items=part, part=number,
                last=number == len(parts),
            )  # fmt: skip
            if (await _told(seat, intent)).already:
                told.already += 1
                return
    except AgentdError as error:
        _skip(told, Skipped(place, error.message))
        return
    except TimeoutError:
        _skip(told, Skipped(place, "the log did not answer in time; import again, what was taken is not taken twice"))
        return
    told.snapshots += 1
    told.cut += cut
    told.entries += len(legacy.entries)
    told.summaries += len(legacy.summaries)


def _key(session: str) -> bool:
    allowed = all(one.isascii() and (one.isalnum() or one in "._:-") for one in session)
    return 0 < len(session) <= 128 and allowed and not session.startswith("_")


def _items(legacy: Legacy) -> tuple[list[f.ImportedItem], int]:
    """Entries as a conversation, each the child of the one before; summaries beside them."""
    prefix = f"{IMPORTED}{legacy.timestamp_ms}:{legacy.session_id}:"
    items: list[f.ImportedItem] = []
    parent, cut = None, 0
    for entry in legacy.entries:
        content = cut_to_bytes(entry.content, CONTENT_BYTES_MAX)
        cut += len(content) < len(entry.content)
        name = f"{prefix}{entry.id}"
        related = f"{prefix}{entry.related_to}" if entry.related_to is not None else None
        items.append(
            f.ImportedItem(
                id=name, kind="message", role=entry.role if entry.role in ROLES else "user", content=content,
                ts=legacy.timestamp_ms, parent=parent, related_to=related,
            )
        )  # fmt: skip
        parent = name
    for summary in legacy.summaries:
        source = summary.source_id
        items.append(
            f.ImportedItem(
                id=f"{prefix}s{summary.id}", kind="summary", role="system",
                content=cut_to_bytes(summary.text, CONTENT_BYTES_MAX), ts=summary.created_at_ms or legacy.timestamp_ms,
                related_to=f"{prefix}{source}" if source is not None else parent,
            )
        )  # fmt: skip
    return items, cut


def _parts(items: list[f.ImportedItem]) -> Iterator[tuple[f.ImportedItem, ...]]:
    part: list[f.ImportedItem] = []
    size = 0
    for item in items:
        more = byte_length(item.content) + 256
        if part and (len(part) >= PART_ITEMS or size + more > PART_BYTES):
            yield tuple(part)
            part, size = [], 0
        part.append(item)
        size += more
    if part:
        yield tuple(part)


async def _told(seat: Seat, intent: i.Import) -> "_Taken":
    heard = _Heard()
    seat.tell(intent, "control", heard)
    async with asyncio.timeout(STORED_S):
        reply = await heard.reply
    return _Taken(isinstance(reply, ControlDone) and bool(reply.already))


class _Taken(msgspec.Struct, frozen=True):
    already: bool


class _Heard:
    """A caller that is told what came of its part."""

    def __init__(self) -> None:
        self.waits = False
        self.reply: asyncio.Future[Reply | Signal] = asyncio.get_running_loop().create_future()

    def is_fact(self, session: str, seq: int, body: bytes) -> None:
        raise AssertionError("to import starts no run")

    def done(self, session: str, seq: int, reply: Reply | Signal) -> None:
        if not self.reply.done():
            self.reply.set_result(reply)

    def refused(self, session: str, seq: int, error: AgentdError) -> None:
        if not self.reply.done():
            self.reply.set_exception(error)

    def repeated(self, session: str, run: str) -> None:
        raise AssertionError("to import has no idempotency key")
