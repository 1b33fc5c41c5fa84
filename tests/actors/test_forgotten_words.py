"""`memory.forget`: said in every session that holds the words, blanked in every copy, and finished when asked again
(rulings 29, 30)."""

from collections.abc import AsyncIterator

import pytest

from agentd.actors.ahead import path_to
from agentd.actors.forgetting import forget
from agentd.actors.seat import Seat
from agentd.core import intents as i
from agentd.protocol import facts as f
from agentd.protocol.codec import encode
from agentd.protocol.errors import Conflict, NotFound, StorageUnavailable
from tests.actors.rig import BY, Rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig(lambda request: f"answer to {len(request.messages)}", offline=True)
    made.replays = False  # words that are gone can't be decided on again
    yield made
    await made.end()


async def talked(rig: Rig, *said: str) -> tuple[Seat, list[str]]:
    """A session in which this was said; the ids of its runs."""
    seat = await rig.session()
    runs = [await rig.start(seat, words) for words in said[:1]]
    await rig.ended(seat, runs[0])
    for words in said[1:]:
        runs.append(await rig.start(seat, words))
        await rig.ended(seat, runs[-1])
    return seat, runs


async def branched(rig: Rig, seat: Seat, leaf: str, key: str) -> Seat:
    fresh = await rig.session(key)
    path = await path_to(rig.shared, leaf)
    fresh_actor = await fresh.awake()
    fresh_actor.know(leaf, path)
    await rig.tell(
        fresh, i.BeginBranch(by=BY, origin=seat.key, leaf=leaf, window=path.window, summaries=path.summaries)
    )
    return fresh


async def everything(rig: Rig) -> bytes:
    """All that the store holds, and what is in memory."""
    disk = rig.store.disk
    bodies = [record.body for records in disk.facts.values() for record in records]
    bodies += [row.body for rows in disk.snapshots.values() for row in rows]
    actors = [seat.actor for seat in rig.directory if seat.actor is not None]
    held = [(actor.words.contents, actor.words.ahead, actor._paths.contents) for actor in actors]
    return b"".join(bodies) + encode(disk.entries) + encode(held)


async def test_the_words_are_gone_from_facts_entries_memory_and_branches_and_their_places_stay(rig: Rig) -> None:
    seat, runs = await talked(rig, "my word is xylophone", "and a second turn")
    other = await branched(rig, seat, f"{runs[1]}.a1", "branch")
    assert b"xylophone" in await everything(rig)
    told = await forget(rig.shared, rig.directory, seat.state, (f"{runs[0]}.u",), BY)
    assert (told.memory_ids, told.sessions, told.purged) == ((f"{runs[0]}.u",), ("s", "branch"), True)
    assert b"xylophone" not in await everything(rig)
    for one in (seat, other):
        held = {item.id: item.bytes for item in one.state.window}
        assert held[f"{runs[0]}.u"] == 0
        assert held[f"{runs[0]}.a1"] > 0, "what another entry says is another entry"
    assert rig.shared.forgetting == set()
    again = await forget(rig.shared, rig.directory, seat.state, (f"{runs[0]}.u",), BY)
    assert again.sessions == ("s", "branch"), "asking again finishes what was cut off"


async def test_a_summary_of_the_words_goes_with_them_and_leaves_a_gap(rig: Rig) -> None:
    seat, runs = await talked(rig, "my word is xylophone", "two", "three")
    ids = tuple(item.id for item in seat.state.window[:2])
    await rig.tell(seat, i.SummarizeMemory(by=BY, ids=ids, summary="sum_x", content="they spoke of a xylophone"))
    await forget(rig.shared, rig.directory, seat.state, (f"{runs[0]}.u",), BY)
    assert b"xylophone" not in await everything(rig)
    assert seat.state.summaries == ()
    assert [(gap.first, gap.last) for gap in seat.state.gaps] == [(f"{runs[0]}.u", f"{runs[0]}.a1")]


async def test_a_goal_s_plan_goes_with_its_words(rig: Rig) -> None:
    seat = await rig.session()
    run = await rig.start(seat, "tune the xylophone", "goal")
    await rig.ended(seat, run)
    assert rig.directory.get("s") is seat
    assert (seat.state.last_goal or "") == "tune the xylophone"
    await forget(rig.shared, rig.directory, seat.state, (f"{run}.u",), BY)
    assert (seat.state.last_goal or "") == ""
    assert b"xylophone" not in await everything(rig)


async def test_what_a_branch_shares_and_what_is_not_there_is_not_its_to_forget(rig: Rig) -> None:
    seat, runs = await talked(rig, "hello")
    other = await branched(rig, seat, f"{runs[0]}.a1", "branch")
    for state, name in ((other.state, f"{runs[0]}.u"), (seat.state, "nobody")):
        with pytest.raises(NotFound):
            await forget(rig.shared, rig.directory, state, (name,), BY)
    facts = [fact for fact in await rig.facts(seat) if isinstance(fact, f.MemoryEvent)]
    assert facts == []


async def test_words_of_a_run_that_goes_on_stay_and_nothing_is_left_half_forgotten(rig: Rig) -> None:
    seat, runs = await talked(rig, "hello")
    await rig.tell(seat, i.SetMode(by=BY, mode="paused"))
    run = await rig.start(seat, "later")
    actor = await seat.awake()
    rig.store.disk.entries[f"{run}.u"] = next(iter(rig.store.disk.entries.values()))  # as if it had begun
    with pytest.raises(Conflict) as refused:
        await forget(rig.shared, rig.directory, actor.state, (f"{run}.u",), BY)
    assert refused.value.details is not None
    assert refused.value.details["reason"] == "busy"
    assert rig.shared.forgetting == set(), "summaries may be made again"
    del rig.store.disk.entries[f"{run}.u"]
    assert runs


async def test_a_disk_that_fails_in_between_leaves_the_fact_and_asking_again_cleans_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seat, runs = await talked(rig, "my word is xylophone")

    async def full(*_: object, **__: object) -> None:
        raise StorageUnavailable("the disk is full")

    monkeypatch.setattr(rig.store, "blank", full)
    with pytest.raises(StorageUnavailable):
        await forget(rig.shared, rig.directory, seat.state, (f"{runs[0]}.u",), BY)
    assert rig.shared.forgetting == set()
    assert b"xylophone" in await everything(rig)
    assert [fact.event for fact in await rig.facts(seat) if isinstance(fact, f.MemoryEvent)] == ["forget"]
    monkeypatch.undo()
    await forget(rig.shared, rig.directory, seat.state, (f"{runs[0]}.u",), BY)
    assert b"xylophone" not in await everything(rig)


async def test_a_run_that_waits_at_a_leaf_does_not_bring_the_words_back(rig: Rig) -> None:
    """What was read ahead for it is a copy too: its path, its summaries, their words."""
    seat, runs = await talked(rig, "my word is xylophone", "two", "three")
    ids = tuple(item.id for item in seat.state.window[:2])
    await rig.tell(seat, i.SetMode(by=BY, mode="paused"))
    await rig.tell(seat, i.StartRun(by=BY, run="run_leaf", kind="chat", content="again", leaf_id=f"{runs[1]}.a1"))
    await forget(rig.shared, rig.directory, seat.state, ids, BY)
    assert b"xylophone" not in await everything(rig)
    asked = len(rig.model.asked)
    await rig.tell(seat, i.SetMode(by=BY, mode="running"))
    await rig.ended(seat, "run_leaf")
    assert b"xylophone" not in encode([request.messages for request in rig.model.asked[asked:]])
    assert b"xylophone" not in await everything(rig)
    held = {item.id: item.bytes for item in seat.state.window}
    assert (held[f"{runs[0]}.u"], held[f"{runs[0]}.a1"]) == (0, 0)
    assert held[f"{runs[1]}.u"] == 3
