"""The rows of a session made anew from its facts: as they were, with its branches, and never less than was saved."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from agentd.clock import SystemClock
from agentd.core import intents as i
from agentd.core.forgetting import Gone, blanked
from agentd.core.session import decide
from agentd.core.state import Session
from agentd.protocol import facts as f
from agentd.protocol.codec import encode
from agentd.protocol.errors import StorageUnavailable
from agentd.store import check
from agentd.store.check import full_check
from agentd.store.opening import prepare
from agentd.store.rebuild import rebuild
from agentd.store.sqlite import SqliteStore
from agentd.store.store import Append, Record, SnapshotRow
from agentd.store.views import rows_of
from tests.store.making import opened, session_row
from tests.store.test_recall import talk as say
from tests.store.test_recall import tell

BY = f.By(principal="local", via="ws")


class Talk:
    """A session whose facts and rows go to a store as its actor would write them."""

    def __init__(self, store: SqliteStore, key: str) -> None:
        self.store = store
        self.state = Session(key=key, agent="default", owner="local")
        self.turns = 0

    async def tell(self, intent: i.AnyIntent) -> None:
        before = self.state
        decision = decide(before, intent, i.Given(now=1_000 + before.seq, models=4))
        first = before.seq + 1
        records = tuple(
            Record(one.seq, first, one.ts, str(one.__struct_config__.tag), encode(one), one.run, one.run_seq)
            for one in decision.facts
        )
        rows = tuple(rows_of(before, decision.facts, decision.state, None))
        self.state = decision.state
        await self.store.append(Append(self.state.key, 1, records, rows))

    async def turn(self, said: str) -> str:
        self.turns += 1
        run = f"{self.state.key}r{self.turns}"
        await self.tell(i.StartRun(by=BY, run=run, kind="chat", content=said))
        await self.tell(
            i.AttemptEnded(
                by=BY, run=run, task="answer", attempt=1, outcome="done", result=f"re {said}", message_id=f"{run}.m"
            )
        )
        assert self.state.leaf is not None
        return self.state.leaf


def edit(path: Path, sql: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(sql)
    connection.close()


def salvaged(path: Path) -> None:
    """Let the next start build a new file from this one, and hold every row of it for doubtful."""
    edit(path, "DROP INDEX events_session_seq")
    assert prepare(path, SystemClock()).quarantined


def remade(path: Path, *keys: str) -> list[bool]:
    """`rebuild` over these sessions of a closed file, as a salvage does it."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    done = [rebuild(connection, key) for key in keys]
    connection.execute("COMMIT")
    connection.close()
    return done


async def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "agentd.db"
    async with opened(path) as store:
        talk = Talk(store, "a")
        for number in range(3):
            await talk.turn(f"turn {number}")
        before = await store.query("a")
    edit(path, "DELETE FROM entries")
    edit(path, "UPDATE sessions SET unfinished = 3, leaf = NULL")
    assert remade(path, "a") == [True]
    async with opened(path) as store:
        assert await store.query("a") == before
        assert await store.unfinished() == []
        loaded = await store.load("a")
        assert loaded is not None
        assert loaded.row.leaf == talk.state.leaf


async def test_all_that_was_pruned_stays_pruned(tmp_path: Path) -> None:
    path = tmp_path / "agentd.db"
    async with opened(path) as store:
        talk = Talk(store, "a")
        for number in range(3):
            await talk.turn(f"turn {number}")
        await talk.tell(i.NewEpoch(by=BY))
        await talk.tell(i.Prune(by=BY, ids=("ar1.u",)))
        await talk.tell(i.Prune(by=BY, ids=("ar2.u",)))
        before = await store.entries(["ar1.u", "ar2.u", "ar3.u"])
        assert {name for name, row in before.items() if row.forgotten} == {"ar1.u", "ar2.u"}
    salvaged(path)
    async with opened(path) as store:
        assert await store.entries(["ar1.u", "ar2.u", "ar3.u"]) == before
        await store.index()
        assert [one.row.id for one in await store.query("a", topic="turn") if one.row.role == "user"] == ["ar3.u"]


async def test_what_the_facts_do_not_tell_any_more_stays_as_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "agentd.db"
    async with opened(path) as store:
        talk = Talk(store, "a")
        await talk.turn("early")
        cut = talk.state.seq
        await store.keep_snapshot(SnapshotRow("a", cut, 1, 1, encode(talk.state)))
        await talk.turn("late")
        before = [(one.row.id, one.row.content, one.on_path) for one in await store.query("a", leaf=talk.state.leaf)]
    edit(path, f"DELETE FROM events WHERE seq <= {cut}")
    assert remade(path, "a") == [False]
    salvaged(path)
    async with opened(path) as store:
        found = await store.query("a", leaf=talk.state.leaf)
        assert [(one.row.id, one.row.content, one.on_path) for one in found] == before
        assert await store.unfinished() == ["a"], "recovery looks at it"
        loaded = await store.load("a")
        assert loaded is not None
        assert (loaded.row.owner, loaded.row.leaf, loaded.first) == ("local", talk.state.leaf, cut + 1)


async def branched(store: SqliteStore) -> None:
    """Session `a` goes on while `b` branches from its first turn, `c` from `b`; `d` branched and said nothing."""
    talk = Talk(store, "a")
    leaf = await talk.turn("one")
    await talk.turn("two")
    await say(store, "b", "mine", "ours", parent=leaf)
    await say(store, "c", "deeper", parent="b1")
    await tell(store, "d", session_row("d", leaf=leaf))
    await talk.turn("three")


async def test_a_salvage_keeps_the_history_that_branches_share_and_its_order(tmp_path: Path) -> None:
    path = tmp_path / "agentd.db"
    async with opened(path) as store:
        await branched(store)
        before = await told_of(store)
        assert [len(one) for one in before] == [6, 4, 4, 2, 4, 6]
    salvaged(path)
    async with opened(path) as store:
        assert await told_of(store) == before


async def test_a_salvage_puts_entries_that_were_lost_back_in_their_places(tmp_path: Path) -> None:
    path = tmp_path / "agentd.db"
    async with opened(path) as store:
        await branched(store)
        before = await told_of(store)
    edit(path, "DELETE FROM entries WHERE entry IN ('ar1.u', 'ar1.a1', 'ar2.u')")
    salvaged(path)
    async with opened(path) as store:
        assert await told_of(store) == before


async def told_of(store: SqliteStore) -> list[Sequence[object]]:
    """What each session finds, and which sessions hold the entry that they share."""
    leaves = {"a": "ar3.a1", "b": "b2", "c": "c1", "d": "ar1.a1"}
    told: list[Sequence[object]] = []
    for key, leaf in leaves.items():
        told.append([(one.row.id, one.on_path) for one in await store.query(key, leaf=leaf)])
    return [*told, await store.sessions_at("ar1.a1"), [row.id for row in await store.path("ar3.a1")]]


async def test_what_was_forgotten_is_in_no_salvaged_file(tmp_path: Path) -> None:
    path, secret = tmp_path / "agentd.db", "xylophonic"
    async with opened(path) as store:
        talk = Talk(store, "a")
        await talk.turn(f"the word is {secret}")
        await talk.turn("another turn")
        await talk.tell(i.ForgetMemory(by=BY, ids=("ar1.u", "ar1.a1"), summaries=()))
        gone = Gone(frozenset({"ar1.u", "ar1.a1"}))
        await store.blank(sorted(gone.ids), ["a"], lambda body: blanked(body, gone), runs=["ar1"])
        assert await store.purge()
        before = await store.entries(["ar1.u", "ar1.a1", "ar2.u"])
        assert (before["ar1.u"].forgotten, before["ar1.u"].bytes) == (True, len(f"the word is {secret}"))
    salvaged(path)
    assert secret.encode() not in path.read_bytes()
    async with opened(path) as store:
        assert await store.entries(["ar1.u", "ar1.a1", "ar2.u"]) == before
    edit(path, "DELETE FROM entries")  # then the facts alone say what was forgotten
    salvaged(path)
    async with opened(path) as store:
        assert await store.entries(["ar1.u", "ar1.a1", "ar2.u"]) == before


async def test_a_salvage_brings_no_words_back_that_were_being_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "agentd.db"
    async with opened(path) as store:
        talk = Talk(store, "a")
        await talk.turn("the word is xylophonic")
        await talk.turn("another turn")
        await talk.tell(i.ForgetMemory(by=BY, ids=("ar1.u", "ar1.a1"), summaries=()))
    salvaged(path)
    async with opened(path) as store:
        assert await store.query("a", topic="xylophonic") == []
        assert (await store.entries(["ar1.u"]))["ar1.u"].content == ""


@pytest.mark.parametrize("large", [False, True])
async def test_a_row_that_is_no_text_is_damage_that_quotes_nothing_and_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    path = tmp_path / "agentd.db"
    async with opened(path) as store:
        await Talk(store, "a").turn("the word is xylophonic")
        before = await store.query("a")
    edit(path, "UPDATE entries SET content = CAST(CAST(content AS BLOB) || x'ff' AS TEXT) WHERE entry = 'ar1.u'")
    assert [finding.health for finding in full_check(path)] == ["error"]
    if large:  # too large to be read as a whole at each start: a reader meets it, and the next start reads it
        monkeypatch.setattr(check, "READ_WHOLE_BYTES", 0)
        async with opened(path) as store:
            assert store.opening.quarantined is None
            with pytest.raises(StorageUnavailable) as caught:
                await store.query("a")
            assert "xylophonic" not in f"{caught.value.message} {caught.value.hint}"
    async with opened(path) as store:
        assert store.opening.quarantined
        assert "xylophonic" not in " ".join(store.opening.notes)
        assert await store.query("a") == before


async def test_a_fact_that_is_no_text_costs_its_session_what_came_after_and_the_others_nothing(tmp_path: Path) -> None:
    path = tmp_path / "agentd.db"
    async with opened(path) as store:
        for key in ("a", "b"):
            talk = Talk(store, key)
            await talk.turn(f"words of {key}")
            await talk.turn("second")
        before = {key: await store.query(key) for key in ("a", "b")}
    connection = sqlite3.connect(path, isolation_level=None)
    number, body = connection.execute(
        "SELECT id, body FROM events WHERE instr(body, 'second') ORDER BY id LIMIT 1"
    ).fetchone()
    connection.execute("UPDATE events SET body = ? WHERE id = ?", (body.replace(b"second", b"s\xffcond"), number))
    connection.close()
    salvaged(path)
    async with opened(path) as store:
        assert await store.query("b") == before["b"]
        assert [one.row for one in await store.query("a")] == [one.row for one in before["a"][2:]]
        assert (await store.load("a")) is not None
        assert await store.unfinished() == []
