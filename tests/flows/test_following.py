"""Following over SSE as clients meet it: every fact once, from any number, in a burst, after kills (L4)."""

import asyncio
import json
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.child import Child, ask, of_type, until
from tests.events import Event, Events, facts


@pytest.fixture
async def child(tmp_path: Path) -> AsyncIterator[Child]:
    shutil.copytree(Path("identity"), tmp_path / "identity")
    server = Child(tmp_path / "state", f"AGENTD_IDENTITY__DIR={tmp_path / 'identity'}")
    await server.start()
    yield server
    assert server.process is not None
    if server.process.poll() is None:
        assert await asyncio.to_thread(server.end, signal.SIGTERM) == 0


def stream(child: Child, path: str, **headers: str) -> Events:
    return Events(child.url, path, child.token, **headers)


def seqs(events: list[Event]) -> list[int]:
    return [int(event.id or 0) for event in facts(events)]


async def said(child: Child, session: str, content: str) -> tuple[str, list[bytes]]:
    """A run that has ended, and its facts as a socket heard them."""
    async with child.connect(session) as socket:
        await socket.send(json.dumps({"type": "chat.send", "content": content}))
        run, bodies = "", []
        while True:
            text = await socket.recv()
            frame = json.loads(text)
            if "run_seq" in frame:
                run = frame["run"]
                bodies.append(text.encode() if isinstance(text, str) else text)
            if frame["type"] == "run.completed":
                return run, bodies


async def test_a_run_is_heard_from_its_first_fact_to_its_end_byte_for_byte(child: Child) -> None:
    await said(child, "s", "hello")
    run, bodies = await said(child, "s", "/goal a; b; then c")
    async with stream(child, f"/v1/runs/{run}/events") as events:
        assert (events.status, events.headers["content-type"]) == (200, "text/event-stream")
        heard = await events.rest()
    opened, *others = heard
    assert (opened.kind, opened.id) == ("stream.opened", None)
    assert opened.frame["first"] == int(others[0].id or 0)
    assert opened.frame["seq"] == int(others[-1].id or 0)
    assert [event.data.encode() for event in others] == bodies
    assert [(event.kind, int(event.id or 0)) for event in others] == [
        (event.frame["type"], event.frame["seq"]) for event in others
    ]


async def test_a_client_goes_on_behind_any_number_and_is_told_when_it_has_all(child: Child) -> None:
    run, bodies = await said(child, "s", "/goal a; b; then c")
    first = json.loads(bodies[0])["seq"]
    for heard in range(len(bodies)):
        async with stream(child, f"/v1/runs/{run}/events?after=0", Last_Event_ID=str(first + heard - 1)) as events:
            rest = await events.rest()
        assert "reset" not in rest[0].frame
        assert [event.data.encode() for event in rest[1:]] == bodies[heard:]
    for after in (first + len(bodies) - 1, 1_000_000):
        async with stream(child, f"/v1/runs/{run}/events?after={after}") as events:
            assert events.status == 204


async def test_whoever_comes_in_the_middle_of_a_burst_misses_and_repeats_nothing(child: Child) -> None:
    """A stream is opened at every fact of three runs that follow each other, each from another number."""
    heard: list[asyncio.Task[list[Event]]] = []

    async def follow(after: int | None) -> list[Event]:
        path = "/v1/sessions/burst/events" + ("" if after is None else f"?after={after}")
        async with stream(child, path) as events:
            return await events.until(lambda event: event.id is not None and event.frame["seq"] >= last)

    async with child.connect("burst") as socket:
        await ask(socket, type="chat.send", content="hello", wait=True)
        last = 6 + 3 * 20  # the last fact that is waited for; more may come
        for _ in range(8):
            await socket.send(json.dumps({"type": "chat.send", "content": "/goal [[chunks=50]] a; b; c; then d"}))
        async with asyncio.timeout(20):
            while True:
                frame = json.loads(await socket.recv())
                if "seq" in frame and frame["type"] != "session.ack":
                    if frame["seq"] >= last:
                        break
                    if len(heard) < 24:
                        after = None if len(heard) % 3 == 0 else frame["seq"] // (len(heard) % 3)
                        heard.append(asyncio.create_task(follow(after)))
        async with stream(child, "/v1/sessions/burst/events?after=0") as events:
            whole = facts(await events.until(lambda event: event.id == str(last)))
        await ask(socket, type="chat.send", content="whoever was let in late hears of this", wait=True)
        everything = await asyncio.gather(*heard)
    assert seqs(whole) == list(range(1, last + 1))
    by_seq = {event.id: event for event in whole}
    for events_heard in everything:
        found = facts(events_heard)
        assert seqs(found) == list(range(seqs(found)[0], seqs(found)[-1] + 1))
        assert all(by_seq[event.id].data == event.data for event in found if event.id in by_seq)
    assert len(heard) == 24


async def test_a_cursor_goes_on_over_kills_and_restarts(child: Child) -> None:
    await said(child, "s", "hello")
    async with stream(child, "/v1/sessions/s/events?after=0") as events:
        before = await events.until(lambda event: event.kind == "run.completed")
    log, cursor = before[0].frame["log"], str(events.last)
    for _ in range(2):
        await asyncio.to_thread(child.end, signal.SIGKILL)
        await child.start()
        _, bodies = await said(child, "s", "hello again")
        async with stream(child, f"/v1/sessions/s/events?log={log}", Last_Event_ID=cursor) as events:
            after = await events.until(lambda event: event.kind == "run.completed")
        assert "reset" not in after[0].frame
        assert [event.data.encode() for event in facts(after)] == bodies
        cursor = str(events.last)


async def test_a_cursor_that_can_not_be_honoured_is_told_and_the_facts_begin_anew(child: Child) -> None:
    run, bodies = await said(child, "s", "hello")
    count = len(bodies) + 1
    for query, why in (("after=1000", "ahead"), ("after=3&log=log_other", "other_log")):
        async with stream(child, f"/v1/sessions/s/events?{query}") as events:
            heard = await events.until(lambda event: event.kind == "run.completed")
        assert heard[0].frame["reset"] == why
        assert seqs(heard) == list(range(1, count + 1))
    async with stream(child, f"/v1/runs/{run}/events?after={count}&log=log_other") as events:
        heard = await events.rest()
    assert heard[0].frame["reset"] == "other_log"
    assert [event.data.encode() for event in facts(heard)] == bodies


async def test_deltas_have_no_number_and_add_up(child: Child) -> None:
    async with child.connect("words") as socket, stream(child, "/v1/sessions/_server/events") as server:
        await socket.recv()
        await socket.send(
            json.dumps({"type": "chat.send", "content": "[[pace_ms=5]] [[chunks=40]] tell me", "id": "q"})
        )
        accepted = (await until(socket, of_type("run.accepted")))[-1]
        async with stream(child, f"/v1/runs/{accepted['run']}/events") as events:
            heard = await events.rest()
        assert server.status == 200
    deltas = [event for event in heard if event.kind == "session.delta"]
    said = next(event for event in heard if event.kind == "session.receive")
    assert len(deltas) > 3
    assert all(event.id is None for event in deltas)
    assert "".join(event.frame["text"] for event in deltas) == said.frame["content"]
    assert [event.frame["offset"] for event in deltas] == sorted(event.frame["offset"] for event in deltas)
    assert {event.kind for event in heard if event.id is None} == {"stream.opened", "session.delta"}


async def test_a_run_that_waits_in_the_queue_is_followed_to_its_end_and_hears_nothing_of_others(child: Child) -> None:
    async with child.connect("queue") as socket:
        await ask(socket, type="chat.send", content="[[pace_ms=20]] [[chunks=30]] first")
        second = await ask(socket, type="chat.send", content="second")
        assert second["state"] == "queued"
        async with stream(child, f"/v1/runs/{second['run']}/events") as events:
            heard = await events.rest()
    assert {event.frame.get("run") for event in heard} == {second["run"]}
    assert [event.frame["run_seq"] for event in facts(heard)] == list(range(1, len(facts(heard)) + 1))
    assert heard[-1].kind == "run.completed"


async def test_streams_end_when_the_server_goes_and_the_client_loses_nothing(child: Child) -> None:
    async with child.connect("drain") as socket:
        accepted = await ask(socket, type="chat.send", content="[[pace_ms=20]] [[chunks=50]] long")
        async with stream(child, f"/v1/runs/{accepted['run']}/events") as events:
            await events.until(lambda event: event.kind == "session.delta")
            child.send(signal.SIGTERM)
            heard = await events.rest()
        assert "server.draining" in {event.kind for event in heard}
    assert child.process is not None
    assert await asyncio.to_thread(child.process.wait, 15) == 0
    child.kill()
    await child.start()
    async with stream(child, f"/v1/runs/{accepted['run']}/events", Last_Event_ID=str(events.last)) as again:
        rest = await again.rest() if again.status == 200 else []
    kinds = [event.kind for event in [*heard, *rest]]
    assert kinds.count("run.completed") == 1
