"""The older JSON format, read and never written: `archive-index.ndjson` and the snapshot files that it names (S9).

One snapshot after the other, in the order of their times; what is wrong with one is counted with its reason and stops
no other. Nothing outside the directory is opened, and files stay as they are. Entries and summaries may be objects with
names or arrays in the order of their fields: both have been seen.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

INDEX = "archive-index.ndjson"
VERSION = 1
LINE_BYTES_MAX = 64 * 1024
LINES_MAX = 1_000_000
SNAPSHOT_BYTES_MAX = 64 << 20
SKIPPED_TOLD = 1_000

Ms = Annotated[int, Meta(ge=0, lt=1 << 53)]
Id = Annotated[int, Meta(ge=-(1 << 53), lt=1 << 53)] | Annotated[str, Meta(max_length=128)]


class LegacyEntry(msgspec.Struct, frozen=True):
    """`state`: active, or tombstone for what working memory had let go of."""

    id: Id
    role: str
    content: str
    state: str = "active"
    related_to: Id | None = None


class LegacySummary(msgspec.Struct, frozen=True):
    id: Id
    source_id: Id | None
    text: str
    created_at_ms: Ms = 0


class Legacy(msgspec.Struct, frozen=True):
    """One snapshot."""

    session_id: str
    timestamp_ms: int
    reason: str
    entries: tuple[LegacyEntry, ...]
    summaries: tuple[LegacySummary, ...]


class Skipped(msgspec.Struct, frozen=True):
    """What was left out: a line of the index, or the file that it names."""

    place: str
    reason: str


class _Line(msgspec.Struct):
    version: int
    timestamp_ms: Ms
    session_id: str
    archive_path: str
    reason: str = ""


class _Snapshot(msgspec.Struct):
    version: int
    timestamp_ms: Ms
    session_id: str
    entries: list[Any]
    reason: str = ""
    summaries: list[Any] = []


_lines = msgspec.json.Decoder(_Line)
_snapshots = msgspec.json.Decoder(_Snapshot)


def read_legacy(folder: Path) -> Iterator[Legacy | Skipped]:
    """Every snapshot that the index names, each read when it is asked for, and what was left out."""
    found: list[tuple[int, int, _Line]] = []
    for number, line in _index(folder / INDEX):
        if isinstance(line, Skipped):
            yield line
        else:
            found.append((line.timestamp_ms, number, line))
    for _, number, line in sorted(found, key=lambda one: one[:2]):
        yield _read(folder, number, line)


def _index(path: Path) -> Iterator[tuple[int, "_Line | Skipped"]]:
    try:
        with path.open("rb") as file:
            for number in range(1, LINES_MAX + 1):
                raw = file.readline(LINE_BYTES_MAX + 1)
                if not raw:
                    return
                if len(raw) > LINE_BYTES_MAX:
                    while raw and not raw.endswith(b"\n"):
                        raw = file.readline(LINE_BYTES_MAX)
                    yield number, Skipped(f"line {number}", f"longer than {LINE_BYTES_MAX} bytes")
                elif raw.strip():
                    yield number, _line(number, raw)
            yield LINES_MAX, Skipped(f"line {LINES_MAX + 1}", f"more than {LINES_MAX} lines")
    except OSError as error:
        yield 0, Skipped(INDEX, error.strerror or "it can't be read")


def _line(number: int, raw: bytes) -> "_Line | Skipped":
    try:
        line = _lines.decode(raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        return Skipped(f"line {number}", f"it does not fit the format: {error}")
    if line.version != VERSION:
        return Skipped(f"line {number}", f"version {line.version}, known is {VERSION}")
    return line


def _read(folder: Path, number: int, line: _Line) -> Legacy | Skipped:
    place = f"line {number}: {line.archive_path[:200]}"
    try:
        path = (folder / line.archive_path).resolve()
        if not path.is_relative_to(folder.resolve()):
            return Skipped(place, "it lies outside the directory")
        size = path.stat().st_size
        if size > SNAPSHOT_BYTES_MAX:
            return Skipped(place, f"{size} bytes are more than {SNAPSHOT_BYTES_MAX}")
        snapshot = _snapshots.decode(path.read_bytes())
        entries = tuple(_entry(one) for one in snapshot.entries)
        summaries = tuple(_summary(one) for one in snapshot.summaries)
    except FileNotFoundError:
        return Skipped(place, "there is no such file")
    except OSError as error:
        return Skipped(place, error.strerror or "it can't be read")
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        return Skipped(place, f"it does not fit the format: {error}")
    if snapshot.version != VERSION:
        return Skipped(place, f"version {snapshot.version}, known is {VERSION}")
    if (snapshot.session_id, snapshot.timestamp_ms) != (line.session_id, line.timestamp_ms):
        return Skipped(place, "it is of another session or time than the index says")
    names = [*(str(one.id) for one in entries), *(f"s{one.id}" for one in summaries)]  # as they are called here
    if len(set(names)) < len(names):
        return Skipped(place, "an id comes twice in it")
    return Legacy(line.session_id, line.timestamp_ms, snapshot.reason or line.reason, entries, summaries)


def _entry(one: Any) -> LegacyEntry:
    if isinstance(one, list):
        one = dict(zip(("id", "role", "state", "content", "related_to"), one, strict=False))
    return msgspec.convert(one, LegacyEntry)


def _summary(one: Any) -> LegacySummary:
    if isinstance(one, list):
        one = dict(zip(("id", "source_id", "text", "created_at_ms"), one, strict=False))
    return msgspec.convert(one, LegacySummary)
