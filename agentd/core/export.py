"""The form of a session's export: one line that says what it is, then every fact beside the step that made it.

Lines of JSON, each ended by a newline: the `Header`; where older facts are gone, one `Snapshot` to begin from; then
the facts, `{"step":N,"fact":{...}}`, in the order of the log and byte for byte as they stand in it, which is why
writing one costs no encoding. The header says the first and the last seq, so that a file that was cut is seen.

A `Reader` takes the lines one by one and holds none of them: what is spoiled is named by rule and line.
"""

import msgspec

from agentd.core.intents import Caps
from agentd.protocol import facts as f
from agentd.protocol.codec import decode_fact

VERSION = 1
LINE_BYTES_MAX = 4 << 20
"""More than any line that is written: a fact has at most `limits.fact_bytes`, a snapshot what the state may hold."""


class Header(msgspec.Struct, frozen=True, kw_only=True, tag="export", tag_field="type"):
    """The first line. `first` and `seq` are the seqs of the first and last fact that follow; `seq` = `first` - 1 when
    none does. `caps` are the limits that the rules go by, as they were set when it was written; `exported`: Unix ms."""

    version: int
    log: str
    session: str
    agent: str
    owner: str
    first: int
    seq: int
    exported: int
    server: str
    caps: Caps


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, tag="snapshot", tag_field="type"):
    """The second line when `first` is not 1: the session's state after the fact `seq`, in the snapshots' `version`."""

    seq: int
    version: int
    state: msgspec.Raw


class Stored(msgspec.Struct, frozen=True):
    """A fact of the file: `step` is the first seq of the step that made it, `body` its bytes in the log."""

    step: int
    fact: f.AnyFact
    body: bytes


class Spoiled(Exception):
    """A file is not what it should be: `rule` is broken, at `line` (from 1). Rules: json, size, header, version,
    session, seq, step, cut."""

    def __init__(self, rule: str, what: str, line: int) -> None:
        super().__init__(f"{rule}: {what}, at line {line}")
        self.rule = rule
        self.what = what
        self.line = line


class _Line(msgspec.Struct):
    step: int
    fact: msgspec.Raw


class _Kind(msgspec.Struct):
    type: str | None = None
    version: int | None = None


_headers = msgspec.json.Decoder(Header)
_snapshots = msgspec.json.Decoder(Snapshot)
_lines = msgspec.json.Decoder(_Line)
_kinds = msgspec.json.Decoder(_Kind)


def fact_line(step: int, body: bytes) -> bytes:
    """The line of a fact, newline included."""
    return b'{"step":%d,"fact":%b}\n' % (step, body)


def snapshot_line(seq: int, version: int, state: bytes) -> bytes:
    """The line of a snapshot, newline included; `state` as it is stored."""
    return b'{"type":"snapshot","seq":%d,"version":%d,"state":%b}\n' % (seq, version, state)


def is_export(line: bytes) -> bool:
    """Whether a file that begins with `line` is a session's export, of whatever version."""
    try:
        return _kinds.decode(line).type == "export"
    except msgspec.MsgspecError:
        return False


class Reader:
    """The lines of one export in order: first `header`, then `fact` for each other line, then `end`."""

    def __init__(self) -> None:
        self.line = 0
        self.snapshot: Snapshot | None = None
        self._header: Header | None = None
        self._seq = 0
        self._step = 0

    def header(self, line: bytes) -> Header:
        """The first line.

        Raises:
            Spoiled: it is no header, or of a version that this code does not read.
        """
        self._measure(line)
        try:
            kind = _kinds.decode(line)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise self._spoiled("json", str(error)) from None
        if kind.type != "export":
            raise self._spoiled("header", "the file does not begin with an export's header")
        if kind.version is not None and kind.version > VERSION:
            raise self._spoiled("version", f"version {kind.version} was written by a newer agentd (known: {VERSION})")
        try:
            self._header = _headers.decode(line)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise self._spoiled("header", str(error)) from None
        self._seq = self._header.first - 1
        return self._header

    def fact(self, line: bytes) -> Stored | None:
        """The fact of a further line; None for the snapshot, which is then in `snapshot`.

        Raises:
            Spoiled: the line is not the one that has to follow.
        """
        self._measure(line)
        assert self._header is not None, "the header comes first"
        if self.snapshot is None and self._seq == self._header.first - 1 and line.startswith(b'{"type":"snapshot"'):
            self._take_snapshot(line)
            return None
        try:
            found = _lines.decode(line)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise self._spoiled("json", str(error)) from None
        body = bytes(found.fact)
        fact = self._decoded(body)
        self._check(found.step, fact, self._header)
        return Stored(found.step, fact, body)

    def end(self) -> None:
        """No line is left. Raises Spoiled when some are missing."""
        if self._header is None:
            raise Spoiled("header", "the file is empty", 1)
        if self._seq < self._header.seq:
            raise self._spoiled("cut", f"ends after seq {self._seq}, the header says {self._header.seq}")

    def _take_snapshot(self, line: bytes) -> None:
        try:
            self.snapshot = _snapshots.decode(line)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise self._spoiled("json", str(error)) from None

    def _decoded(self, body: bytes) -> f.AnyFact:
        try:
            return decode_fact(body)
        except (msgspec.MsgspecError, RecursionError) as error:
            rule = "version" if unknown_type(body) else "json"
            raise self._spoiled(rule, str(error)) from None

    def _check(self, step: int, fact: f.AnyFact, header: Header) -> None:
        if fact.session != header.session:
            raise self._spoiled("session", f"a fact of session {fact.session}, the header says {header.session}")
        if fact.seq != self._seq + 1:
            raise self._spoiled("seq", f"{fact.seq} after {self._seq}")
        if fact.seq > header.seq:
            raise self._spoiled("seq", f"{fact.seq}, the header says that {header.seq} is the last")
        begun = step == fact.seq or step == self._step or (fact.seq == header.first and 0 < step < fact.seq)
        if not begun:
            raise self._spoiled("step", f"seq {fact.seq} says step {step}, the one before {self._step}")
        self._seq, self._step = fact.seq, step

    def _measure(self, line: bytes) -> None:
        self.line += 1
        if len(line) > LINE_BYTES_MAX:
            raise self._spoiled("size", f"a line of more than {LINE_BYTES_MAX} bytes")

    def _spoiled(self, rule: str, what: str) -> Spoiled:
        return Spoiled(rule, what, self.line)


def unknown_type(body: bytes) -> bool:
    """Whether a fact that could not be read is of a type that this code does not know: made by a newer agentd."""
    try:
        kind = _kinds.decode(body).type
    except (msgspec.MsgspecError, RecursionError):
        return False
    return kind is not None and kind not in TYPES


TYPES = frozenset(str(kind.__struct_config__.tag) for kind in f.AnyFact.__args__)
