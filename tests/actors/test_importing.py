"""The older format into sessions: whole, in parts, once; whatever is wrong with one stops no other (S9, rulings 31)."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentd.actors import importing
from agentd.actors.importing import Progress, import_folder
from agentd.protocol import facts as f
from agentd.store.legacy import INDEX
from tests.actors.rig import BY, Rig
from tests.actors.test_forgetting import server as on_disk
from tests.store.test_legacy import archive, snapshot


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig(lambda _: "yes")
    yield made
    await made.end()


async def taken(rig: Rig, folder: Path) -> list[Progress]:
    told = []
    async for progress in import_folder(rig.directory, folder, BY):
        told.append(Progress(**{name: getattr(progress, name) for name in progress.__struct_fields__}))
    return told


async def imported(rig: Rig, key: str) -> list[f.MemoryImported]:
    return [fact for fact in await rig.facts(await rig.session(key)) if isinstance(fact, f.MemoryImported)]


async def test_entries_become_a_conversation_and_summaries_stand_beside(rig: Rig, tmp_path: Path) -> None:
    summary = {"id": 1, "source_id": 1, "text": "they met", "created_at_ms": 900}
    lone = {"id": 2, "source_id": None, "text": "and parted", "created_at_ms": 0}
    one = snapshot("ann", 1_000, "hi", "hello", summaries=[summary, lone])
    one["entries"][1]["related_to"] = 1
    one["entries"].append({"id": 9, "role": "robot", "state": "active", "content": "beep", "related_to": None})
    archive(tmp_path, one)
    told = await taken(rig, tmp_path)
    assert [(step.snapshots, step.entries, step.summaries, step.done) for step in told] == [
        (1, 3, 2, False), (1, 3, 2, True),
    ]  # fmt: skip
    (fact,) = await imported(rig, "ann")
    assert (fact.timestamp_ms, fact.reason, fact.leaf) == (1_000, "shutdown", "imp:1000:ann:9")
    assert [(item.id, item.role, item.kind, item.parent, item.related_to, item.ts) for item in fact.items] == [
        ("imp:1000:ann:1", "user", "message", None, None, 1_000),
        ("imp:1000:ann:2", "assistant", "message", "imp:1000:ann:1", "imp:1000:ann:1", 1_000),
        ("imp:1000:ann:9", "user", "message", "imp:1000:ann:2", None, 1_000),
        ("imp:1000:ann:s1", "system", "summary", None, "imp:1000:ann:1", 900),
        ("imp:1000:ann:s2", "system", "summary", None, "imp:1000:ann:9", 1_000),
    ]


@pytest.mark.parametrize(("items", "size", "parts"), [(2, 1 << 20, 3), (100, 700, 3), (100, 1 << 20, 1)])
async def test_a_long_one_comes_in_parts_that_fit_a_fact(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, items: int, size: int, parts: int
) -> None:
    monkeypatch.setattr(importing, "PART_ITEMS", items)
    monkeypatch.setattr(importing, "PART_BYTES", size)
    archive(tmp_path, snapshot("ann", 1_000, "one", "two", "three", "four", "five"))
    await taken(rig, tmp_path)
    facts = await imported(rig, "ann")
    assert [(fact.part, fact.last) for fact in facts] == [(n, n == parts) for n in range(1, parts + 1)]
    assert [item.content for fact in facts for item in fact.items] == ["one", "two", "three", "four", "five"]
    assert (await taken(rig, tmp_path))[-1].already == 1, "only the last part makes it taken"
    assert len(await imported(rig, "ann")) == parts


async def test_an_entry_over_the_limit_is_cut_and_told(rig: Rig, tmp_path: Path) -> None:
    archive(tmp_path, snapshot("ann", 1, "ü" * 40_000, "fine"))
    told = await taken(rig, tmp_path)
    assert told[-1].cut == 1
    (fact,) = await imported(rig, "ann")
    assert fact.items[0].content == "ü" * 32_768


async def test_an_empty_snapshot_is_taken_once_too(rig: Rig, tmp_path: Path) -> None:
    archive(tmp_path, snapshot("ann", 1))
    assert (await taken(rig, tmp_path))[-1].snapshots == 1
    assert (await taken(rig, tmp_path))[-1].already == 1


async def test_ids_that_come_twice_are_a_fault_of_that_snapshot_and_of_no_other(rig: Rig, tmp_path: Path) -> None:
    """An entry that is its own parent would have no way to the beginning."""
    twice = snapshot("bad", 1, "one", "two", "three")
    for entry in twice["entries"]:
        entry["id"] = 7
    archive(tmp_path, twice, snapshot("good", 2, "hello"))
    told = (await taken(rig, tmp_path))[-1]
    assert (told.snapshots, told.skipped) == (1, 1)
    assert "twice" in told.reasons[0].reason
    assert rig.directory.get("bad") is None


@pytest.mark.parametrize("key", ["", "_server", "a b", "ü", "x" * 129, "a/b"])
async def test_what_is_no_key_of_a_session_is_left_out(rig: Rig, tmp_path: Path, key: str) -> None:
    one = snapshot("name", 1, "x")
    archive(tmp_path, one)
    for path in (tmp_path / INDEX, tmp_path / "name-1.json"):
        path.write_text(path.read_text().replace('"name"', f'"{key}"'))
    told = (await taken(rig, tmp_path))[-1]
    assert (told.snapshots, told.skipped) == (0, 1)
    assert "no key" in told.reasons[0].reason


async def test_a_session_of_another_agent_is_left_out_and_one_in_use_is_taken_beside(rig: Rig, tmp_path: Path) -> None:
    other = await rig.directory.open("other", "stranger", "local", operator=False)
    await rig.ended(other, await rig.start(other, "hello"))
    ours = await rig.session("ours")
    await rig.ended(ours, await rig.start(ours, "hello"))
    leaf = ours.state.leaf
    archive(tmp_path, snapshot("other", 1, "x"), snapshot("ours", 2, "y"))
    told = (await taken(rig, tmp_path))[-1]
    assert (told.snapshots, told.skipped) == (1, 1)
    assert "another agent" in told.reasons[0].reason
    assert ours.state.leaf == leaf, "a session with words of its own goes on from them"
    assert not [fact for fact in await rig.facts(other) if isinstance(fact, f.MemoryImported)]


async def test_a_log_that_does_not_answer_leaves_one_out_and_goes_on(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(tmp_path, snapshot("slow", 1, "x"), snapshot("ann", 2, "y"))
    real = importing._told

    async def slow(seat: Any, intent: Any) -> Any:
        if seat.key == "slow":
            raise TimeoutError
        return await real(seat, intent)

    monkeypatch.setattr(importing, "_told", slow)
    told = (await taken(rig, tmp_path))[-1]
    assert (told.snapshots, told.skipped) == (1, 1)
    assert "in time" in told.reasons[0].reason


async def test_of_what_is_left_out_only_so_many_reasons_are_kept(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "SKIPPED_TOLD", 2)
    (tmp_path / INDEX).write_text("no line\n" * 5)
    told = (await taken(rig, tmp_path))[-1]
    assert (told.skipped, len(told.reasons)) == (5, 2)


def said(name: object) -> dict[str, Any]:
    return {"id": name, "role": "user", "content": "hi"}


HOSTILE = {
    "one id as number and as text": snapshot("a", 1_000, entries=[said(1), said("1")]),
    "a summary with the name of an entry": snapshot(
        "a", 1_000, entries=[said("s1")], summaries=[{"id": 1, "source_id": 1, "text": "x"}]
    ),
    "a time no column holds": snapshot("a", 2**66, "hi"),
    "a summary's time no column holds": snapshot(
        "a", 1_000, "hi", summaries=[{"id": 1, "source_id": 1, "text": "x", "created_at_ms": 2**63}]
    ),
    "control characters": snapshot("a", 1_000, entries=[{**said("a b.u\n\0"), "content": "nul \0 here"}]),
    "a summary of nothing": snapshot("a", 1_000, entries=[], summaries=[{"id": 1, "source_id": 7, "text": "x"}]),
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_a_session_goes_on_whatever_was_imported_into_it(tmp_path: Path, case: str) -> None:
    """Over a store on the disk: it holds less than a dictionary."""
    async with on_disk(tmp_path / "agentd.db") as rig:
        (tmp_path / "old").mkdir()
        archive(tmp_path / "old", HOSTILE[case], snapshot("b", 5, "good"))
        told = (await taken(rig, tmp_path / "old"))[-1]
        assert told.snapshots + told.skipped == 2
        assert told.snapshots >= 1
        seat = await rig.session("a")
        assert seat.broken is None
        await rig.ended(seat, await rig.start(seat, "we go on"))
        ids = [row.id for row in await rig.shared.store.path(seat.state.leaf or "")]
        assert len(ids) == len(set(ids))
