"""Forgetting that was cut off: the words go all the same, by the note that was stored with the fact (rulings 30)."""

import asyncio
import dataclasses
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agentd.actors import ahead, forgetting, memory_manager
from agentd.actors.ahead import path_to
from agentd.actors.directory import Directory
from agentd.actors.forgetting import finish, forget
from agentd.actors.memory_manager import MemoryManager
from agentd.actors.seat import Seat
from agentd.core import intents as i
from agentd.protocol import facts as f
from agentd.protocol.errors import StorageUnavailable
from agentd.store.backup import Backups
from agentd.store.sqlite import SqliteStore
from tests.actors.rig import BY, Rig
from tests.actors.rig import said as words
from tests.store.making import opened

SECRET = "xylophonic"


@asynccontextmanager
async def server(path: Path) -> AsyncIterator[Rig]:
    """Actors over a store on the disk."""
    async with opened(path) as store:
        rig = Rig(lambda request: "an answer", offline=True)
        await rig.store.close()
        rig.store = store  # type: ignore[assignment]
        rig.shared = dataclasses.replace(rig.shared, store=store)
        rig.directory = Directory(rig.shared)
        rig.memory = MemoryManager(rig.shared, rig.directory)
        try:
            yield rig
        finally:
            await store.close()
            await rig.supervisor.stop(5)
            assert not rig.fatal


async def say(rig: Rig, seat: Seat, *texts: str) -> str:
    for text in texts:
        run = await rig.start(seat, text)
        await rig.ended(seat, run)
    return run


async def said(rig: Rig) -> tuple[Seat, str]:
    """A conversation with a secret in its second turn, and a branch of it; the secret's entry."""
    seat = await rig.session()
    await say(rig, seat, "hello")
    entry = f"{await say(rig, seat, f'my word is {SECRET}')}.u"
    await say(rig, seat, "and on")
    leaf = seat.state.leaf
    assert leaf is not None
    path = await path_to(rig.shared, leaf)
    branch = await rig.session("branch")
    (await branch.awake()).know(leaf, path)
    await rig.tell(
        branch, i.BeginBranch(by=BY, origin=seat.key, leaf=leaf, window=path.window, summaries=path.summaries)
    )
    while await rig.shared.store.index():
        pass
    return seat, entry


async def ask(rig: Rig, seat: Seat, entry: str) -> Any:
    return await forget(rig.shared, rig.directory, seat.state, (entry,), BY)


def in_files(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir() if SECRET.encode() in file.read_bytes()]


class Cut(Exception):
    """The process ended here."""


def cut(*args: Any, **more: Any) -> Any:
    raise Cut


async def cut_at_the_branch(directory: Directory, key: str, intent: i.ForgetMemory) -> Any:
    return cut() if key == "branch" else await TOLD(directory, key, intent)


TOLD = forgetting._told
CUTS = {
    "before it is told everywhere": (forgetting, "_told", cut_at_the_branch),
    "before the disk": (SqliteStore, "blank", cut),
    "in the middle of the facts": (forgetting, "blanked", cut),
    "before the purge": (SqliteStore, "purge", cut),
}


@pytest.mark.parametrize("where", CUTS)
async def test_what_was_cut_off_is_done_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    async with server(tmp_path / "agentd.db") as rig:
        seat, entry = await said(rig)
        with monkeypatch.context() as patch:
            patch.setattr(*CUTS[where])
            with pytest.raises(Cut):
                await ask(rig, seat, entry)
        assert await rig.shared.store.query(seat.key, topic=SECRET) == [], "nothing finds it from the fact on"
    assert in_files(tmp_path) == ["agentd.db"]
    async with server(tmp_path / "agentd.db") as rig:
        await finish(rig.shared, rig.directory, memory_manager.BY)
        assert await rig.shared.store.forgetting() == []
        assert in_files(tmp_path) == []
        for key in ("s", "branch"):
            assert any(isinstance(one, f.MemoryEvent) and one.event == "forget" for one in await facts(rig, key))
        before = await facts(rig, "s")
        await finish(rig.shared, rig.directory, memory_manager.BY)
        assert await facts(rig, "s") == before, "it is done once"


async def test_a_backup_made_in_between_is_cleaned_by_the_server_that_restores_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with server(tmp_path / "agentd.db") as rig:
        seat, entry = await said(rig)
        with monkeypatch.context() as patch:
            patch.setattr(SqliteStore, "blank", cut)
            with pytest.raises(Cut):
                await ask(rig, seat, entry)
        made = await Backups(tmp_path / "agentd.db", rig.clock).make()
        before = await facts(rig, "s")
    restored = tmp_path / "restored"
    restored.mkdir()
    shutil.copy(made.path, restored / "agentd.db")
    assert in_files(restored) == ["agentd.db"]
    async with server(restored / "agentd.db") as rig:
        await finish(rig.shared, rig.directory, memory_manager.BY)
        assert in_files(restored) == []
        assert [fact.seq for fact in (await facts(rig, "s"))[: len(before)]] == [fact.seq for fact in before]


async def facts(rig: Rig, key: str) -> list[f.AnyFact]:
    return await rig.facts(await rig.session(key))


async def test_what_a_reader_kept_from_being_purged_is_purged_later(tmp_path: Path) -> None:
    async with server(tmp_path / "agentd.db") as rig:
        seat, entry = await said(rig)
        store = rig.shared.store
        assert isinstance(store, SqliteStore)
        reading, go = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def hold(connection: Any) -> None:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM events").fetchone()
            loop.call_soon_threadsafe(reading.set)
            asyncio.run_coroutine_threadsafe(go.wait(), loop).result(10)
            connection.execute("ROLLBACK")

        holding = asyncio.ensure_future(store._read(hold))
        await reading.wait()
        done = await ask(rig, seat, entry)
        assert done.purged is False
        assert [row.blanked for row in await store.forgetting()] == [True, True]
        go.set()
        await holding
        count = len(await rig.facts(seat))
        await finish(rig.shared, rig.directory, memory_manager.BY)
        assert await store.forgetting() == []
        assert in_files(tmp_path) == []
        assert len(await rig.facts(seat)) == count, "nothing has to be said again"


async def full(*args: Any, **more: Any) -> Any:
    raise StorageUnavailable("the disk is full")


async def test_a_session_that_can_t_be_told_does_not_keep_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with server(tmp_path / "agentd.db") as rig:
        for key in ("a", "b"):
            seat = await rig.session(key)
            entry = f"{await say(rig, seat, f'{SECRET} of {key}')}.u"
            with monkeypatch.context() as patch:
                patch.setattr(rig.shared.store, "blank", full)
                with pytest.raises(StorageUnavailable):
                    await ask(rig, seat, entry)

        async def but_a(directory: Directory, key: str, intent: i.ForgetMemory) -> Any:
            if key == "a":
                raise StorageUnavailable("not now")
            return await TOLD(directory, key, intent)

        with monkeypatch.context() as patch:
            patch.setattr(forgetting, "_told", but_a)
            await finish(rig.shared, rig.directory, memory_manager.BY)
        assert {row.session for row in await rig.shared.store.forgetting()} == {"a"}
        await finish(rig.shared, rig.directory, memory_manager.BY)
        assert await rig.shared.store.forgetting() == []


async def test_every_summary_that_holds_an_entry_goes_however_many_others_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "SUMMARIES_AT_ONCE", 4)
    async with server(tmp_path / "agentd.db") as rig:
        seat = await rig.session()
        turns = [await say(rig, seat, f"{SECRET} of turn {number}") for number in range(13)]
        for number, run in enumerate(turns[:-1]):
            ids = (f"{run}.u", f"{run}.a1")
            await rig.tell(
                seat, i.SummarizeMemory(by=BY, ids=ids, summary=f"sum{number}", content=f"{SECRET} {number}")
            )
        asked = []
        query = rig.shared.store.query

        async def counted(session: str, **more: Any) -> Any:
            asked.append(more)
            return await query(session, **more)

        monkeypatch.setattr(rig.shared.store, "query", counted)
        await ask(rig, seat, f"{turns[1]}.a1")
        rows = await rig.shared.store.entries([f"sum{number}" for number in range(12)])
        assert [name for name, row in sorted(rows.items()) if row.forgotten] == ["sum1"]
        assert len(asked) < 20, "what can't hold it is told by numbers"


async def test_a_run_that_waits_with_its_path_read_tells_the_model_nothing_of_what_was_forgotten(
    tmp_path: Path,
) -> None:
    async with server(tmp_path / "agentd.db") as rig:
        seat = await rig.session()
        first = await say(rig, seat, "hello")
        entry = f"{await say(rig, seat, f'my word is {SECRET}')}.u"
        leaf = f"{await say(rig, seat, 'and on')}.a1"
        await rig.tell(seat, i.SetLeaf(by=BY, leaf=f"{first}.a1"))
        await rig.tell(seat, i.SetMode(by=BY, mode="paused"))
        run = rig.clock.new_id("run")
        await rig.tell(seat, i.StartRun(by=BY, run=run, kind="chat", content="what now?", leaf_id=leaf))
        await ask(rig, seat, entry)
        await rig.tell(seat, i.SetMode(by=BY, mode="running"))
        await rig.ended(seat, run)
        told = words(rig.model.for_("answer")[-1])
        assert "and on" in told
        assert SECRET not in told


async def test_a_summary_goes_from_every_session_that_holds_it_whoever_made_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A branch summarises what it shares; the session that it left takes that summary when it goes on from there."""
    monkeypatch.setattr(ahead, "PATH_ENTRIES", 2)
    async with server(tmp_path / "agentd.db") as rig:
        seat = await rig.session()
        first = await say(rig, seat, f"my word is {SECRET}")
        leaf = f"{await say(rig, seat, 'and on')}.a1"
        path = await path_to(rig.shared, leaf)
        window = (
            f.WindowItem(f"{first}.u", "user", "message", 9),
            f.WindowItem(f"{first}.a1", "assistant", "message", 9),
        )
        branch = await rig.session("branch")
        (await branch.awake()).know(leaf, path)
        await rig.tell(
            branch, i.BeginBranch(by=BY, origin="s", leaf=leaf, window=(*window, *path.window), summaries=())
        )
        ids = tuple(item.id for item in window)
        await rig.tell(branch, i.SummarizeMemory(by=BY, ids=ids, summary="sum", content=f"of {SECRET}"))
        await say(rig, seat, "elsewhere")
        await rig.tell(seat, i.SetLeaf(by=BY, leaf=leaf))
        assert [one.id for one in seat.state.summaries] == ["sum"]
        await ask(rig, seat, ids[0])
        for one in (seat, branch):
            assert one.state.summaries == ()
            assert [(gap.first, gap.last) for gap in one.state.gaps] == [ids], "to be made anew"
            await rig.ended(one, await rig.start(one, "what now?"))
            assert SECRET not in words(rig.model.for_("answer")[-1])
        assert in_files(tmp_path) == []


async def test_the_manager_does_it_at_its_start_and_also_while_there_is_much_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory_manager, "SWEEP_S", 0.01)
    rig = Rig(lambda request: "an answer", offline=True)
    seat = await rig.session()
    entry = f"{await say(rig, seat, f'my word is {SECRET}')}.u"
    blank = rig.store.blank
    calls = 0

    async def busy(*args: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        rig.memory._news.set()  # there is always something to do
        if calls < 4:
            raise StorageUnavailable("the disk is full")
        return await blank(*args, **more)

    monkeypatch.setattr(rig.store, "blank", busy)
    with pytest.raises(StorageUnavailable):
        await ask(rig, seat, entry)
    purged = asyncio.Event()

    async def purge() -> bool:
        purged.set()
        return True

    monkeypatch.setattr(rig.store, "purge", purge)
    rig.supervisor.keep("memory", rig.memory.run)
    await asyncio.wait_for(purged.wait(), 10)
    assert calls == 4
    page = await rig.store.read(seat.key, 0)
    assert not any(SECRET.encode() in body for body in page.bodies)
    await rig.end()
