"""Full, read-only and slow disks: nothing acknowledged is lost, clients are told why, it heals by itself."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection

from tests.child import Child, Frame, all_facts, ask, facts, until
from tests.faults.conftest import MAKE, Faulty

TRIES_MAX = 400
TEXT = "word " * 2_000
ANSWER_S = 0.05  # a question, at full load (S16)


async def chat(socket: ClientConnection, content: str = "hello") -> Frame:
    return await ask(socket, type="chat.send", content=content, wait=True)


async def until_refused(socket: ClientConnection) -> Frame:
    """Chat until nothing is taken any more; the refusal."""
    for _ in range(TRIES_MAX):
        reply = await ask(socket, type="chat.send", content=TEXT)
        if reply["type"] == "error":
            return reply
        await until(socket, lambda frame: frame["type"] in ("run.completed", "agent.state") or "cause" in frame)
    raise AssertionError("the disk did not fill up")


async def refused_then_healed(
    server: Child, fill: Callable[[], Awaitable[None]], make_room: Callable[[], Awaitable[None]]
) -> None:
    """The story of every full disk. The session has one run in doubt when the disk fills up in the middle of it."""
    async with server.connect("full") as socket, server.connect("full") as watcher:
        heard: list[Frame] = []

        async def watch() -> None:
            async for text in watcher:
                heard.append(json.loads(text))

        watching = asyncio.ensure_future(watch())
        assert (await chat(socket, "before"))["state"] == "completed"
        await fill()
        error = await until_refused(socket)
        assert (error["code"], error["retryable"]) == ("storage_unavailable", True)
        assert "the disk is full" in error["message"]
        assert error["hint"] == "free space where the state directory lies; nothing has to be restarted"
        state = await ask(socket, type="agent.control", action="state")
        assert state["type"] == "agent.state"
        again = await ask(socket, type="chat.send", content=TEXT)
        assert again["code"] == "storage_unavailable"
        await make_room()
        async with asyncio.timeout(20):
            while (await chat(socket, "after")).get("state") != "completed":
                pass
        last = (await ask(socket, type="session.resume", after=0))["to"]
        async with asyncio.timeout(10):
            while not heard or max(frame["seq"] for frame in facts(heard)) < last:  # noqa: ASYNC110
                await asyncio.sleep(0)
        await watcher.close()
        await watching
    stored = await all_facts(server, "full")
    assert facts(heard)[: len(stored)] == stored[: len(facts(heard))], "only what is stored was ever sent"
    assert [fact["seq"] for fact in stored] == list(range(1, len(stored) + 1))
    ends = [fact["run"] for fact in stored if fact["type"] in ("run.completed", "run.failed", "run.cancelled")]
    begun = [fact["run"] for fact in stored if fact["type"] == "run.accepted"]
    assert sorted(ends) == sorted(begun), "no run was left without its one end"


async def test_a_database_that_may_not_grow_is_a_full_disk(make: MAKE) -> None:
    server = make()
    await server.start()

    async def fill() -> None:
        server.wrong(max_pages=120)

    async def make_room() -> None:
        server.wrong(max_pages=0)

    await refused_then_healed(server, fill, make_room)


async def test_a_disk_that_is_full_refuses_work_and_heals_when_there_is_room(make: MAKE, small_disk: Path) -> None:
    """A real file system without room, filled up by something else; then the server is killed."""
    server = make(state=small_disk / "state")
    await server.start()
    ballast = small_disk / "ballast"

    async def fill() -> None:
        await asyncio.to_thread(fill_up, ballast)

    async def make_room() -> None:
        await asyncio.to_thread(ballast.unlink)

    await refused_then_healed(server, fill, make_room)
    before = await all_facts(server, "full")
    server.kill()
    await server.start()
    assert (await all_facts(server, "full"))[: len(before)] == before


async def test_a_start_on_a_full_disk_says_so_and_loses_nothing(make: MAKE, small_disk: Path) -> None:
    server = make(state=small_disk / "state")
    await server.start()
    async with server.connect("full") as socket:
        await chat(socket)
    before = await all_facts(server, "full")
    assert await asyncio.to_thread(server.end, signal.SIGTERM) == 0
    ballast = small_disk / "ballast"
    await asyncio.to_thread(fill_up, ballast)
    code, said = await asyncio.to_thread(refused_start, server)
    assert code == 1
    assert "the disk is full" in said
    assert "hint: free space" in said
    assert "Traceback" not in said
    ballast.unlink()
    await server.start()
    assert (await all_facts(server, "full"))[: len(before)] == before


async def test_a_disk_that_turns_read_only_refuses_work_and_heals(make: MAKE) -> None:
    server = make()
    await server.start()
    async with server.connect("ro") as socket:
        assert (await chat(socket))["state"] == "completed"
        server.wrong(read_only=True)
        error = await ask(socket, type="chat.send", content="hello")
        assert (error["code"], error["retryable"]) == ("storage_unavailable", True)
        assert "the database is read-only" in error["message"]
        assert (await ask(socket, type="session.history"))["entries"]
        server.wrong()
        assert (await chat(socket, "again"))["state"] == "completed"
    told = await all_facts(server, "ro")
    assert [fact["seq"] for fact in told] == list(range(1, len(told) + 1))


async def test_a_start_on_a_read_only_disk_is_one_sentence(make: MAKE, small_disk: Path) -> None:
    server = make(state=small_disk / "state")
    await server.start()
    assert await asyncio.to_thread(server.end, signal.SIGTERM) == 0
    await asyncio.to_thread(remount, small_disk, "ro")
    code, said = await asyncio.to_thread(refused_start, server)
    await asyncio.to_thread(remount, small_disk, "rw")
    assert code == 1
    assert said.startswith("error: ")
    assert "hint: " in said
    assert "Traceback" not in said


async def test_a_slow_disk_slows_work_and_nothing_else(make: MAKE) -> None:
    """Each commit takes 0.3 s: questions are answered at once, commands in order, many sessions share the commits."""
    server = make(commit_s=0.3)
    await server.start()

    async def talk(number: int) -> Frame:
        async with server.connect(f"slow{number}") as socket:
            return await chat(socket)

    async with server.connect("asker") as socket:
        began = time.monotonic()
        talks = [asyncio.ensure_future(talk(number)) for number in range(40)]
        waits = []
        while not all(each.done() for each in talks):
            asked = time.monotonic()
            assert (await ask(socket, type="agent.control", action="state"))["type"] == "agent.state"
            waits.append(time.monotonic() - asked)
            await asyncio.wait(talks, timeout=0.02)
        took_s = time.monotonic() - began
    assert all(each.result()["state"] == "completed" for each in talks)
    assert took_s < 40 * 2 * 0.3 / 3, "commits are shared"
    assert len(waits) > 10
    assert sorted(waits)[len(waits) * 9 // 10] < ANSWER_S


@pytest.mark.parametrize("setting", ["synchronous", "journal_mode"])
async def test_a_database_that_does_not_take_a_setting_of_durability_is_refused_at_the_start(
    make: MAKE, setting: str
) -> None:
    server = make(**{setting: "delete" if setting == "journal_mode" else 1})
    code, said = await asyncio.to_thread(refused_start, server)
    assert code == 1
    assert f"the database refuses {setting}" in said
    assert "Traceback" not in said


async def test_nobody_can_switch_the_settings_of_a_database_that_is_served(make: MAKE) -> None:
    """And what another program did to a file at rest is put right by the next start."""
    server = make()
    await server.start()
    database = server.state / "agentd.db"
    command = ["-c", "import sqlite3,sys; print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])"]

    def pragma(text: str) -> str:
        python = [sys.executable, *command, str(database), text]
        done = subprocess.run(python, capture_output=True, text=True, check=False)
        return (done.stdout or done.stderr).strip()

    said = await asyncio.to_thread(pragma, "PRAGMA journal_mode = delete")
    assert said.endswith("database is locked") or said == "wal"
    async with server.connect("mode") as socket:
        assert (await chat(socket))["state"] == "completed"
    assert await asyncio.to_thread(server.end, signal.SIGTERM) == 0
    assert await asyncio.to_thread(pragma, "PRAGMA journal_mode = delete") == "delete"
    await server.start()
    assert await asyncio.to_thread(pragma, "PRAGMA journal_mode") == "wal"


def fill_up(ballast: Path) -> None:
    """Take every byte that is left."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 512):
                pass
        except OSError:
            return


def remount(place: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(place)], check=True)


def refused_start(server: Faulty) -> tuple[int, str]:
    """Exit code and what stands on stderr."""
    done = subprocess.run(server.command(), env=server.env, capture_output=True, text=True, timeout=20, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("content", ["hello", "/goal a; b; then c"])
async def test_a_run_that_is_begun_and_cancelled_in_one_step_ends(make: MAKE, content: str) -> None:
    """Both commands waited for the same commit, so its attempt was cancelled before anybody worked at it."""
    server = make(commit_s=0.2)
    await server.start()
    async with server.connect("both") as socket:
        await socket.send('{"type": "session.new", "id": "n"}')
        await socket.send(json.dumps({"type": "chat.send", "id": "c", "content": content}))
        await socket.send('{"type": "agent.control", "id": "x", "action": "cancel"}')
        done = (await until(socket, lambda frame: frame.get("request") == "x"))[-1]
        assert (done["type"], done["still_running"]) == ("control.done", 0)
        assert (await ask(socket, type="agent.control", action="state"))["runs"] == []
    ends = [fact["type"] for fact in await all_facts(server, "both") if fact["type"].startswith("run.ca")]
    assert ends == ["run.cancelling", "run.cancelled"] or ends == ["run.cancelled"]
