"""Working memory as facts change it, also facts of the first release (rulings 30, 31, 34)."""

from typing import Any

import pytest
from msgspec.structs import replace

from agentd.core.evolve import evolve
from agentd.core.state import Session
from agentd.core.window import GAPS_MAX, held_ids
from agentd.protocol import facts as f


def item(name: str, size: int = 10, **more: Any) -> f.WindowItem:
    return f.WindowItem(id=name, role="user", kind="message", bytes=size, **more)


def summary(name: str, first: str = "x", last: str = "y") -> f.SummaryItem:
    return f.SummaryItem(id=name, first=first, last=last, entries=2, bytes=5, origin="user")


STATE = Session(
    key="s", agent="default", owner="local", seq=7, leaf="c", window=(item("a"), item("b", pinned=True), item("c")),
    window_bytes=30, summaries=(summary("s1"), summary("s2")), tombstones=(item("t"),),
)  # fmt: skip


def told(state: Session, event: Any, ids: tuple[str, ...] = (), **fields: Any) -> Session:
    range_ = (ids[0], ids[-1]) if ids else ("a", "a")
    fields = {"count": len(ids), "bytes_before": 0, "bytes_after": 0, "range": range_, "recall": {}, **fields}
    return evolve(state, f.MemoryEvent(session="s", seq=state.seq + 1, ts=1, event=event, ids=ids, **fields))


@pytest.mark.parametrize("event", ["failed", "prune"])
def test_what_only_tells_leaves_working_memory_as_it_is(event: str) -> None:
    after = told(STATE, event, ("a",))
    assert replace(after, seq=STATE.seq, ts=STATE.ts) == STATE


def test_a_summary_takes_the_place_of_its_range_and_of_those_it_was_made_from() -> None:
    after = told(STATE, "summarize", ("a", "b", "t"), item=summary("new"), replaces=("s1",))
    assert [one.id for one in after.summaries] == ["new", "s2"]
    assert [one.id for one in after.window] == ["b", "c"], "what is pinned stays"
    assert after.tombstones == ()
    assert after.window_bytes == 20
    assert [one.id for one in told(STATE, "summarize", ("a",), item=summary("new")).summaries] == ["s1", "s2", "new"]


def test_a_summary_of_the_first_release_without_its_item_leaves_what_it_stands_for() -> None:
    after = told(STATE, "summarize", ("a",))
    assert (after.window, after.summaries) == (STATE.window, STATE.summaries)


def test_forgetting_takes_the_goal_of_its_run_and_leaves_a_gap_for_each_summary() -> None:
    state = replace(STATE, last_goal="see the sea", last_goal_run="r", window=(item("r.u"), *STATE.window))
    after = told(state, "forget", ("r.u", "t"), replaces=("s2",))
    assert (after.last_goal, after.last_goal_run) == (None, None)
    assert {one.id: one.bytes for one in (*after.window, *after.tombstones)} == {"r.u": 0, "a": 10, "b": 10, "c": 10,
                                                                              "t": 0}  # fmt: skip
    assert [one.id for one in after.summaries] == ["s1"]
    assert [(gap.first, gap.last, gap.entries) for gap in after.gaps] == [("x", "y", 2)]
    assert after.forgot_seq == after.seq
    other = told(replace(STATE, last_goal="g", last_goal_run="r"), "forget", ("a",))
    assert other.last_goal == "g", "another run's"


def test_there_are_at_most_so_many_gaps_and_the_newest_stay() -> None:
    state = replace(STATE, summaries=tuple(summary(f"s{n}", f"f{n}", f"l{n}") for n in range(GAPS_MAX + 3)))
    after = told(state, "forget", ("a",), replaces=tuple(one.id for one in state.summaries))
    assert len(after.gaps) == GAPS_MAX
    assert after.gaps[-1].first == f"f{GAPS_MAX + 2}"


def test_all_that_is_held_is_named_oldest_first() -> None:
    assert held_ids(STATE) == ["s1", "s2", "a", "b", "c"]
