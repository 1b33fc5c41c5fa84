"""Rows straight from the pages of a damaged database, when its trees no longer lead to them.

SQLite reaches a row from the header through the schema and the inner pages of its table; one of these spoiled, or the
end of the file cut off, and it gives nothing although almost every row is there. The rows themselves lie in leaf
pages, which say what they are: each is tried on its own, over the sound part of the write-ahead log, and a row is
told by the number and types of its columns. Deleted rows don't come back: `secure_delete` wiped them.

Format: https://www.sqlite.org/fileformat2.html#b_tree_pages
"""

import mmap
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

from agentd.store import schema
from agentd.store.wal import examine

LEAF = 0x0D
PAGE_BYTES = 4096  # SQLite's default, which agentd never changes
ROW_BYTES_MAX = 64 << 20

Value = int | float | str | bytes | None
Shape = tuple[tuple[str, bool], ...]  # per column: its declared type, and whether it may be NULL

_KINDS: dict[str, type] = {"INTEGER": int, "TEXT": str, "BLOB": bytes}
_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)


def carve(path: Path, into: sqlite3.Connection) -> None:
    """Fill `into`, an empty database, with bare tables of every row that the pages of `path` hold."""
    shapes = _shapes()
    for table, (names, _) in shapes.items():
        into.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, {', '.join(names)})")
    into.execute("BEGIN")
    with _Pages(path) as pages:
        for number in range(1, pages.count + 1):
            for key, values in _leaf_rows(pages, number):
                for table, (_, shape) in shapes.items():
                    if _fits(values, shape):
                        columns = ", ".join(["id", *shapes[table][0][: len(values) - 1]])
                        marks = ", ".join("?" * len(values))
                        into.execute(f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({marks})", (key, *values[1:]))
                        break
    into.execute("COMMIT")


def _shapes() -> dict[str, tuple[list[str], Shape]]:
    """Names and types of the columns of each table with an integer key, as the migrations make them."""
    reference = sqlite3.connect(":memory:")
    try:
        for sql in schema.migrations():
            reference.executescript(sql)
        shapes = {}
        for table in schema.TABLES:
            columns = reference.execute(f"PRAGMA table_info({table})").fetchall()
            if columns[0][1] == "id":
                shape = tuple(
                    (kind, not required or default is not None) for _, _, kind, required, default, _ in columns
                )
                shapes[table] = ([column[1] for column in columns[1:]], shape)
        return shapes
    finally:
        reference.close()


def _fits(values: list[Value], shape: Shape) -> bool:
    if len(values) > len(shape) or values[0] is not None:  # the integer key is stored as the row's number
        return False
    if not all(optional for _, optional in shape[len(values) :]):  # a row from before a column was added is shorter
        return False
    for value, (kind, nullable) in zip(values[1:], shape[1:], strict=False):
        if not (nullable if value is None else isinstance(value, _KINDS[kind])):
            return False
    return True


class _Pages:
    """The pages of a file, newest version first from the write-ahead log."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._wal_path = path.with_name(path.name + "-wal")
        self._frames = examine(self._wal_path).pages
        length = path.stat().st_size
        self._data = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) if length else b""
        self._wal = self._wal_path.open("rb") if self._frames else None
        declared = struct.unpack_from(">H", self._data, 16)[0] if length >= 100 else 0
        self.size = declared if declared in (512, 1024, 2048, 4096, 8192, 16384, 32768) else PAGE_BYTES
        self.count = max([length // self.size, *self._frames])

    def __enter__(self) -> "_Pages":
        return self

    def __exit__(self, *_: object) -> None:
        if isinstance(self._data, mmap.mmap):
            self._data.close()
        self._file.close()
        if self._wal is not None:
            self._wal.close()

    def __getitem__(self, number: int) -> bytes:
        if not 1 <= number <= self.count:
            raise ValueError(f"no page {number}")
        if self._wal is not None and number in self._frames:
            self._wal.seek(self._frames[number])
            return self._wal.read(self.size)
        page = self._data[(number - 1) * self.size : number * self.size]
        if len(page) < self.size:
            raise ValueError(f"page {number} is cut off")
        return page


def _leaf_rows(pages: _Pages, number: int) -> Iterator[tuple[int, list[Value]]]:
    try:
        page = pages[number]
    except ValueError:
        return
    start = 100 if number == 1 else 0
    if page[start] != LEAF:
        return
    (cells,) = struct.unpack_from(">H", page, start + 3)
    for cell in range(min(cells, (len(page) - start - 8) // 2)):
        (at,) = struct.unpack_from(">H", page, start + 8 + 2 * cell)
        try:
            yield _row(pages, page, at)
        except (ValueError, IndexError, struct.error):
            continue  # this row is spoiled; its neighbours need not be


def _row(pages: _Pages, page: bytes, at: int) -> tuple[int, list[Value]]:
    size, at = _varint(page, at)
    key, at = _varint(page, at)
    if not 0 < size <= ROW_BYTES_MAX:
        raise ValueError("impossible size")
    return _signed(key), _record(_payload(pages, page, at, size))


def _payload(pages: _Pages, page: bytes, at: int, size: int) -> bytes:
    usable = len(page)
    local = size
    if size > usable - 35:
        least = (usable - 12) * 32 // 255 - 23
        local = least + (size - least) % (usable - 4)
        local = local if local <= usable - 35 else least
    parts = [page[at : at + local]]
    if len(parts[0]) < local:
        raise ValueError("a row beyond its page")
    left = size - local
    if left:
        (following,) = struct.unpack_from(">I", page, at + local)
    while left > 0:
        overflow = pages[following]
        (following,) = struct.unpack_from(">I", overflow)
        parts.append(overflow[4 : 4 + min(left, usable - 4)])
        left -= len(parts[-1])
    return b"".join(parts)


def _record(payload: bytes) -> list[Value]:
    end, at = _varint(payload, 0)
    body = end
    values: list[Value] = []
    while at < end:
        kind, at = _varint(payload, at)
        value, body = _value(payload, body, kind)
        values.append(value)
    if body != len(payload):
        raise ValueError("a record of another length")
    return values


def _value(payload: bytes, at: int, kind: int) -> tuple[Value, int]:
    if kind == 0:
        return None, at
    if kind in (8, 9):
        return kind - 8, at
    if kind <= 7:
        size = 8 if kind == 7 else _INTEGER_BYTES[kind]
    elif kind >= 12:
        size = (kind - 12) // 2
    else:
        raise ValueError("a reserved type")
    data = payload[at : at + size]
    if len(data) < size:
        raise ValueError("a value beyond its row")
    if kind == 7:
        return float(struct.unpack(">d", data)[0]), at + size
    if kind < 7:
        return int.from_bytes(data, "big", signed=True), at + size
    return (data.decode("utf-8") if kind % 2 else data), at + size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for taken in range(8):
        byte = data[at + taken]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + taken + 1
    return value << 8 | data[at + 8], at + 9


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
