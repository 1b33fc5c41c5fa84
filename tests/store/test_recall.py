"""Long-term memory over each store: what is found, in what order, what a branch shares, what forgetting leaves."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentd.clock import SystemClock
from agentd.store.forgetting import AGED
from agentd.store.fulltext import words_of
from agentd.store.store import EntryRow, Prunable, PrunedRow, Row, Store
from agentd.supervisor import Supervisor
from tests.store.making import entry_row, opened, session_row, snapshot_row, step
from tests.store.memory_store import MemoryStore


@pytest.fixture(params=["sqlite", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "sqlite":
        async with opened(tmp_path / "agentd.db") as sqlite:
            yield sqlite
        return
    supervisor = Supervisor(SystemClock(), lambda reason: None)
    memory = MemoryStore(clock=SystemClock(), supervisor=supervisor)
    yield memory
    await memory.close()
    await supervisor.stop(5)


async def talk(store: Store, session: str, *texts: str, parent: str | None = None, at: int = 1) -> list[str]:
    """A conversation: each text a child of the one before, named by its number from `at` on; the ids."""
    rows: list[EntryRow] = []
    for place, text in enumerate(texts):
        name = f"{session}{at + place}"
        role = "user" if place % 2 == 0 else "assistant"
        rows.append(entry_row(name, session, parent, content=text, role=role, ts=at + place))
        parent = name
    await tell(store, session, session_row(session, leaf=parent), *rows)
    return [row.id for row in rows]


async def tell(store: Store, session: str, *rows: Row) -> None:
    """One more fact, with these rows."""
    loaded = await store.load(session)
    await store.append(step(session, loaded.last + 1 if loaded else 1, rows=rows))


async def found(store: Store, session: str, topic: str | None = None, **more: object) -> list[str]:
    return [one.row.id for one in await store.query(session, topic=topic, **more)]  # type: ignore[arg-type]


@pytest.mark.parametrize("indexed", [True, False])
async def test_rows_with_all_words_come_first_then_those_with_more_of_them(store: Store, indexed: bool) -> None:
    await talk(store, "a", "the harbour at night", "a lighthouse", "harbour and lighthouse", "nothing of the kind")
    if indexed:
        while await store.index(2):
            pass
    assert await found(store, "a", "Harbour lighthouse") == ["a3", "a2", "a1"]
    assert await found(store, "a", "lighthouse", limit=1) == ["a3"], "the newer of equals"
    assert await found(store, "a", "lighthouse", limit=1, offset=1) == ["a2"]


async def test_a_question_covers_what_the_index_has_not_reached(store: Store) -> None:
    await talk(store, "a", "old harbour")
    await store.index()
    await talk(store, "a", "new harbour", at=2)
    assert sorted(await found(store, "a", "harbour")) == ["a1", "a2"]


@pytest.mark.parametrize(
    "topic",
    [
        '"',
        "AND OR NOT NEAR(",
        "a* -b ^c",
        "content:x",
        "nul\0byte",
        "🙂🙂",
        "שלום עולם",
        "(((",
        "x" * 5_000,
        " ",
        "'; --",
    ],
)
async def test_a_topic_of_any_characters_is_a_topic(store: Store, topic: str) -> None:
    await talk(store, "a", "something else", f"it says {topic} here")
    await store.index()
    result = await found(store, "a", topic)
    assert set(result) <= {"a1", "a2"}
    if words_of(topic) and len(topic) < 60:
        assert "a2" in result


async def test_what_nobody_asked_for_is_looked_for_by_telling_words_only(store: Store) -> None:
    await talk(store, "a", *[f"a turn about number {n}" for n in range(20)], "a turn about plums")
    await store.index()
    assert await found(store, "a", "what of the plums in this turn?", rare=3) == ["a21"]
    assert await found(store, "a", "a turn about", rare=3) == []


async def test_words_are_found_without_case_and_marks(store: Store) -> None:
    await talk(store, "a", "Ein Kännchen KAFFEE")
    await store.index()
    assert await found(store, "a", "kannchen kaffee") == ["a1"]


async def test_filters_by_kind_time_epoch_and_id(store: Store) -> None:
    await talk(store, "a", "one", "two", "three")
    summary = entry_row("s1", "a", content="one and two", kind="summary", related="a2", first="a1", ts=9)
    await tell(store, "a", summary, entry_row("b9", "a", content="later", epoch=1, ts=10))
    assert await found(store, "a") == ["b9", "s1", "a3", "a2", "a1"], "without a topic the newest first"
    assert await found(store, "a", kinds=["summary"]) == ["s1"]
    assert await found(store, "a", since=2, until=3) == ["a3", "a2"]
    assert await found(store, "a", epoch=1) == ["b9"]
    assert await found(store, "a", ids=["a1", "b9", "nobody"]) == ["b9", "a1"]
    assert await found(store, "nobody") == []


async def many(store: Store, count: int = 300, *, parent: str | None = None, at: int = 1) -> None:
    """More rows with one word than are ranked at once, all of them in the index."""
    await talk(store, "a", *[f"harbour number {n}" for n in range(at, at + count)], parent=parent, at=at)
    while await store.index(500):
        pass


async def test_an_old_row_that_fits_the_filters_is_not_crowded_out_by_newer_ones_that_do_not(store: Store) -> None:
    await talk(store, "a", "a harbour")
    summary = entry_row("s1", "a", content="harbour, in short", kind="summary", related="a1", first="a1", ts=1)
    await tell(store, "a", summary)
    await many(store, parent="a1", at=2)
    await tell(store, "a", entry_row("late", "a", content="harbour", epoch=1, ts=400))
    assert sorted(await found(store, "a", "harbour", until=3)) == ["a1", "a2", "a3", "s1"]
    assert await found(store, "a", "harbour", kinds=["summary"]) == ["s1"]
    assert await found(store, "a", "harbour", epoch=0, until=1, kinds=["message"]) == ["a1"]
    assert await found(store, "a", "harbour", ids=["a2"]) == ["a2"]
    assert await found(store, "a", "harbour", epoch=1) == ["late"]


async def test_a_path_is_not_crowded_out_by_the_branches_beside_it(store: Store) -> None:
    await talk(store, "a", "harbour one", "harbour two")
    await talk(store, "b", "my harbour", parent="a1")
    await many(store, parent="a1", at=3)
    assert sorted(await found(store, "a", "harbour", leaf="a2", path_only=True)) == ["a1", "a2"]
    assert sorted(await found(store, "b", "harbour", leaf="b1")) == ["a1", "b1"], "nor by the session that it left"
    assert await found(store, "b", leaf="b1") == ["b1", "a1"]
    assert await found(store, "b", leaf="b1", limit=1, offset=1) == ["a1"]


@pytest.mark.parametrize("topic", ["harbour", "harbour lighthouse"])
async def test_pages_neither_repeat_nor_leave_out_a_row(store: Store, topic: str) -> None:
    await many(store)
    await talk(store, "a", *[f"lighthouse {n}" for n in range(150)], "harbour and lighthouse", parent="a300", at=301)
    while await store.index(500):
        pass
    whole = await found(store, "a", topic, limit=1_000)
    assert len(whole) == len(set(whole)) == (301 if topic == "harbour" else 451)
    assert [
        name for offset in range(0, 460, 23) for name in await found(store, "a", topic, limit=23, offset=offset)
    ] == whole
    assert topic == "harbour" or whole[0] == "a451"


async def test_a_branch_sees_its_own_rows_and_the_path_it_shares(store: Store) -> None:
    await talk(store, "a", "one fish", "two fish", "red fish")
    await talk(store, "b", "blue fish", parent="a2")
    await talk(store, "a", "dead fish", parent="a2", at=4)
    await store.index()
    seen = await store.query("b", leaf="b1", topic="fish")
    assert {one.row.id: one.on_path for one in seen} == {"a1": True, "a2": True, "b1": True}
    whole = await store.query("a", leaf="a4", topic="fish")
    assert {one.row.id: one.on_path for one in whole} == {"a1": True, "a2": True, "a3": False, "a4": True}
    assert sorted(await found(store, "a", "fish", leaf="a3", path_only=True)) == ["a1", "a2", "a3"]
    assert [row.id for row in await store.path("b1")] == ["b1", "a2", "a1"]


async def test_a_branch_at_depth_sees_each_part_of_its_path_once_newest_first(store: Store) -> None:
    """Each session branches in the middle of the one before, and each goes on afterwards."""
    parent: str | None = None
    path: list[str] = []
    for key in ("s0", "s1", "s2", "s3", "s4"):
        ids = await talk(store, key, *[f"fish {n} of {key}" for n in range(4)], parent=parent)
        path += ids[:2] if key != "s4" else ids
        parent = ids[1]
    assert await found(store, "s4", leaf="s44") == list(reversed(path))
    assert await found(store, "s4", leaf="s44", path_only=True) == list(reversed(path))
    assert [row.id for row in await store.path("s44")] == list(reversed(path))
    assert sorted(await found(store, "s4", "fish", leaf="s44")) == sorted(path)
    assert await found(store, "s2", leaf="s24") == ["s24", "s23", "s22", "s21", "s12", "s11", "s02", "s01"]
    assert set(await store.sessions_at("s02")) == {"s0", "s1", "s2", "s3", "s4"}
    assert await store.sessions_at("s03") == ["s0"]


async def test_a_branch_keeps_the_memory_that_it_shares_when_it_begins_anew(store: Store) -> None:
    """`session.new` leaves no leaf; the older epoch of a branch begins in the session that it left (S10)."""
    await talk(store, "a", "one fish", "two fish", "red fish")
    await tell(store, "a", entry_row("s", "a", content="fish, in short", kind="summary", related="a2", first="a1"))
    await talk(store, "b", "blue fish", parent="a2")
    await talk(store, "c", "old fish", parent="b1")
    await store.index()
    assert [(one.row.id, one.on_path) for one in await store.query("c")] == [
        ("c1", False), ("b1", False), ("s", False), ("a2", False), ("a1", False),
    ]  # fmt: skip
    assert sorted(await found(store, "c", "fish")) == ["a1", "a2", "b1", "c1", "s"]
    assert await found(store, "c", ids=["a2", "a3"]) == ["a2"], "what came after the branch is another's"
    assert await found(store, "c", "fish", path_only=True) == []
    seen = {one.row.id: one.on_path for one in await store.query("b", leaf="a1", topic="fish")}
    assert seen == {"a1": True, "a2": False, "s": False, "b1": False}


async def test_a_summary_is_on_the_path_when_its_range_is(store: Store) -> None:
    await talk(store, "a", "one", "two", "three")
    await talk(store, "a", "other", parent="a1", at=4)
    await tell(store, "a", entry_row("s", "a", content="sum", kind="summary", related="a2", first="a1"))
    on_path = await store.query("a", leaf="a3", kinds=["summary"], path_only=True)
    assert [one.row.id for one in on_path] == ["s"]
    assert (on_path[0].row.first, on_path[0].row.last) == ("a1", "a2")
    assert not await store.query("a", leaf="a4", kinds=["summary"], path_only=True)


async def test_the_tree_is_told_newest_first_in_pages(store: Store) -> None:
    await talk(store, "a", "one", "two", "three")
    await talk(store, "a", "other", parent="a1", at=4)
    nodes = await store.tree("a", "a4", limit=3)
    assert [(node.id, node.parent) for node in nodes] == [("a4", "a1"), ("a3", "a2"), ("a2", "a1")]
    assert [node.id for node in await store.tree("a", "a4", before="a2")] == ["a1"]
    await talk(store, "b", "mine", parent="a2")
    assert [node.id for node in await store.tree("b", "b1")] == ["b1", "a2", "a1"]


async def test_which_sessions_share_an_entry(store: Store) -> None:
    await talk(store, "a", "one", "two", "three")
    await talk(store, "b", "branch", parent="a2")
    await talk(store, "c", "branch of a branch", parent="b1")
    await tell(store, "d", session_row("d", leaf="a3"))
    assert set(await store.sessions_at("a1")) == {"a", "b", "c", "d"}
    assert set(await store.sessions_at("a3")) == {"a", "d"}
    assert await store.sessions_at("b1") == ["b", "c"]
    assert (await store.sessions_at("a1"))[0] == "a"
    assert await store.sessions_at("nobody") == []


async def test_a_summary_is_held_by_the_branches_that_share_its_range(store: Store) -> None:
    await talk(store, "a", "one", "two", "three")
    await tell(store, "a", entry_row("s", "a", content="sum", kind="summary", related="a2", first="a1"))
    await talk(store, "before", "mine", parent="a1")
    await talk(store, "after", "mine", parent="a3")
    await tell(store, "after", entry_row("t", "after", content="sum", kind="summary", related="a2", first="a1"))
    await talk(store, "further", "mine", parent="after1")
    await tell(store, "silent", session_row("silent", leaf="a2"))
    assert (await store.sessions_at("s"))[0] == "a"
    assert set(await store.sessions_at("s")) == {"a", "after", "further", "silent"}
    assert set(await store.sessions_at("t")) == {"a", "after", "further", "silent"}, "also by the session that it left"


async def test_pruned_entries_keep_their_place_and_lose_their_words(store: Store) -> None:
    await talk(store, "a", "one fish", "two fish", "red fish")
    await store.index()
    assert await store.prunable(keep=1) == Prunable({"a": ["a1", "a2"]}, None)
    assert await store.prunable(before_ms=2) == Prunable({"a": ["a1"]}, None)
    assert await store.prunable() == Prunable({}, None)
    await tell(store, "a", PrunedRow(session="a", ids=("a1",)))
    row = (await store.entries(["a1"]))["a1"]
    assert (row.content, row.forgotten, row.bytes) == ("", True, 8)
    assert sorted(await found(store, "a", "fish")) == ["a2", "a3"]
    assert [one.id for one in await store.path("a3")] == ["a3", "a2", "a1"]


@pytest.mark.parametrize("bound", [{"keep": 3}, {"before_ms": 8}])
async def test_what_retention_may_take_is_told_in_slices_each_once(store: Store, bound: dict[str, Any]) -> None:
    for key in ("a", "b", "c"):
        await talk(store, key, *[f"turn {n}" for n in range(10)])
    told: list[tuple[str, str]] = []
    after = None
    for _ in range(9):
        part = await store.prunable(**bound, limit=4, after=after)
        assert sum(map(len, part.entries.values())) <= 4
        told += [(key, name) for key, names in part.entries.items() for name in names]
        if (after := part.after) is None:
            break
    assert sorted(told) == [(key, f"{key}{n}") for key in ("a", "b", "c") for n in range(1, 8)]
    assert after is None
    if "keep" in bound:
        await tell(store, "a", PrunedRow(session="a", ids=("a1", "a2", "a3")))
        assert (await store.prunable(keep=3)).entries["a"] == ["a4", "a5", "a6", "a7"], "of what still has words"


async def test_what_was_blanked_is_in_no_file(tmp_path: Path) -> None:
    secret = "xylophonic"
    async with opened(tmp_path / "agentd.db") as store:
        for number in range(40):
            await talk(store, "a", f"turn {number}", f"answer {number}", at=2 * number + 1)
        said = entry_row("e1", "a", content=f"the word is {secret}")
        await store.append(step("a", 41, rows=(said,), words=secret, run="r1"))
        await tell(store, "a", snapshot_row("a", 42))
        while await store.index(7):
            pass
        assert await found(store, "a", secret) == ["e1"]
        done = await store.blank(
            ["e1"], ["a"], lambda body: body.replace(secret.encode(), b"") if secret.encode() in body else None,
            runs=["r1"],
        )  # fmt: skip
        assert (done.entries, done.facts) == (1, 1)
        assert await found(store, "a", secret) == []
        assert await store.snapshot("a", 1) is None
        assert await store.purge()
        for file in list(tmp_path.iterdir()):  # noqa: ASYNC240 - the test reads what is on the disk
            assert secret.encode() not in file.read_bytes(), file.name


async def test_a_path_is_a_few_segments_however_long_it_is(tmp_path: Path) -> None:
    async with opened(tmp_path / "agentd.db") as store:
        parent = None
        for number in range(20):
            ids = await talk(store, "a", *[f"t{n}" for n in range(50)], parent=parent, at=50 * number + 1)
            parent = ids[-1]
        await talk(store, "a", "aside", parent="a500", at=1001)
    connection = sqlite3.connect(tmp_path / "agentd.db")
    assert connection.execute("SELECT id, parent, depth FROM segments").fetchall() == [(1, None, 0), (1001, 1, 500)]
    assert connection.execute("SELECT max(depth) FROM entries WHERE segment = 1").fetchone() == (1000,)
    connection.close()


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        ("SELECT body FROM events WHERE session = 1 AND seq > 5 ORDER BY seq LIMIT 9", "events_session_seq"),
        ("SELECT body FROM events WHERE run = 1 AND run_seq > 5 ORDER BY run_seq LIMIT 9", "events_run_seq"),
        ("SELECT run FROM runs WHERE ended > 5 ORDER BY ended", "runs_ended"),
        ("SELECT entry FROM entries WHERE segment = 1 AND depth <= 9 ORDER BY depth DESC LIMIT 5", "entries_place"),
        (
            "SELECT entry FROM entries e WHERE e.session = 1 AND e.forgotten = 0 AND e.ts <= 9 ORDER BY e.id DESC",
            "entries_session",
        ),
        (
            "SELECT entry FROM entries e WHERE e.session = 1 AND e.segment IS NULL AND e.kind = 'summary'"
            " ORDER BY e.id DESC",
            "entries_beside",
        ),
        ("SELECT segment FROM entries e WHERE e.entry IN ('x')", "sqlite_autoindex_entries_1"),
        (AGED.replace("?", "9"), "entries_kept"),
    ],
)
async def test_questions_are_answered_by_an_index(tmp_path: Path, sql: str, index: str) -> None:
    async with opened(tmp_path / "agentd.db") as store:
        await talk(store, "a", "one")
    connection = sqlite3.connect(tmp_path / "agentd.db")
    plan = " ".join(str(row[-1]) for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}"))
    connection.close()
    assert index in plan
    assert "SCAN" not in plan
    assert "TEMP B-TREE" not in plan


async def test_summaries_of_a_path_come_with_their_facts_the_newest_ranges_first(store: Store) -> None:
    await talk(store, "a", *[f"turn {number}" for number in range(6)])
    for name, related in (("s1", "a2"), ("s2", "a4"), ("s3", "a6"), ("s4", "a4")):
        await tell(store, "a", entry_row(name, "a", content=name, kind="summary", related=related, first="a1", seq=2))
    await tell(store, "a", entry_row("p1", "a", content="a plan", kind="plan", related="a4"))
    await talk(store, "b", "mine", parent="a4")
    await tell(store, "b", entry_row("s5", "b", content="s5", kind="summary", related="b1", first="a1", seq=2))
    assert [row.id for row, _ in await store.summaries("a6", 9)] == ["s3", "s4", "s2", "s1"]
    assert [row.id for row, _ in await store.summaries("a5", 9)] == ["s4", "s2", "s1"]
    assert [row.id for row, _ in await store.summaries("b1", 9)] == ["s5", "s4", "s2", "s1"]
    assert [row.id for row, _ in await store.summaries("b1", 2)] == ["s5", "s4"]
    assert await store.summaries("nobody", 9) == []
    page = await store.read("a", 1, 1)
    assert (await store.summaries("a2", 1))[0][1] == page.bodies[0]
    await tell(store, "a", PrunedRow("a", ("s4",)))
    assert [row.id for row, _ in await store.summaries("a4", 9)] == ["s2", "s1"]
