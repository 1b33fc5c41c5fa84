"""Lines from a pipe or a file, asked for one by one."""

import os
import tempfile

import pytest

from agentd.cli import lines
from agentd.cli.lines import Lines


async def read_all(data: bytes) -> list[str]:
    reading, writing = os.pipe()
    try:
        os.write(writing, data)
        os.close(writing)
        source, found = Lines(reading), []
        while (line := await source.next()) is not None:
            found.append(line)
        return found
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\r\n\nthe last has no end", ["one", "", "the last has no end"]),
        ("schön 😀\n".encode(), ["schön 😀"]),
        (b"\xff\xfe\n", ["��"]),
    ],
)
async def test_lines_come_without_their_ends(data: bytes, expected: list[str]) -> None:
    assert await read_all(data) == expected


async def test_a_line_without_end_is_cut_and_not_kept_growing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LINE_BYTES_MAX", 4)
    assert await read_all(b"abcdefghij\nk\n") == ["abcd", "efgh", "ij", "k"]


async def test_a_file_is_read_as_a_pipe_is() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"a\nb\n")
        file.flush()
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        source = Lines(file.fileno())
        assert [await source.next() for _ in range(4)] == ["a", "b", None, None]


async def test_nothing_is_read_before_it_is_asked_for() -> None:
    reading, writing = os.pipe()
    source = Lines(reading)
    os.write(writing, b"later\n")
    assert os.read(reading, 100) == b"later\n"
    os.close(writing)
    assert await source.next() is None
    os.close(reading)
