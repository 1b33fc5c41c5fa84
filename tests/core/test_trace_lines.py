"""Files of facts: traces and exports are told apart, judged line by line, and refused by rule, line and seq."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from agentd.core.export import LINE_BYTES_MAX, VERSION, Header, fact_line, snapshot_line
from agentd.core.intents import Caps
from agentd.core.trace import PROBLEMS_MAX
from agentd.core.trace_lines import RUNS_OPEN_MAX, Finding, LineChecker
from agentd.protocol import facts as f
from agentd.protocol.codec import encode
from tests.test_traces import Story

Lines = list[bytes]


def story(*lines: str) -> list[f.AnyFact]:
    told = Story()
    for line in lines:
        told.play(line)
    return told.facts


SESSION = story(
    "goal r1 do", "plan r1 1 stop_all t1 t2<t1", "chat r2 hello", "ended r1 t1 1 done", "ended r1 t2 1 done",
    "ended r1 answer 1.0 done", "ended r2 answer 1.0 done", "chat r3 wait",
)  # fmt: skip
TRACE = [encode(fact) + b"\n" for fact in SESSION if fact.run == "r1"]


def export(facts: list[f.AnyFact] = SESSION, first: int = 1) -> Lines:
    header = Header(
        version=VERSION, log="l", session="s", agent="default", owner="local", first=first, seq=facts[-1].seq,
        exported=1, server="0.1", caps=Caps(),
    )  # fmt: skip
    return [encode(header) + b"\n", *(fact_line(fact.seq, encode(fact)) for fact in facts if fact.seq >= first)]


def check(lines: Lines, run: str | None = None) -> tuple[list[Finding], LineChecker]:
    checker = LineChecker(run)
    found = [finding for line in lines for finding in checker.feed(line)]
    return found + checker.finish(), checker


def test_a_whole_trace_has_nothing_wrong() -> None:
    found, checker = check(TRACE)
    assert found == []
    assert (checker.run, checker.facts, checker.runs) == ("r1", len(TRACE), {"completed": 1})
    assert check([*TRACE, b"\n"])[0] == []


def test_an_export_may_begin_with_a_snapshot() -> None:
    lines = export(first=4)
    assert check([lines[0], snapshot_line(3, 1, b"{}"), *lines[1:]])[0] == []


def test_a_whole_export_has_nothing_wrong_also_while_a_run_goes_on() -> None:
    found, checker = check(export())
    assert found == []
    assert (checker.run, checker.facts, checker.runs, checker.unfinished) == (None, len(SESSION), {"completed": 2}, 1)


def test_of_a_session_whose_oldest_facts_are_gone_the_runs_that_began_later_are_judged() -> None:
    found, checker = check(export(first=4))
    assert found == []
    assert checker.runs == {"completed": 1}
    spoiled = [replace(fact, run_seq=7) if fact.run == "r2" and fact.run_seq == 2 else fact for fact in SESSION]
    assert {finding.rule for finding in check(export(spoiled, first=4))[0]} == {"run_seq"}


FOREIGN = encode(replace(SESSION[4], session="other")) + b"\n"
NEWER = TRACE[3].replace(b"agent.plan", b"agent.dream")
SPOILED: dict[str, tuple[str, int, Callable[[Lines], Lines]]] = {
    "nothing": ("start", 1, lambda lines: []),
    "cut": ("end", len(TRACE) - 1, lambda lines: lines[:-1]),
    "cut inside of a line": ("json", len(TRACE), lambda lines: [*lines[:-1], lines[-1][:30]]),
    "a line lost": ("run_seq", 4, lambda lines: [*lines[:3], *lines[4:]]),
    "reordered": ("run_seq", 4, lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]]),
    "doubled": ("end", len(TRACE) + 1, lambda lines: [*lines, *lines]),
    "a line doubled": ("run_seq", 5, lambda lines: [*lines[:4], *lines[3:]]),
    "of another session": ("session", 4, lambda lines: [*lines[:3], FOREIGN, *lines[4:]]),
    "of another run": ("run", 4, lambda lines: [*lines[:3], encode(replace(SESSION[4], run="r9")), *lines[4:]]),
    "newer": ("version", 4, lambda lines: [*lines[:3], NEWER, *lines[4:]]),
    "no JSON": ("json", 2, lambda lines: [lines[0], b"{]\n", *lines[1:]]),
    "no fact": ("json", 2, lambda lines: [lines[0], b"[1]\n", *lines[1:]]),
    "nested": ("json", 1, lambda lines: [b'{"type":' * 100_000]),
    "binary": ("json", 1, lambda lines: [bytes(range(256))]),
    "a line without an end": ("size", 1, lambda lines: [b"x" * (LINE_BYTES_MAX + 1)]),
    "of a session": ("run", 1, lambda lines: [encode(SESSION[0]) + b"\n", *lines]),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_trace_is_refused_by_rule_and_line(name: str) -> None:
    rule, line, spoil = SPOILED[name]
    found, _ = check(spoil(TRACE))
    assert (rule, line) in {(finding.rule, finding.line) for finding in found}, found
    assert str(found[0]).startswith(f"{found[0].rule}: ")
    assert f", at line {found[0].line}" in str(found[0])


def test_the_trace_of_another_run_than_was_asked_for_is_refused() -> None:
    assert check(TRACE, "r2")[0][0].rule == "run"


@pytest.mark.parametrize(
    ("rule", "line", "spoil"),
    [
        ("cut", len(SESSION), lambda lines: lines[:-1]),
        ("seq", 3, lambda lines: [*lines[:2], *lines[3:]]),
        ("version", 1, lambda lines: [lines[0].replace(b'"version":1', b'"version":9'), *lines[1:]]),
        ("state", 5, lambda lines: started_twice()),
    ],
)
def test_a_spoiled_export_is_refused_by_rule_and_line(rule: str, line: int, spoil: Callable[[Lines], Lines]) -> None:
    assert (rule, line) in {(finding.rule, finding.line) for finding in check(spoil(export()))[0]}


def started_twice() -> Lines:
    """A session in which a run starts twice; its numbers are in order."""
    facts = [*SESSION[:3], SESSION[2], *SESSION[3:]]
    run_seq: dict[str | None, int] = {}
    renumbered = []
    for seq, fact in enumerate(facts, 1):
        run_seq[fact.run] = run_seq.get(fact.run, 0) + 1
        renumbered.append(replace(fact, seq=seq, run_seq=None if fact.run is None else run_seq[fact.run]))
    return export(renumbered)


def test_a_fact_behind_the_end_of_its_run_is_refused_in_an_export_too() -> None:
    last = SESSION[-1]
    again = replace(SESSION[3], seq=last.seq + 1, ts=last.ts, run="r2", run_seq=30)
    assert {finding.rule for finding in check(export([*SESSION, again]))[0]} >= {"start"}


def test_what_is_told_and_what_is_kept_is_bounded() -> None:
    found, checker = check([b"{]\n"] * (PROBLEMS_MAX + 50))
    assert len(found) == PROBLEMS_MAX
    assert checker.full
    started = SESSION[1]
    many = [replace(started, seq=n, run=f"r{n}", run_seq=1) for n in range(1, RUNS_OPEN_MAX + 10)]
    found, _ = check(export(many))
    assert [finding.rule for finding in found] == ["size"]
