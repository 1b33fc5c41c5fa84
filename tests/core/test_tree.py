"""Leaves, branches, imports: what they take along, and what they refuse (N5, S9, rulings 1, 31, 40)."""

import pytest

from agentd.core import intents as i
from agentd.core.session import decide
from agentd.core.state import Session
from agentd.core.tree import within
from agentd.protocol import facts as f
from agentd.protocol.errors import Conflict, NotFound
from tests.core.shell import BY, Shell

PATH = tuple(f.WindowItem(id=f"e{n}", role="user", kind="message", bytes=100) for n in range(10))
SUMMARY = f.SummaryItem(id="s", first="a", last="b", entries=2, bytes=5, origin="user")


def given(**more: object) -> i.Given:
    return i.Given(now=5_000, models=4, caps=i.Caps(ram_entries=6, ram_bytes=450), **more)  # type: ignore[arg-type]


def test_a_path_is_taken_from_its_end_as_far_as_there_is_room() -> None:
    assert [item.id for item in within(PATH, i.Caps(ram_entries=3))] == ["e7", "e8", "e9"]
    assert [item.id for item in within(PATH, i.Caps(ram_bytes=250))] == ["e8", "e9"]
    assert [item.id for item in within(PATH, i.Caps(ram_bytes=1))] == ["e9"], "the newest always"
    assert within((), i.Caps()) == ()


def test_another_leaf_takes_its_path_and_summaries_along() -> None:
    shell = Shell()
    shell.chat()
    shell.heal()
    known = given(paths={"e9": PATH}, path_summaries={"e9": (SUMMARY,)})
    decision = decide(shell.state, i.SetLeaf(by=BY, leaf="e9"), known)
    (fact,) = decision.facts
    assert isinstance(fact, f.SessionLeaf)
    assert (fact.leaf, [item.id for item in fact.window], fact.summaries) == (
        "e9",
        ["e6", "e7", "e8", "e9"],
        (SUMMARY,),
    )
    assert decision.state.summaries == (SUMMARY,)
    again = decide(decision.state, i.SetLeaf(by=BY, leaf="e9"), known)
    assert again.facts == ()
    with pytest.raises(NotFound):
        decide(shell.state, i.SetLeaf(by=BY, leaf="z"), known)


def test_a_branch_is_one_fact_and_only_the_first() -> None:
    fresh = Session(key="b", agent="default", owner="local")
    branch = i.BeginBranch(by=BY, origin="s", leaf="e9", window=PATH, summaries=(SUMMARY,))
    decision = decide(fresh, branch, given())
    (fact,) = decision.facts
    assert isinstance(fact, f.SessionCreated)
    assert fact.branched_from == f.BranchedFrom(session="s", entry="e9")
    assert (decision.state.leaf, decision.state.branched, len(decision.state.window)) == ("e9", True, 4)
    with pytest.raises(Conflict):
        decide(decision.state, branch, given())


def items(count: int, at: int = 1) -> tuple[f.ImportedItem, ...]:
    return tuple(
        f.ImportedItem(id=f"imp:{at}:s:{n}", kind="message", role="user", content="x" * 200, ts=at)
        for n in range(count)
    )


def test_an_import_is_taken_once_and_a_silent_session_goes_on_from_it() -> None:
    state = Session(key="s", agent="default", owner="local")
    first = decide(state, i.Import(by=BY, timestamp_ms=1, reason="x", items=items(3), last=False), given()).state
    second = decide(first, i.Import(by=BY, timestamp_ms=1, reason="x", items=items(5)[3:], part=2), given()).state
    assert second.leaf == "imp:1:s:4"
    assert second.imported == (1,)
    assert second.window_bytes <= 450
    again = decide(second, i.Import(by=BY, timestamp_ms=1, reason="x", items=items(3)), given())
    assert (again.facts, again.answer) == ((), i.Imported(already=True))
    newer = decide(second, i.Import(by=BY, timestamp_ms=2, reason="x", items=items(1, 2)), given()).state
    assert (newer.leaf, [item.id for item in newer.window]) == ("imp:2:s:0", ["imp:2:s:0"])


def test_a_session_with_words_of_its_own_keeps_its_leaf() -> None:
    shell = Shell()
    shell.chat()
    shell.heal()
    leaf = shell.state.leaf
    state = decide(shell.state, i.Import(by=BY, timestamp_ms=1, reason="x", items=items(2)), given()).state
    assert state.leaf == leaf
    assert state.imported == (1,)


def test_what_working_memory_holds_of_an_imported_entry_is_within_its_share() -> None:
    small = f.ImportedItem(id="imp:1:s:1", kind="message", role="user", content="ünder", ts=1)
    large = f.ImportedItem(id="imp:1:s:2", kind="message", role="user", content="x" * 200, ts=1)
    note = f.ImportedItem(id="imp:1:s:3", kind="summary", role="system", content="said before", ts=1)
    state = Session(key="s", agent="default", owner="local")
    state = decide(state, i.Import(by=BY, timestamp_ms=1, reason="x", items=(small, large, note)), given()).state
    assert [(one.id, one.bytes) for one in state.window] == [("imp:1:s:1", 6), ("imp:1:s:2", 450 // 4)]
    assert state.leaf == "imp:1:s:2", "a summary is no entry of the tree"
