"""The story that agentd is for: connect, chat, give a goal, kill the server with -9, come back, find everything."""

import asyncio
import json
import signal
from pathlib import Path

from tests.child import Child, Frame, facts, of_type, until


async def test_a_goal_survives_a_kill_and_nothing_is_lost_doubled_or_reordered(tmp_path: Path) -> None:
    child = Child(tmp_path, "AGENTD_PROVIDER__PACE_MS=40", "AGENTD_LIMITS__WORKERS=2")
    await child.start()
    async with child.connect("story") as socket:
        ack = (await until(socket, of_type("session.ack")))[0]
        await socket.send(
            json.dumps({"type": "chat.send", "id": "g", "content": "/goal name a; name b; name c; name d"})
        )
        seen = facts(await until(socket, lambda f: f["type"] == "agent.status" and f["status"] == "running"))
        assert next(f for f in seen if f["type"] == "run.accepted")["request"] == "g"
        child.end(signal.SIGKILL)
    last = seen[-1]["seq"]

    await child.start()
    async with child.connect("story", after=last) as socket:
        frames = await until(socket, of_type("run.completed"))
        assert frames[0]["log"] == ack["log"]
        assert frames[1]["status"] in ("backpressure_resumed", "state_restored")
        rest = facts(frames)
        await socket.send(json.dumps({"type": "trace.get", "id": "t", "run": rest[-1]["run"]}))
        end = (await until(socket, of_type("trace.end")))[-1]
    everything = seen + rest
    assert [fact["seq"] for fact in everything] == list(range(1, len(everything) + 1))
    assert any(f.get("status") == "retrying" and f["cause"]["code"] == "interrupted" for f in rest)
    assert (end["valid"], end["problems"]) == (True, [])
    assert rest[-1]["counts"]["done"] == 4
    assert child.end(signal.SIGTERM) == 0


async def test_a_goal_tells_its_phases_in_order(tmp_path: Path) -> None:
    child = Child(tmp_path)
    await child.start()
    async with child.connect("order") as socket:
        await socket.send(json.dumps({"type": "chat.send", "id": "g", "content": "/goal name a; name b"}))
        told = facts(await until(socket, of_type("run.completed")))
    words = [f"{f['phase']}/{f['status']}" if f["type"] == "agent.progress" else f["type"] for f in told]
    assert list(dict.fromkeys(words)) == [
        "session.created", "run.accepted", "run.started", "planner/received", "agent.plan", "planner/ready",
        "workers/queued", "agent.status", "workers/ready", "execution/started", "session.receive",
        "execution/complete", "run.completed",
    ]  # fmt: skip
    for fact in told:
        load = fact.get("backpressure")
        if load is not None:
            parts = ("pending", "queued", "active", "settled", "dropped")
            assert load["total"] == sum(load[name] for name in parts)
    assert child.end(signal.SIGTERM) == 0


async def test_overflow_drop_tells_five_four_one_two_two(tmp_path: Path) -> None:
    child = Child(tmp_path, "AGENTD_PROVIDER__PACE_MS=20", "AGENTD_LIMITS__WORKERS=2", "AGENTD_LIMITS__DISPATCH=4")
    await child.start()
    async with child.connect("drop") as socket:
        goal = {"type": "agent.control", "action": "goal", "goal": "a; b; c; d; e", "overflow": "drop"}
        await socket.send(json.dumps(goal))
        told = facts(await until(socket, of_type("run.completed")))
    names = ("total", "accepted", "dropped", "queued", "active")
    queued = next(f for f in told if f.get("phase") == "workers" and f["status"] == "queued")
    assert [queued["backpressure"][name] for name in names] == [5, 4, 1, 2, 2]
    assert told[-1]["counts"] == {"total": 5, "done": 4, "failed": 0, "cancelled": 0, "skipped": 0, "dropped": 1}
    assert child.end(signal.SIGTERM) == 0


async def test_many_sessions_at_once_all_end_though_permits_are_few(tmp_path: Path) -> None:
    """A permit that came free while a session's append was on its way was once lost to it for ever."""
    child = Child(tmp_path, "AGENTD_LIMITS__MODEL_CALLS=2")
    await child.start()

    async def talk(number: int) -> list[Frame]:
        found: list[Frame] = []
        async with child.connect(f"many{number}") as socket:
            for turn in range(6):
                await socket.send(json.dumps({"type": "chat.send", "id": str(turn), "content": "hello"}))
                found.extend(facts(await until(socket, of_type("run.completed"))))
        return found

    for told in await asyncio.gather(*(talk(number) for number in range(24))):
        assert [fact["seq"] for fact in told] == list(range(1, len(told) + 1))
        assert sum(fact["type"] == "run.completed" for fact in told) == 6
    assert child.end(signal.SIGTERM) == 0
