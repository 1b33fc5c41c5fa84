"""The form of an export: what is written is read back, and every way to spoil a file is told by its rule."""

from collections.abc import Callable

import msgspec
import pytest

from agentd.core.export import (
    LINE_BYTES_MAX,
    VERSION,
    Header,
    Reader,
    Spoiled,
    Stored,
    fact_line,
    is_export,
    snapshot_line,
)
from agentd.core.intents import Caps
from agentd.protocol import facts as f
from agentd.protocol.codec import encode

HEADER = Header(
    version=VERSION, log="log_1", session="s", agent="default", owner="local", first=1, seq=5, exported=1,
    server="0.1", caps=Caps(dispatch=3),
)  # fmt: skip
STEPS = (1, 2, 2, 2, 5)


def mode(seq: int, session: str = "s") -> bytes:
    return encode(f.SessionMode(session=session, seq=seq, ts=1, mode="paused"))


def lines(header: Header = HEADER) -> list[bytes]:
    return [encode(header), *(fact_line(step, mode(seq)) for seq, step in enumerate(STEPS, 1))]


def read(given: list[bytes]) -> tuple[Header, list[Stored]]:
    reader = Reader()
    header = reader.header(given[0]) if given else None
    found = [stored for line in given[1:] if (stored := reader.fact(line)) is not None]
    reader.end()
    assert header is not None
    return header, found


def test_what_is_written_is_read_back_byte_for_byte() -> None:
    header, found = read(lines())
    assert header == HEADER
    assert [(stored.step, stored.fact.seq) for stored in found] == [(step, seq) for seq, step in enumerate(STEPS, 1)]
    assert [stored.body for stored in found] == [mode(seq) for seq in range(1, 6)]


def test_a_line_of_a_fact_is_json() -> None:
    assert msgspec.json.decode(fact_line(4, mode(5)))["fact"]["mode"] == "paused"


def test_the_snapshot_of_a_session_whose_oldest_facts_are_gone_comes_second() -> None:
    header = msgspec.structs.replace(HEADER, first=4, seq=5)
    reader = Reader()
    reader.header(encode(header))
    assert reader.fact(snapshot_line(4, 1, b'{"key":"s"}')) is None
    assert reader.snapshot is not None
    assert (reader.snapshot.seq, reader.snapshot.state) == (4, msgspec.Raw(b'{"key":"s"}'))
    reader.fact(fact_line(2, mode(4)))
    reader.fact(fact_line(5, mode(5)))
    reader.end()


def test_a_file_is_known_by_its_first_line() -> None:
    assert is_export(lines()[0])
    assert not is_export(mode(1))
    assert not is_export(b"\xff\x00")


Spoil = Callable[[list[bytes]], list[bytes]]
SPOILED: dict[str, tuple[str, int, Spoil]] = {
    "empty": ("header", 1, lambda given: []),
    "no header": ("header", 1, lambda given: given[1:]),
    "header without a field": ("header", 1, lambda given: [given[0].replace(b'"log":', b'"gol":'), *given[1:]]),
    "header that is no JSON": ("json", 1, lambda given: [b"{", *given[1:]]),
    "snapshot of another shape": ("json", 2, lambda given: [given[0], b'{"type":"snapshot"}', *given[1:]]),
    "fact that is no object": ("json", 2, lambda given: [given[0], b'{"step":1,"fact":[]}', *given[2:]]),
    "newer form": ("version", 1, lambda given: [given[0].replace(b'"version":1', b'"version":2'), *given[1:]]),
    "newer fact": ("version", 2, lambda given: [given[0], given[1].replace(b"session.mode", b"session.mood")]),
    "cut": ("cut", 5, lambda given: given[:5]),
    "cut in a line": ("json", 6, lambda given: [*given[:5], given[5][:20]]),
    "no JSON": ("json", 3, lambda given: [*given[:2], b"\x00", *given[3:]]),
    "nested": ("json", 2, lambda given: [given[0], b'{"step":1,"fact":' + b"[" * 100_000]),
    "another shape": ("json", 2, lambda given: [given[0], b"[]", *given[2:]]),
    "reordered": ("seq", 3, lambda given: [*given[:2], given[3], given[2], *given[4:]]),
    "doubled": ("seq", 4, lambda given: [*given[:3], given[2], *given[3:]]),
    "lost": ("seq", 4, lambda given: [*given[:3], *given[4:]]),
    "too many": ("seq", 7, lambda given: [*given, fact_line(6, mode(6))]),
    "another session": ("session", 3, lambda given: [*given[:2], fact_line(2, mode(2, "other")), *given[3:]]),
    "step": ("step", 4, lambda given: [*given[:3], fact_line(1, mode(3)), *given[4:]]),
    "two exports": ("json", 7, lambda given: [*given, *given]),
    "long": ("size", 2, lambda given: [given[0], b" " * (LINE_BYTES_MAX + 1)]),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_file_is_refused_by_rule_and_line(name: str) -> None:
    rule, line, spoil = SPOILED[name]
    with pytest.raises(Spoiled) as caught:
        read(spoil(lines()))
    assert (caught.value.rule, caught.value.line) == (rule, line)
    assert str(caught.value).startswith(f"{rule}: ")
