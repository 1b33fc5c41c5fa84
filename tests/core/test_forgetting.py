"""What stored facts say when words have to go: ids, numbers and sizes stay (rulings 30)."""

from typing import Any

import pytest

from agentd.core.forgetting import Gone, blanked, touched_runs
from agentd.protocol import facts as f
from agentd.protocol.codec import decode_fact, encode

SECRET = "xylophone"
GONE = Gone(frozenset({"r.u", "r.a1", "r.i1", "sum_1", "imp:1:s:1", "r.p"}))
ENVELOPE: dict[str, Any] = {"session": "s", "seq": 5, "ts": 9, "run": "r", "run_seq": 2}
COUNTS = f.Counts(total=1, done=1, failed=0, cancelled=0, skipped=0, dropped=0)
CAUSE = f.Cause(code="x", message=SECRET)
ITEM = f.SummaryItem(id="sum_1", first="r.u", last="r.a1", entries=2, bytes=9, origin="user")
TASK = f.PlanTask(id="t", title=SECRET, kind="model", depends_on=(), status="pending", prompt=SECRET)
MEMORY: dict[str, Any] = {
    "session": "s", "seq": 5, "ts": 9, "count": 1, "bytes_before": 9, "bytes_after": 9, "range": ("r.u", "r.u"),
    "recall": {},
}  # fmt: skip
CALL: dict[str, Any] = {"task": "t", "attempt": 1, "call": "c", "tool": "x"}
RECEIVED: dict[str, Any] = {
    "role": "assistant", "entry": "r.a1", "parent": None, "message": "m", "usage": f.Usage(), "finish_reason": "stop",
    "model": None,
}  # fmt: skip
FACTS: list[f.AnyFact] = [
    f.RunAccepted(kind="chat", content=SECRET, state="running", **ENVELOPE),
    f.RunInput(mode="steer", content=SECRET, input=1, **ENVELOPE),
    f.RunInput(mode="steer", content=SECRET, input=1, entry="r.i1", **ENVELOPE),
    f.SessionReceive(content=SECRET, **RECEIVED, **ENVELOPE),
    f.AgentPlan(plan="p", revision=1, goal=SECRET, tasks=(TASK,), gates=(), **ENVELOPE),
    f.AgentStatus(task="t", status="failed", message=SECRET, result=SECRET, cause=CAUSE, **ENVELOPE),
    f.ToolCalled(input=SECRET, **CALL, **ENVELOPE),
    f.ToolResult(output=SECRET, **CALL, **ENVELOPE),
    f.ToolFailed(error=CAUSE, **CALL, **ENVELOPE),
    f.RunCompleted(cause=None, usage=f.Usage(), duration_ms=1, counts=COUNTS, plan=SECRET, **ENVELOPE),
    f.Warned(code="output_invalid", message=SECRET, source="worker", details={"x": SECRET}, **ENVELOPE),
    f.MemoryEvent(event="summarize", item=ITEM, summary=SECRET, **MEMORY),
    f.MemoryEvent(event="update", ids=("r.u",), content=SECRET, **MEMORY),
    f.MemoryImported(
        session="s", seq=5, ts=9, timestamp_ms=1, reason="x",
        items=(f.ImportedItem(id="imp:1:s:1", kind="message", role="user", content=SECRET, ts=1),),
    ),
]  # fmt: skip


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: str(fact.__struct_config__.tag))
def test_every_fact_that_may_hold_the_words_loses_them_and_nothing_else(fact: f.AnyFact) -> None:
    body = blanked(encode(fact), GONE)
    assert body is not None
    assert SECRET.encode() not in body
    less = decode_fact(body)
    assert type(less) is type(fact)
    assert (less.session, less.seq, less.ts, less.run, less.run_seq) == (
        fact.session, fact.seq, fact.ts, fact.run, fact.run_seq,
    )  # fmt: skip
    assert blanked(body, GONE) is None, "once is enough"
    assert blanked(encode(fact), Gone(frozenset({"other.u"}))) is None


def test_sizes_are_kept_so_that_figures_replay() -> None:
    fact = decode_fact(blanked(encode(FACTS[0]), GONE) or b"")
    assert isinstance(fact, f.RunAccepted)
    assert (fact.bytes, fact.forgotten, fact.content) == (len(SECRET), True, "")


def test_what_another_entry_says_is_another_entry() -> None:
    only = Gone(frozenset({"r.u"}))
    assert blanked(encode(FACTS[3]), only) is None, "the answer that quotes it is forgotten by its own id"
    assert touched_runs(frozenset({"r.u", "q.a1", "sum"})) == {"r", "q"}
