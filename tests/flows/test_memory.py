"""Memory over the wire: compaction, recall, leaves, branches, forgetting, epochs, rest (S5-S8, S10; rulings 29-35)."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from tests.child import Child, Frame, all_facts, ask, facts, of_type, until


@pytest.fixture
async def child(tmp_path: Path) -> AsyncIterator[Child]:
    server = Child(
        tmp_path / "state", "AGENTD_LIMITS__RAM_ENTRIES=12", "AGENTD_MEMORY__REST_S=0.05",
        "AGENTD_HEARTBEAT__INTERVAL_S=0.5",
    )  # fmt: skip
    await server.start()
    yield server
    await asyncio.to_thread(server.kill)


async def say(socket: ClientConnection, *texts: str, **more: Any) -> list[Frame]:
    """Each turn to its end; the facts that were told."""
    told: list[Frame] = []
    for text in texts:
        await socket.send(json.dumps({"type": "chat.send", "content": text, **more}))
        told += facts(await until(socket, lambda frame: frame["type"] in ("run.completed", "run.failed", "error")))
        assert told[-1]["type"] == "run.completed"
    return told


async def summarised(socket: ClientConnection, told: list[Frame]) -> Frame:
    """The first summary that was told, or is told next."""
    for fact in told:
        if fact["type"] == "memory.event" and fact["event"] == "summarize":
            return fact
    return (await until(socket, lambda frame: frame.get("event") == "summarize"))[-1]


def entries(told: list[Frame]) -> list[str]:
    return [fact["entry"] for fact in told if fact["type"] in ("run.started", "session.receive")]


async def test_a_fact_of_an_early_turn_is_recalled_after_many_turns_and_two_restarts(child: Child) -> None:
    async with child.connect("long") as socket:
        first = await say(socket, "the lighthouse keeper is called Ottokar")
        told = await say(socket, *[f"turn {number}" for number in range(30)])
        await summarised(socket, told)
    for number in (signal.SIGKILL, signal.SIGTERM):
        await asyncio.to_thread(child.end, number)
        await child.start()
    async with child.connect("long") as socket:
        reply = await ask(socket, type="memory.query", topic="lighthouse keeper", kind="entry")
        assert entries(first)[0] in [item["id"] for item in reply["items"]][:5]
        assert all(item["on_path"] for item in reply["items"])
        held = await ask(socket, type="memory.recall", limit=128)
        kinds = [item["kind"] for item in held["items"]]
        assert kinds[0] == "summary"
        assert len([kind for kind in kinds if kind != "summary"]) <= 12
        summary = held["items"][0]
        assert summary["range"][0] == entries(first)[0], "the oldest stands in a summary"
        context = await ask(socket, type="session.context")
        assert {"identity", "summaries", "history"} <= {part["kind"] for part in context["parts"]}
    events = [fact for fact in told if fact["type"] == "memory.event"]
    for event in events:
        assert event["bytes_after"] <= event["bytes_before"]
        assert event["recall"]["type"] in ("session.history", "memory.query")


async def test_what_a_summary_replaced_can_be_read_back(child: Child) -> None:
    async with child.connect("back") as socket:
        told = await say(socket, *[f"turn {number}" for number in range(12)])
        event = await summarised(socket, told)
        page = await ask(socket, **event["recall"])
        assert [entry["id"] for entry in page["entries"]] == event["ids"]
        assert page["entries"][0]["content"] == "turn 0"


async def test_acts_on_working_memory(child: Child) -> None:
    async with child.connect("acts") as socket:
        told = await say(socket, "one", "two", "three")
        names = entries(told)
        done = await ask(socket, type="memory.update", memory_id=names[0], pinned=True)
        assert done["type"] == "memory.update"
        done = await ask(socket, type="memory.update", memory_id=names[0], content="uno")
        assert done["bytes_after"] == done["bytes_before"]
        done = await ask(socket, type="memory.evict", memory_id=names[1])
        assert done["bytes_after"] < done["bytes_before"]
        assert (await ask(socket, type="memory.evict", memory_id=names[1]))["code"] == "not_found"
        done = await ask(socket, type="memory.load", memory_id=names[1])
        assert done["bytes_after"] > done["bytes_before"]
        assert (await ask(socket, type="memory.load", memory_id=names[1]))["already"] is True
        assert (await ask(socket, type="memory.load", memory_id="nobody"))["code"] == "not_found"
        done = await ask(socket, type="memory.summarize", memory_ids=names[2:4], content="two was said")
        held = await ask(socket, type="memory.recall")
        by_id = {item["id"]: item for item in held["items"]}
        assert by_id[done["summary"]]["content"] == "two was said"
        assert by_id[names[0]]["content"] == "uno"
        assert by_id[names[0]]["pinned"] is True
        assert names[2] not in by_id
        assert (await ask(socket, type="memory.update", memory_id=names[0]))["code"] == "invalid_payload"


async def test_another_leaf_and_a_branch_share_history_and_leak_nothing(child: Child) -> None:
    async with child.connect("tree") as socket:
        told = await say(socket, "the root speaks of cherries", "then of plums")
        root = entries(told)[1]
        assert (await ask(socket, type="session.set_leaf", leaf_id=root))["leaf"] == root
        other = await say(socket, "or of pears")
        assert next(fact for fact in other if fact["type"] == "run.started")["parent"] == root
        tree = await ask(socket, type="session.tree")
        assert [node["id"] for node in tree["nodes"] if node["parent"] == root] == [entries(other)[0], entries(told)[2]]
        context = await ask(socket, type="memory.recall")
        assert "plums" not in json.dumps(context)
        made = await ask(socket, type="session.branch", leaf_id=root, new_session="tree-2")
        assert (made["type"], made["new_session"], made["leaf"]) == ("session.branched", "tree-2", root)
        again = await ask(socket, type="session.branch", leaf_id=root, new_session="tree-2")
        assert again["code"] == "conflict"
        assert (await ask(socket, type="session.branch", leaf_id="nobody", new_session="x"))["code"] == "not_found"
    async with child.connect("tree-2") as socket:
        page = await ask(socket, type="session.history")
        assert [entry["id"] for entry in page["entries"]] == entries(told)[:2]
        mine = await say(socket, "a branch speaks of quinces")
        assert next(fact for fact in mine if fact["type"] == "run.started")["parent"] == root
        reply = await ask(socket, type="memory.query", topic="speaks pears plums")
        assert {item["id"] for item in reply["items"] if item["role"] == "user"} == {entries(told)[0], entries(mine)[0]}
    await asyncio.to_thread(child.end, signal.SIGKILL)
    await child.start()
    async with child.connect("tree") as socket:
        assert (await ask(socket, type="session.tree"))["leaf"] == entries(other)[1], "the active leaf is durable"


async def test_a_stranger_s_entry_is_nobody_s_leaf(child: Child) -> None:
    async with child.connect("mine") as socket:
        name = entries(await say(socket, "mine alone"))[1]
    async with child.connect("other") as socket:
        await say(socket, "hello")
        assert (await ask(socket, type="chat.send", content="go on", leaf_id=name))["code"] == "not_found"
        assert (await ask(socket, type="session.set_leaf", leaf_id=name))["code"] == "not_found"
        assert (await ask(socket, type="session.history", leaf_id=name))["code"] == "not_found"
        assert (await ask(socket, type="memory.load", memory_id=name))["code"] == "not_found"


async def test_forgotten_words_are_in_no_file_and_in_no_branch(child: Child) -> None:
    secret = "quixotically"
    async with child.connect("forget") as socket:
        told = await say(socket, "hello", f"[[chunks=1]] my word is {secret}")
        name, answer = entries(told)[2:4]
        await say(socket, *[f"turn {number}" for number in range(12)])
        made = await ask(socket, type="session.branch", leaf_id=answer, new_session="forget-2")
        assert made["type"] == "session.branched"
        done = await ask(socket, type="memory.forget", memory_ids=[name, answer])
        assert done["type"] == "memory.forget", done
        assert done["purged"] is True
        assert done["sessions"] == ["forget", "forget-2"]
        assert (await ask(socket, type="memory.query", topic=secret))["items"] == []
        page = await ask(socket, type="session.history", limit=500)
        assert [entry["content"] for entry in page["entries"] if entry["id"] in (name, answer)] == ["", ""]
        await say(socket, "we go on")
    seqs = [fact["seq"] for fact in await all_facts(child, "forget")]
    assert seqs == list(range(1, len(seqs) + 1)), "ids and numbers stay"
    await asyncio.to_thread(child.end, signal.SIGTERM)
    for file in list(child.state.rglob("*")):
        if file.is_file():
            assert secret.encode() not in file.read_bytes(), file.name
    await child.start()
    async with child.connect("forget") as socket:
        await say(socket, "and on")


async def test_a_fresh_epoch_is_empty_and_the_older_one_can_be_asked(child: Child) -> None:
    async with child.connect("epochs") as socket:
        told = await say(socket, "the first epoch knows marzipan")
        assert (await ask(socket, type="session.new"))["epoch"] == 1
        assert (await ask(socket, type="memory.recall"))["items"] == []
        reply = await ask(socket, type="memory.query", topic="marzipan")
        found = {item["id"]: (item["epoch"], item["on_path"], item["source"]) for item in reply["items"]}
        assert found[entries(told)[0]] == (0, False, "ltm")
        fresh = await say(socket, "the second")
        assert set(entries(fresh)).isdisjoint(entries(told)), "ids never repeat"


async def test_the_plan_of_a_goal_stays_in_memory(child: Child) -> None:
    async with child.connect("plan") as socket:
        await say(socket, "/goal name a colour; name a fruit")
        held = await ask(socket, type="memory.recall")
        plan = next(item for item in held["items"] if item["kind"] == "plan")
        assert plan["content"] == "goal: name a colour; name a fruit\n- name a colour: done\n- name a fruit: done"


async def test_a_session_rests_and_its_clients_see_nothing_of_it(child: Child) -> None:
    async with child.connect("rest") as socket:
        told = await say(socket, "hello")
        await until_awake(child, 0)
        beat = (await until(socket, lambda frame: frame.get("phase") == "heartbeat"))[-1]
        assert beat["status"] == "idle"
        state = await ask(socket, type="agent.control", action="state")
        assert (state["type"], state["mode"], state["runs"]) == ("agent.state", "running", [])
        assert await awake(child) == 0, "neither a heartbeat nor a question for its state woke it"
        page = await ask(socket, type="session.history")
        assert [entry["id"] for entry in page["entries"]] == entries(told)
        more = await say(socket, "are you there?")
        assert facts(more)[0]["seq"] == told[-1]["seq"] + 1


async def test_a_paused_run_does_not_keep_a_session_awake(child: Child) -> None:
    async with child.connect("paused") as socket:
        await ask(socket, type="agent.control", action="pause")
        accepted = await ask(socket, type="chat.send", content="wait for me")
        assert accepted["held"] == "paused"
        await until_awake(child, 0)
        beat = (await until(socket, lambda frame: frame.get("phase") == "heartbeat"))[-1]
        assert beat["status"] == "blocked"
        state = await ask(socket, type="agent.control", action="state")
        assert [run["state"] for run in state["runs"]] == ["queued"]
        await until_awake(child, 0)
        resumed = await ask(socket, type="agent.control", action="resume")
        assert resumed["mode"] == "running"
        await until(socket, of_type("run.completed"))


async def awake(child: Child) -> int:
    _, text = await child.http("GET", "/metrics")
    return int(float(next(line for line in text.splitlines() if line.startswith("agentd_sessions_awake ")).split()[1]))


async def until_awake(child: Child, count: int) -> None:
    """A session rests with the next sweep, within 5 s; each beat of a heartbeat is a look."""
    async with child.connect("_server") as socket, asyncio.timeout(15):
        while await awake(child) != count:
            await ask(socket, type="ping")
