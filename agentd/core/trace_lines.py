"""A file of facts checked line by line: the trace of one run, or the export of a session with all of its runs.

Nothing of the file is kept but what is open, so that its length does not matter. A finding names its rule, the line
and, where the line was a fact, its seq. Beside the rules of a run (trace.py) and of an export (export.py) there are:
json (a line is no fact), version (a fact of a newer agentd, which nobody here can judge), size (a longer line than any
that is written).
"""

import msgspec

from agentd.core.export import LINE_BYTES_MAX, Header, Reader, Spoiled, is_export, unknown_type
from agentd.core.trace import ENDED, PROBLEMS_MAX, Breach, Checker
from agentd.protocol import facts as f
from agentd.protocol.codec import decode_fact

RUNS_OPEN_MAX = 10_000
"""Unfinished runs of one session that are looked at together: far more than a session queues."""


class Finding(msgspec.Struct, frozen=True):
    """What is wrong, and where; `line` from 1."""

    rule: str
    what: str
    line: int
    seq: int | None = None

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}, at line {self.line}" + ("" if self.seq is None else f", seq {self.seq}")


class LineChecker:
    """`feed` each line, then `finish`. After `PROBLEMS_MAX` findings, or one behind which nothing can be judged, it is
    `full` and looks no further."""

    def __init__(self, run: str | None = None) -> None:
        """`run`: whose trace it has to be, where that is known."""
        self.lines = 0
        self.facts = 0
        self.header: Header | None = None
        self.runs: dict[str, int] = {}
        """How many runs came to which state; of an export, those that go on are not among them."""
        self.full = False
        self._found = 0
        self._run = run
        self._reader: Reader | None = None
        self._open: dict[str, Checker] = {}

    @property
    def run(self) -> str | None:
        """Whose trace it is; None of an export."""
        return self._run if self._reader is None else None

    @property
    def unfinished(self) -> int:
        """Runs that have begun and not ended so far."""
        return len(self._open)

    def feed(self, line: bytes) -> list[Finding]:
        """What is wrong with the next line."""
        self.lines += 1
        if self.full or not line.strip():
            return []
        if len(line) > LINE_BYTES_MAX:
            return self._stop("size", f"a line of more than {LINE_BYTES_MAX} bytes")
        if self.lines == 1 and is_export(line):
            self._reader = Reader()
        if self._reader is not None:
            return self._export_line(self._reader, line)
        try:
            fact = decode_fact(line)
        except (msgspec.MsgspecError, RecursionError) as error:
            if unknown_type(line):
                return self._stop("version", f"{error}; it was written by a newer agentd")
            return self._told([Finding("json", str(error), self.lines)])
        return self._trace_fact(fact)

    def finish(self) -> list[Finding]:
        """What is missing at the end: a run's end, or facts that the header of an export speaks of."""
        if self.full:
            return []
        if self._reader is not None:
            try:
                self._reader.end()
            except Spoiled as spoiled:
                return [Finding(spoiled.rule, spoiled.what, max(self.lines, 1))]
            return []
        if not self.facts:
            return [Finding("start", "there are no facts", max(self.lines, 1))]
        checkers = self._open.values()
        return [self._at(breach) for checker in checkers for breach in checker.finish(ended=True)]

    def _trace_fact(self, fact: f.AnyFact) -> list[Finding]:
        self.facts += 1
        if self._run is None:
            self._run = fact.run
        checker = self._open.get("")
        if checker is None:
            checker = self._open[""] = Checker(self._run)
        before = checker.state
        found = [self._at(breach) for breach in checker.feed(fact)]
        if checker.state in ENDED and before not in ENDED:
            self._count(checker)
        return self._told(found)

    def _export_line(self, reader: Reader, line: bytes) -> list[Finding]:
        try:
            if self.header is None:
                self.header = reader.header(line)
                return []
            stored = reader.fact(line)
        except Spoiled as spoiled:
            return self._stop(spoiled.rule, spoiled.what)
        if stored is None:
            return []
        self.facts += 1
        return self._run_fact(stored.fact) if stored.fact.run is not None else []

    def _run_fact(self, fact: f.AnyFact) -> list[Finding]:
        """A fact of one of the session's runs. A run whose beginning is not kept any more cannot be judged."""
        name = fact.run or ""
        checker = self._open.get(name)
        if checker is None:
            assert self.header is not None
            if self.header.first > 1 and fact.run_seq != 1:
                return []
            if len(self._open) >= RUNS_OPEN_MAX:
                return self._stop("size", f"more than {RUNS_OPEN_MAX} runs go on at once")
            checker = self._open[name] = Checker(name)
        found = [self._at(breach) for breach in checker.feed(fact)]
        if checker.state in ENDED:
            self._count(checker)
            del self._open[name]
        return self._told(found)

    def _count(self, checker: Checker) -> None:
        state = checker.state or ""
        self.runs[state] = self.runs.get(state, 0) + 1

    def _at(self, breach: Breach) -> Finding:
        return Finding(breach.rule, breach.what, self.lines, breach.seq)

    def _stop(self, rule: str, what: str) -> list[Finding]:
        self.full = True
        return [Finding(rule, what, self.lines)]

    def _told(self, found: list[Finding]) -> list[Finding]:
        found = found[: PROBLEMS_MAX - self._found]
        self._found += len(found)
        self.full = self._found >= PROBLEMS_MAX
        return found
