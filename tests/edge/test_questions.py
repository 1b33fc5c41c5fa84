"""Questions on a socket: answered from what is published or stored, for who may ask (protocol.md, 4; rulings 32)."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from agentd.app import App
from tests.child import until
from tests.edge.served import app, token_of

Frame = dict[str, Any]
ENDS = ("run.completed", "run.failed", "run.cancelled")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[App]:
    async with app(tmp_path, limits__ram_entries=6) as made:
        yield made


@pytest.fixture
async def socket(server: App, tmp_path: Path) -> AsyncIterator[ClientConnection]:
    async with open_socket(server, "s", token_of(tmp_path)) as made:
        yield made


def open_socket(server: App, session: str, token: str) -> connect:
    url = f"{server.url.replace('http', 'ws')}/v1/agents/default/stream?session={session}"
    return connect(url, additional_headers={"Authorization": f"Bearer {token}"})


async def ask(socket: ClientConnection, type_: str, **fields: Any) -> Frame:
    """The one reply; frames of a longer one before the last are in `pages`."""
    await socket.send(json.dumps({"type": type_, "id": "q", **fields}))
    pages: list[Frame] = []
    while True:
        frame = (await until(socket, lambda one: one.get("request") == "q"))[-1]
        if frame["type"] != "trace.page":
            return {**frame, "pages": pages}
        pages.append(frame)


async def said(socket: ClientConnection, *contents: str) -> list[str]:
    """Turns, to their ends; their runs."""
    runs = []
    for content in contents:
        await socket.send(json.dumps({"type": "chat.send", "content": content}))
        runs.append((await until(socket, lambda one: one["type"] in ENDS))[-1]["run"])
    return runs


async def test_the_history_is_the_newest_of_the_path_oldest_first_and_pages_back(socket: ClientConnection) -> None:
    runs = await said(socket, "one", "two", "three")
    whole = await ask(socket, "session.history")
    ids = [entry["id"] for entry in whole["entries"]]
    assert ids == [f"{run}.{end}" for run in runs for end in ("u", "a1")]
    assert [entry["parent"] for entry in whole["entries"]] == [None, *ids[:-1]]
    assert whole["leaf"] == ids[-1]
    newest = await ask(socket, "session.history", limit=2)
    assert [entry["id"] for entry in newest["entries"]] == ids[4:]
    older = await ask(socket, "session.history", limit=3, before=ids[4])
    assert [entry["id"] for entry in older["entries"]] == ids[1:4]
    assert (await ask(socket, "session.history", before=ids[0]))["entries"] == []
    at = await ask(socket, "session.history", leaf_id=ids[1])
    assert ([entry["id"] for entry in at["entries"]], at["leaf"]) == (ids[:2], ids[1])


async def test_facts_are_read_by_seq_in_pages_of_a_session_or_of_one_run(socket: ClientConnection) -> None:
    first, second = await said(socket, "one", "two")
    everything: list[Frame] = []
    after = 0
    while True:
        page = await ask(socket, "events.read", after=after, limit=5)
        everything += page["events"]
        if page.get("next") is None:
            break
        after = page["next"]
    assert [fact["seq"] for fact in everything] == list(range(1, len(everything) + 1))
    own = await ask(socket, "events.read", run=second)
    assert [fact["run_seq"] for fact in own["events"]] == list(range(1, len(own["events"]) + 1))
    assert {fact["run"] for fact in own["events"]} == {second}
    rest = await ask(socket, "events.read", run=second, after=own["events"][2]["seq"], limit=2)
    assert rest["events"] == own["events"][3:5]
    assert rest["next"] == own["events"][4]["seq"], "a seq, not a number within the run"
    assert first != second


async def test_a_trace_comes_in_pages_and_ends_with_its_count_and_verdict(socket: ClientConnection) -> None:
    (run,) = await said(socket, "one")
    told = await ask(socket, "trace.get", run=run)
    events = [fact for page in told["pages"] for fact in page["events"]]
    assert (told["type"], told["count"], told["valid"], told["problems"]) == ("trace.end", len(events), True, [])
    assert [events[0]["type"], events[-1]["type"]] == ["run.accepted", "run.completed"]


async def test_what_is_remembered_is_told_from_both_memories_and_cut_unless_asked_whole(
    socket: ClientConnection,
) -> None:
    long = "plum " * 300
    runs = await said(socket, long, "two", "three", "four", "five")
    held = await ask(socket, "memory.recall")
    assert {item["source"] for item in held["items"]} == {"ram"}
    assert f"{runs[0]}.u" not in [item["id"] for item in held["items"]], "working memory holds six"
    whole = await ask(socket, "memory.recall", include_archived=True, limit=128)
    old = next(item for item in whole["items"] if item["id"] == f"{runs[0]}.u")
    assert (old["source"], old["truncated"], len(old["content"])) == ("ltm", True, 500)
    full = await ask(socket, "memory.query", memory_ids=[f"{runs[0]}.u"], include_full=True)
    assert [(item["content"], item.get("truncated")) for item in full["items"]] == [(long, None)]
    found = await ask(socket, "memory.query", topic="plum", kind="entry")
    assert f"{runs[0]}.u" in [item["id"] for item in found["items"]]
    assert len({item["id"] for item in found["items"]}) == len(found["items"]), "no duplicates"
    page = await ask(socket, "memory.query", limit=2)
    assert (len(page["items"]), page["next"]) == (2, 2)
    nothing = await ask(socket, "memory.query", kind="plan")
    assert nothing["items"] == []


async def test_the_tree_shows_branches_and_the_leaf_moves(socket: ClientConnection, server: App) -> None:
    first, second = await said(socket, "one", "two")
    moved = await ask(socket, "session.set_leaf", leaf_id=f"{first}.a1")
    assert (moved["type"], moved["leaf"]) == ("session.leaf", f"{first}.a1")
    (third,) = await said(socket, "other two")
    tree = await ask(socket, "session.tree")
    parents = {node["id"]: node["parent"] for node in tree["nodes"]}
    assert tree["leaf"] == f"{third}.a1"
    assert parents[f"{second}.u"] == parents[f"{third}.u"] == f"{first}.a1"
    query = await ask(socket, "memory.query", kind="entry", limit=50)
    off = {item["id"] for item in query["items"] if not item["on_path"]}
    assert off == {f"{second}.u", f"{second}.a1"}, "rulings 32"
    told = await ask(socket, "session.branch", leaf_id=f"{first}.a1", new_session="fork")
    assert (told["type"], told["new_session"]) == ("session.branched", "fork")
    again = await ask(socket, "session.branch", leaf_id=f"{first}.a1", new_session="fork")
    assert (again["code"], again["details"]) == ("conflict", {"reason": "exists"})
    shared = await ask(socket, "session.history", session="fork")
    assert [entry["id"] for entry in shared["entries"]] == [f"{first}.u", f"{first}.a1"]


async def test_words_are_forgotten_wherever_they_stand(socket: ClientConnection) -> None:
    (run,) = await said(socket, "my word is xylophone")
    told = await ask(socket, "memory.forget", memory_ids=[f"{run}.u", f"{run}.a1", f"{run}.u"])
    assert (told["type"], told["memory_ids"]) == ("memory.forget", [f"{run}.u", f"{run}.a1"])
    assert told["purged"]
    facts = await ask(socket, "events.read")
    assert "xylophone" not in json.dumps(facts)
    assert any(fact.get("forgotten") for fact in facts["events"])


async def test_the_context_and_the_identity_say_what_the_next_call_would_get(socket: ClientConnection) -> None:
    context = await ask(socket, "session.context")
    assert context["budget"] > 0
    assert "identity" in [part["kind"] for part in context["parts"]]
    await said(socket, "one")
    later = await ask(socket, "session.context")
    assert sum(part["entries"] for part in later["parts"]) > sum(part["entries"] for part in context["parts"])
    report = await ask(socket, "identity.get")
    assert [layer["name"] for layer in report["layers"]] == ["SOUL", "AGENT", "IDENTITY", "USER"]
    assert report["hash"] == (await ask(socket, "events.read"))["events"][2]["identity"], "run.started bears it"


async def test_state_and_heartbeat_are_answered_also_of_another_session_and_of_all(
    socket: ClientConnection, server: App
) -> None:
    await said(socket, "one")
    state = await ask(socket, "agent.control", action="state")
    assert (state["type"], state["session"], state["mode"], state["runs"]) == ("agent.state", "s", "running", [])
    beat = await ask(socket, "agent.heartbeat")
    assert (beat["type"], beat["phase"], beat["status"]) == ("agent.progress", "heartbeat", "idle")
    assert (await ask(socket, "agent.control", action="heartbeat"))["phase"] == "heartbeat"
    for target in ("*", "_server"):
        everywhere = await ask(socket, "agent.control", action="state", session=target)
        assert (everywhere["type"], everywhere["backpressure"]["scope"]) == ("agent.state", "server")
    listed = await ask(socket, "session.list")
    assert [line["key"] for line in listed["sessions"]] == ["_server", "s"]


async def test_a_pause_of_all_holds_every_session_and_a_cancel_of_all_adds_up(
    socket: ClientConnection, server: App, tmp_path: Path
) -> None:
    paused = await ask(socket, "agent.control", action="pause", session="*", reason="lunch")
    assert (paused["mode"], paused["paused_by"], paused["session"]) == ("paused", ["server"], "_server")
    again = await ask(socket, "agent.control", action="pause", session="*")
    assert again["mode"] == "paused"
    async with open_socket(server, "other", token_of(tmp_path)) as other:
        for one in (socket, other):
            accepted = await ask(one, "chat.send", content="later")
            assert (accepted["state"], accepted["held"]) == ("queued", "paused")
        done = await ask(socket, "agent.control", action="cancel", session="*")
        assert (done["queued_cancelled"], done["active_cancelled"], done["still_running"], done["sessions"]) == (
            2, 0, 0, 2,
        )  # fmt: skip
        nothing = await ask(socket, "agent.control", action="cancel", session="*")
        assert (nothing["queued_cancelled"], nothing["sessions"]) == (0, 0)
    resumed = await ask(socket, "agent.control", action="resume", session="*")
    assert (resumed["mode"], resumed.get("paused_by")) == ("running", None)
    modes = [fact["mode"] for fact in (await ask(socket, "events.read", session="_server"))["events"]
             if fact["type"] == "server.mode"]  # fmt: skip
    assert modes == ["paused", "running"], "the same again is no fact"


async def test_who_may_only_chat_sees_no_other_session_and_no_run_of_one(socket: ClientConnection, server: App) -> None:
    (run,) = await said(socket, "mine")
    guest = server.reception.auth._tokens.add("guest", frozenset({"chat"}))
    async with open_socket(server, "g", guest) as visitor:
        for kind, fields, code in (
            ("session.history", {"session": "s"}, "forbidden"),
            ("session.list", {}, "forbidden"),
            ("agent.control", {"action": "state", "session": "*"}, "forbidden"),
            ("agent.control", {"action": "approve", "gate": "g"}, "forbidden"),
            ("trace.get", {"run": run}, "not_found"),
            ("events.read", {"run": run}, "not_found"),
            ("events.read", {"session": "_server"}, "forbidden"),
        ):
            assert (await ask(visitor, kind, **fields))["code"] == code, kind


async def test_a_repeated_key_tells_the_run_as_it_is_and_its_end_to_who_waits(socket: ClientConnection) -> None:
    words = {"content": "hello", "idempotency_key": "k"}
    result = await ask(socket, "chat.send", wait=True, **words)
    assert result["type"] == "run.result"
    again = await ask(socket, "chat.send", **words)
    assert (again["type"], again["run"], again["state"], again["repeated"]) == (
        "run.accepted", result["run"], "completed", True,
    )  # fmt: skip
    waited = await ask(socket, "chat.send", wait=True, **words)
    assert {name: waited[name] for name in ("type", "run", "state", "content", "usage")} == {
        name: result[name] for name in ("type", "run", "state", "content", "usage")
    }
    assert (await ask(socket, "chat.send", content="other", idempotency_key="k"))["code"] == "conflict"
