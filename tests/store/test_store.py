"""The contract of a store, over each store there is."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentd.clock import SystemClock
from agentd.protocol.errors import Conflict, StorageUnavailable
from agentd.store.store import Append, ContentRow, KeptRun, PrunedRow, Record, Store
from agentd.supervisor import Supervisor
from tests.store.making import (
    body_of,
    entry_row,
    key_row,
    opened,
    run_row,
    session_row,
    snapshot_row,
    step,
)
from tests.store.memory_store import MemoryStore


@pytest.fixture(params=["sqlite", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "sqlite":
        async with opened(tmp_path / "agentd.db") as sqlite:
            yield sqlite
        return
    clock = SystemClock()
    supervisor = Supervisor(clock, lambda reason: None)
    memory = MemoryStore(clock=clock, supervisor=supervisor)
    yield memory
    await memory.close()
    await supervisor.stop(5)


async def test_facts_come_back_byte_for_byte_in_order(store: Store) -> None:
    await store.append(step("a", 1, 3))
    await store.append(step("a", 4, 2))
    page = await store.read("a", 0)
    assert page.first == 1
    assert page.bodies == tuple(body_of("a", seq) for seq in range(1, 6))


async def test_a_page_begins_after_the_cursor_and_is_bounded_in_rows(store: Store) -> None:
    await store.append(step("a", 1, 9))
    page = await store.read("a", 3, limit=4)
    assert (page.first, len(page.bodies)) == (4, 4)


async def test_a_page_is_bounded_in_bytes_but_never_empty(store: Store) -> None:
    await store.append(step("a", 1, 5, words="x" * 1000))
    assert len((await store.read("a", 0, limit_bytes=2500)).bodies) == 2
    assert len((await store.read("a", 0, limit_bytes=10)).bodies) == 1


async def test_a_page_at_the_end_is_empty(store: Store) -> None:
    await store.append(step("a", 1))
    assert (await store.read("a", 1)).bodies == ()
    assert (await store.read("nobody", 0)).bodies == ()


async def test_a_stale_term_is_refused_and_fails_alone(store: Store) -> None:
    await store.append(step("a", 1, term=5))
    outcome = await asyncio.gather(
        store.append(step("a", 2, term=4)), store.append(step("b", 1)), return_exceptions=True
    )
    assert isinstance(outcome[0], Conflict)
    assert outcome[0].details == {"reason": "term", "term": 4, "newest": 5}
    assert outcome[1] is None
    await store.append(step("a", 2, term=6))


@pytest.mark.parametrize("seq", [1, 3])
async def test_a_repeated_or_skipped_seq_is_refused_and_fails_alone(store: Store, seq: int) -> None:
    await store.append(step("a", 1))
    outcome = await asyncio.gather(store.append(step("a", seq)), store.append(step("b", 1)), return_exceptions=True)
    assert isinstance(outcome[0], Conflict)
    assert outcome[0].details == {"reason": "seq", "seq": seq, "expected": 2}
    assert outcome[1] is None


async def test_records_that_are_not_consecutive_are_refused(store: Store) -> None:
    records = (step("a", 1).records[0], step("a", 3).records[0])
    with pytest.raises(Conflict):
        await store.append(Append("a", 1, records))
    assert await store.load("a") is None


async def test_two_steps_of_one_session_fit_into_one_commit(store: Store) -> None:
    await asyncio.gather(*(store.append(step("a", 1 + 2 * i, 2)) for i in range(20)))
    assert len((await store.read("a", 0)).bodies) == 40
    assert store.figures.commits == 1


async def test_a_step_behind_a_refused_one_is_judged_by_what_is_stored(store: Store) -> None:
    outcome = await asyncio.gather(*(store.append(step("a", seq)) for seq in (1, 7, 2, 3)), return_exceptions=True)
    assert [type(item) for item in outcome] == [type(None), Conflict, type(None), type(None)]


async def test_many_sessions_share_commits_of_at_most_512_facts(store: Store) -> None:
    await asyncio.gather(*(store.append(step(f"s{i}", 1, 10)) for i in range(100)))
    assert store.figures.facts == 1000
    assert store.figures.commits == 2
    assert store.figures.batch_facts.counts[-2:] == [2, 0]


async def test_a_step_larger_than_a_batch_is_not_split(store: Store) -> None:
    await store.append(step("a", 1, 700))
    assert store.figures.commits == 1
    assert (await store.read("a", 600)).bodies[-1] == body_of("a", 700)


async def test_an_append_whose_awaiter_is_cancelled_is_committed_and_harms_nobody(store: Store) -> None:
    leaving = asyncio.ensure_future(store.append(step("a", 1)))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await store.append(step("b", 1))
    await store.append(step("a", 2))
    assert len((await store.read("a", 0)).bodies) == 2


async def test_a_repeated_run_seq_fails_alone_and_leaves_nothing(store: Store) -> None:
    await store.append(step("a", 1, run="r1", run_seq=1))
    outcome = await asyncio.gather(
        store.append(step("b", 1)),
        store.append(step("a", 2, run="r1", run_seq=1)),
        store.append(step("c", 1)),
        return_exceptions=True,
    )
    assert [type(item) for item in outcome] == [type(None), Conflict, type(None)]
    assert len((await store.read("a", 0)).bodies) == 1
    await store.append(step("a", 2, run="r1", run_seq=2))


async def test_the_facts_of_a_run_are_read_by_its_own_numbers(store: Store) -> None:
    await store.append(step("a", 1, 2))
    await store.append(step("a", 3, 3, run="r1"))
    await store.append(step("a", 6, 2, run="r2"))
    page = await store.read_run("r1", after=1)
    assert (page.first, page.bodies) == (2, (body_of("a", 4), body_of("a", 5)))
    assert (await store.read_run("nobody")).bodies == ()


async def test_the_first_and_the_last_fact_of_a_run_are_known_by_seq(store: Store) -> None:
    await store.append(step("a", 1, 2))
    await store.append(step("a", 3, 3, run="r1", rows=(session_row("a"), run_row("r1", "a"))))
    await store.append(step("a", 6, 1, run="r2", rows=(run_row("r2", "a"), run_row("r3", "a"))))
    await store.append(step("a", 7, 2, run="r1", run_seq=4))
    assert await store.kept_run("r1") == KeptRun(run_row("r1", "a"), 3, 8)
    assert await store.kept_run("r2") == KeptRun(run_row("r2", "a"), 6, 6)
    assert await store.kept_run("r3") == KeptRun(run_row("r3", "a"), None, None)
    assert await store.kept_run("nobody") is None


async def test_facts_come_with_the_step_that_made_them(store: Store) -> None:
    for first, count in ((1, 2), (3, 1), (4, 3)):
        await store.append(step("a", first, count))
    page = await store.read_steps("a", 1)
    assert (page.first, page.steps) == (2, (1, 3, 4, 4, 4))
    assert page.bodies == tuple(body_of("a", seq) for seq in range(2, 7))
    assert (await store.read_steps("a", 0, limit=2)).steps == (1, 1)
    assert (await store.read_steps("a", 0, limit_bytes=1)).steps == (1,)
    nothing = await store.read_steps("a", 6)
    assert (nothing.first, nothing.steps, nothing.bodies) == (7, (), ())


async def test_the_oldest_snapshot_from_a_number_on_is_found(store: Store) -> None:
    await store.append(step("a", 1, 4, rows=(session_row("a"), snapshot_row("a", 4))))
    await store.append(step("a", 5, 4, rows=(snapshot_row("a", 8),)))
    assert await store.snapshot("a", 1) == snapshot_row("a", 4)
    assert await store.snapshot("a", 5) == snapshot_row("a", 8)
    assert await store.snapshot("a", 9) is None
    assert await store.snapshot("nobody", 0) is None


async def test_rows_are_written_with_their_facts_and_the_newest_wins(store: Store) -> None:
    await asyncio.gather(
        store.append(step("a", 1, rows=(session_row("a", unfinished=1), run_row("r1", "a")))),
        store.append(step("a", 2, rows=(session_row("a", updated=2), run_row("r1", "a", ended=9)))),
    )
    loaded = await store.load("a")
    assert loaded is not None
    assert loaded.row == session_row("a", updated=2)
    assert await store.run("r1") == run_row("r1", "a", ended=9)
    assert await store.run("r2") is None


async def test_rows_may_come_without_facts(store: Store) -> None:
    await store.append(step("a", 1, rows=(session_row("a"),)))
    await store.append(Append("a", 1, (), (session_row("a", unfinished=3),)))
    assert await store.unfinished() == ["a"]


async def test_sessions_with_unfinished_runs_are_named(store: Store) -> None:
    for key, unfinished in (("c", 2), ("b", 0), ("a", 1)):
        await store.append(step(key, 1, rows=(session_row(key, unfinished=unfinished),)))
    assert await store.unfinished() == ["a", "c"]


async def test_sessions_are_listed_by_key_and_owner_in_pages(store: Store) -> None:
    for i in range(5):
        await store.append(step(f"s{i}", 1, i + 1, rows=(session_row(f"s{i}", owner=f"o{i % 2}"),)))
    listed = await store.sessions(limit=2, cursor="s1")
    assert [(info.row.key, info.first, info.last) for info in listed] == [("s2", 1, 3), ("s3", 1, 4)]
    assert [info.row.key for info in await store.sessions(owner="o0")] == ["s0", "s2", "s4"]


async def test_runs_are_listed_newest_first(store: Store) -> None:
    rows = tuple(run_row(f"r{i}", "a", accepted=i // 2) for i in range(4))
    await store.append(step("a", 1, rows=rows))
    await store.append(step("b", 1, rows=(run_row("other", "b", accepted=99),)))
    assert [row.run for row in await store.runs("a")] == ["r3", "r2", "r1", "r0"]
    assert [row.run for row in await store.runs("a", limit=1)] == ["r3"]


async def test_a_load_has_the_newest_snapshot_and_what_came_after(store: Store) -> None:
    await store.append(step("a", 1, 4, rows=(session_row("a"), snapshot_row("a", 4))))
    await store.append(step("a", 5, 2))
    loaded = await store.load("a")
    assert loaded is not None
    assert (loaded.first, loaded.last, loaded.snapshot) == (1, 6, snapshot_row("a", 4))
    assert loaded.bodies == (body_of("a", 5), body_of("a", 6))
    assert await store.load("nobody") is None


async def test_a_load_is_whole_however_long_the_session(store: Store) -> None:
    await store.append(step("a", 1, 600))
    await store.append(step("a", 601, 600))
    loaded = await store.load("a")
    assert loaded is not None
    assert len(loaded.bodies) == 1200


async def test_an_idempotency_key_is_found_in_its_session_and_forgotten_in_time(store: Store) -> None:
    await store.append(step("a", 1, rows=(key_row("a", "k", "r1", ts=5), key_row("a", "late", "r2", ts=50))))
    found = await store.key("a", "k")
    assert found is not None
    assert (found.run, found.body_hash) == ("r1", "hash of k")
    assert await store.key("b", "k") is None
    assert await store.prune_keys(50) == 1
    assert await store.key("a", "k") is None
    assert await store.key("a", "late") is not None


async def test_a_path_leads_from_the_leaf_to_the_root_across_sessions(store: Store) -> None:
    await store.append(step("a", 1, rows=(entry_row("e1", "a"), entry_row("e2", "a", "e1"), entry_row("x", "a", "e1"))))
    await store.append(step("b", 1, rows=(entry_row("e3", "b", "e2"),)))
    path = await store.path("e3")
    assert [(entry.id, entry.session) for entry in path] == [("e3", "b"), ("e2", "a"), ("e1", "a")]
    assert [entry.id for entry in await store.path("e3", limit=2)] == ["e3", "e2"]
    assert await store.path("nobody") == []


async def test_a_path_is_bounded_in_bytes_but_never_empty(store: Store) -> None:
    rows = (entry_row("e1", "a", content="ä" * 600), entry_row("e2", "a", "e1", content="x" * 600))
    await store.append(step("a", 1, rows=rows))
    assert [entry.id for entry in await store.path("e2", limit_bytes=1000)] == ["e2"]


async def test_a_circle_of_parents_ends_at_the_limit(store: Store) -> None:
    await store.append(step("a", 1, rows=(entry_row("e1", "a", "e2"), entry_row("e2", "a", "e1"))))
    assert len(await store.path("e1", limit=7)) == 7


async def test_entries_are_found_by_id_and_any_text_comes_back(store: Store) -> None:
    odd = "nul \0, bell \a, 日本, 🙂"
    await store.append(step("a", 1, rows=(entry_row("e1", "a", content=odd), entry_row("e2", "a"))))
    found = await store.entries(["e1", "e2", "nobody"])
    assert set(found) == {"e1", "e2"}
    assert found["e1"].content == odd
    assert len(await store.entries([f"n{i}" for i in range(2000)])) == 0


async def test_an_entry_stays_as_it_is_and_only_its_words_change(store: Store) -> None:
    await store.append(step("a", 1, rows=(entry_row("e1", "a", content="old"),)))
    await store.append(step("a", 2, rows=(entry_row("e1", "a", content="other", role="assistant"),)))
    assert (await store.entries(["e1"]))["e1"].content == "old"
    await store.append(step("a", 3, rows=(ContentRow(session="a", id="e1", content="new"),)))
    found = (await store.entries(["e1"]))["e1"]
    assert (found.content, found.role) == ("new", "user")


async def test_an_entry_told_twice_in_one_commit_stays_as_it_was_first(store: Store) -> None:
    await asyncio.gather(
        store.append(step("a", 1, rows=(entry_row("e1", "a", content="first"),))),
        store.append(step("a", 2, rows=(entry_row("e1", "a", content="second"),))),
    )
    assert (await store.entries(["e1"]))["e1"].content == "first"


async def test_two_prunes_in_one_commit_both_take_words(store: Store) -> None:
    rows = tuple(entry_row(name, "a", content=name) for name in ("e1", "e2", "e3"))
    await store.append(step("a", 1, rows=rows))
    await asyncio.gather(
        store.append(step("a", 2, rows=(PrunedRow("a", ("e1", "e2")),))),
        store.append(step("a", 3, rows=(PrunedRow("a", ("e1", "e3")),))),
    )
    found = await store.entries(["e1", "e2", "e3"])
    assert {name: (row.content, row.forgotten) for name, row in found.items()} == dict.fromkeys(found, ("", True))


async def test_a_closed_store_refuses_appends_with_a_reason(store: Store) -> None:
    await store.append(step("a", 1))
    await store.close()
    with pytest.raises(StorageUnavailable, match="closed"):
        await store.append(step("a", 2))


async def test_closing_commits_what_waits(store: Store) -> None:
    waiting = [asyncio.ensure_future(store.append(step(f"s{i}", 1))) for i in range(50)]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*waiting) == [None] * 50


async def test_the_figures_add_up(store: Store) -> None:
    await asyncio.gather(
        store.append(step("a", 1, 3)), store.append(step("b", 2)), store.append(step("c", 1)), return_exceptions=True
    )
    figures = store.figures
    assert (figures.appends, figures.facts, figures.refused, figures.waiting) == (2, 4, 1, 0)
    assert sum(figures.commit_ms.counts) == sum(figures.batch_facts.counts) == figures.commits
    assert figures.commit_ms_max >= figures.commit_ms_last > 0


async def test_a_body_of_any_bytes_in_utf8_is_stored_as_it_is(store: Store) -> None:
    body = '{"seq":1,"message":"\\u0000 \\ud83d\\ude42 ä"}'.encode()
    await store.append(Append("a", 1, (Record(1, 1, 1, "warning", body),)))
    assert (await store.read("a", 0)).bodies == (body,)
