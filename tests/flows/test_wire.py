"""The wire as clients meet it: one reply each, idempotency, resuming, several sockets, modes that last."""

import asyncio
import json
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from tests.child import Child, Frame, facts, of_type, until


@pytest.fixture
async def child(tmp_path: Path) -> AsyncIterator[Child]:
    shutil.copytree(Path("identity"), tmp_path / "identity")
    server = Child(tmp_path / "state", f"AGENTD_IDENTITY__DIR={tmp_path / 'identity'}")
    await server.start()
    yield server
    assert server.process is not None
    if server.process.poll() is None:
        assert await asyncio.to_thread(server.end, signal.SIGTERM) == 0


async def ask(socket: ClientConnection, **frame: Any) -> Frame:
    """The one reply to a request."""
    await socket.send(json.dumps({"id": "q", **frame}))
    return (await until(socket, lambda found: found.get("request") == "q"))[-1]


async def test_the_same_key_is_one_run_and_another_body_a_conflict(child: Child) -> None:
    async with child.connect("keys") as socket:
        said = {"type": "chat.send", "content": "hello", "idempotency_key": "k1"}
        first = await ask(socket, **said)
        await until(socket, of_type("run.completed"))
        again = await ask(socket, **said)
        assert (again["run"], again["repeated"], again["state"]) == (first["run"], True, "completed")
        assert "seq" not in again
        waited = await ask(socket, **said, wait=True)
        assert (waited["type"], waited["run"]) == ("run.result", first["run"])
        other = await ask(socket, **{**said, "content": "other"})
        assert other["code"] == "conflict"
    await asyncio.to_thread(child.end, signal.SIGKILL)
    await child.start()
    async with child.connect("keys") as socket:
        assert (await ask(socket, **said))["run"] == first["run"]


async def test_a_prompt_that_waits_is_answered_at_the_end_and_others_at_once(child: Child) -> None:
    async with child.connect("wait") as socket:
        accepted = await ask(socket, type="chat.send", content="hello")
        assert (accepted["type"], accepted["state"]) == ("run.accepted", "running")
        result = await ask(socket, type="chat.send", content="What is 12 * 7?", wait=True)
        assert result["type"] == "run.result"
        assert "84" in result["content"]
        assert result["state"] == "completed"


async def test_a_client_resumes_from_any_number_without_gap_or_repeat(child: Child) -> None:
    async with child.connect("resume") as socket:
        await socket.send(json.dumps({"type": "chat.send", "content": "/goal a; b; then c"}))
        told = facts(await until(socket, of_type("run.completed")))
        for after in range(len(told) + 1):
            resumed = await ask(socket, type="session.resume", after=after)
            assert (resumed["from"], resumed["to"]) == (after, len(told))
            if after < len(told):
                assert facts(await until(socket, lambda f: f.get("seq") == len(told)))[-1] == without(told[-1])
    for after in range(len(told)):
        async with child.connect("resume", after=after) as socket:
            again = facts(await until(socket, lambda f: f["type"] != "session.ack" and f.get("seq") == len(told)))
            assert again == [without(fact) for fact in told[after:]]
    async with child.connect("resume", after=1_000_000) as socket:
        ack = (await until(socket, of_type("session.ack")))[-1]
        assert ack["reset"] == "ahead"
        assert facts(await until(socket, of_type("session.created")))[0]["seq"] == 1


def without(fact: Frame) -> Frame:
    return {name: value for name, value in fact.items() if name != "request"}


async def test_two_sockets_hear_the_same_and_only_the_asker_is_answered(child: Child) -> None:
    async with child.connect("two") as one, child.connect("two") as other:
        await other.recv()
        await one.send(json.dumps({"type": "agent.control", "action": "goal", "goal": "a; b", "id": "same"}))
        mine = facts(await until(one, of_type("run.completed")))
        theirs = facts(await until(other, of_type("run.completed")))
        assert [without(fact) for fact in mine] == theirs
        assert [fact["type"] for fact in mine if "request" in fact] == ["run.accepted"]


async def test_a_pause_lasts_over_a_kill_and_what_was_held_goes_on(child: Child) -> None:
    async with child.connect("pause") as socket:
        state = await ask(socket, type="agent.control", action="pause")
        assert state["mode"] == "paused"
        held = await ask(socket, type="chat.send", content="hello")
        assert (held["state"], held["held"]) == ("queued", "paused")
    await asyncio.to_thread(child.end, signal.SIGKILL)
    await child.start()
    async with child.connect("pause") as socket:
        ack = (await until(socket, of_type("session.ack")))[-1]
        assert (ack["mode"], ack["restored"]) == ("paused", True)
        assert (await until(socket, of_type("agent.progress")))[-1]["status"] == "backpressure_resumed"
        beat = await ask(socket, type="agent.heartbeat")
        assert beat["status"] == "blocked"
        action = beat["suggestions"][0]["action"]
        await socket.send(json.dumps(action))
        assert (await until(socket, of_type("run.completed")))[-1]["run"] == held["run"]


async def test_cancel_is_answered_with_truthful_counts_and_nothing_starts_after(child: Child) -> None:
    async with child.connect("cancel") as socket:
        await ask(socket, type="chat.send", content="[[pace_ms=50]] [[chunks=100]] long")
        await ask(socket, type="chat.send", content="next")
        done = await ask(socket, type="agent.control", action="cancel")
        counts = [done[name] for name in ("queued_cancelled", "active_cancelled", "still_running")]
        assert counts == [1, 1, 0]
        state = await ask(socket, type="agent.control", action="state")
        assert state["runs"] == []
        nothing = await ask(socket, type="agent.control", action="cancel")
        assert [nothing[name] for name in ("queued_cancelled", "active_cancelled", "still_running")] == [0, 0, 0]


async def test_a_fresh_epoch_is_what_a_reconnect_finds(child: Child) -> None:
    async with child.connect("epoch") as socket:
        await ask(socket, type="chat.send", content="my name is Ada", wait=True)
        assert (await ask(socket, type="session.new"))["epoch"] == 1
    async with child.connect("epoch") as socket:
        history = await ask(socket, type="session.history")
        assert (history["entries"], history["leaf"]) == ([], None)


async def test_an_edited_identity_counts_from_the_next_turn(child: Child, tmp_path: Path) -> None:
    async with child.connect("who") as socket:
        await ask(socket, type="chat.send", content="hello", wait=True)
        before = await ask(socket, type="identity.get")
        soul = tmp_path / "identity" / "SOUL.md"
        soul.write_text("# Rules\nBe brief.\n# VOICE\nDry.\n")
        (tmp_path / "identity" / "USER.md").write_text("## voice\nWarm.\n")
        await socket.send(json.dumps({"type": "chat.send", "content": "again"}))
        started = (await until(socket, of_type("run.started")))[-1]
        report = await ask(socket, type="identity.get")
        assert started["identity"] == report["hash"] != before["hash"]
        user = next(layer for layer in report["layers"] if layer["name"] == "USER")
        assert user["shadowed"] == [{"heading": "voice", "by": "SOUL"}]


async def test_a_damaged_database_is_put_aside_and_told(child: Child) -> None:
    async with child.connect("kept") as socket:
        await ask(socket, type="chat.send", content="remember this", wait=True)
        told = (await until(socket, of_type("agent.state")))[0]
        assert told["session"] == "kept"
    await asyncio.to_thread(child.end, signal.SIGTERM)
    with (child.state / "agentd.db").open("r+b") as file:
        file.write(b"damaged" * 20)
    await child.start()
    async with child.connect("kept", after=0) as socket:
        frames = await until(socket, of_type("run.completed"))
        assert any(notice["code"] == "quarantined" for notice in frames[0]["warnings"])
        assert [fact["seq"] for fact in facts(frames)] == list(range(1, len(facts(frames)) + 1))
        assert (await ask(socket, type="chat.send", content="still there?", wait=True))["state"] == "completed"
