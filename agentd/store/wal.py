"""Looks into a write-ahead log before SQLite does: does it hold commits that SQLite would leave out?

SQLite reads the log up to the first frame whose checksum is wrong and forgets the rest without a word: right after a
crash in the middle of a commit, wrong when a page in the middle went bad, because what follows was acknowledged. The
difference can be seen: a commit is synced before the next one is begun, so when a sound commit *with further frames
of the same log behind it* lies beyond the first bad frame, acknowledged commits are lost. A log that merely ends
early can't be told from a crash. Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

import struct
from pathlib import Path

import msgspec

HEADER, FRAME_HEADER = 32, 24
SCAN_BYTES_MAX = 64 << 20  # about a second; the writer keeps the log far below


class WalReport(msgspec.Struct, frozen=True):
    """`pages`: where each page of the sound commits lies in the log, in bytes. `lost`: acknowledged commits follow.
    `whole`: there is nothing more of the log than was looked at.
    """

    pages: dict[int, int] = {}
    lost: bool = False
    whole: bool = True


def examine(path: Path) -> WalReport:
    """Read the log at `path`; a missing or empty one holds nothing."""
    try:
        with path.open("rb") as file:
            data = file.read(SCAN_BYTES_MAX)
            whole = not file.read(1)
    except FileNotFoundError:
        return WalReport()
    if len(data) < HEADER + FRAME_HEADER:
        return WalReport()
    magic, _, size = struct.unpack_from(">III", data)
    order = {0x377F0682: "<", 0x377F0683: ">"}.get(magic)
    if order is None or size < 512 or size > 65536 or size & (size - 1):
        return WalReport(lost=_commits_follow(data, HEADER, None, 4096))
    salt = data[16:24]
    total = _checksum(data[:24], order, (0, 0))
    if total != struct.unpack_from(">II", data, 24):
        return WalReport(lost=_commits_follow(data, HEADER, None, size))
    report = _frames(data, order, salt, size, total)
    return report if whole else msgspec.structs.replace(report, whole=False)


def _frames(data: bytes, order: str, salt: bytes, size: int, total: tuple[int, int]) -> WalReport:
    pages: dict[int, int] = {}
    pending: dict[int, int] = {}  # of a commit whose last frame has not been seen
    view = memoryview(data)
    for at in range(HEADER, len(data) - FRAME_HEADER - size + 1, FRAME_HEADER + size):
        number, commit = struct.unpack_from(">II", data, at)
        total = _checksum(view[at : at + 8], order, total)
        total = _checksum(view[at + FRAME_HEADER : at + FRAME_HEADER + size], order, total)
        if data[at + 8 : at + 16] != salt or total != struct.unpack_from(">II", data, at + 16):
            return WalReport(pages, _commits_follow(data, at, salt, size))
        pending[number] = at + FRAME_HEADER
        if commit:
            pages.update(pending)
            pending.clear()
    return WalReport(pages)


def _commits_follow(data: bytes, start: int, salt: bytes | None, size: int) -> bool:
    """A commit frame of this log and another frame of it after that, from `start` on.

    The first frame there is taken as it is but for its salt when that is not known.
    """
    committed = False
    for at in range(start, len(data) - FRAME_HEADER + 1, FRAME_HEADER + size):
        if salt is None:
            salt = data[at + 8 : at + 16]
        if data[at + 8 : at + 16] == salt:
            if committed:
                return True
            committed = struct.unpack_from(">I", data, at + 4)[0] != 0
    return False


def _checksum(data: bytes | memoryview, order: str, start: tuple[int, int]) -> tuple[int, int]:
    first, second = start
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for even, odd in zip(words, words, strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
