"""The wall clock jumps: `ts` never goes back in a session, ids stay unique, waits are as long as they are."""

import json
import time

import pytest

from tests.child import all_facts, ask, facts, of_type, until
from tests.faults.conftest import MAKE, MODEL

HOUR_MS = 3_600_000
DELAY_S = 2.0
PLAN = json.dumps(
    {
        "tasks": [
            {"id": "pause", "title": "wait", "kind": "delay", "delay_s": DELAY_S},
            {"id": "speak", "title": "speak", "depends_on": ["pause"]},
        ]
    }
)


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS], ids=["forwards", "backwards"])
async def test_time_never_goes_back_within_a_session_and_no_id_comes_twice(make: MAKE, jump_ms: int) -> None:
    server = make()
    await server.start()
    async with server.connect("jump") as socket:
        for turn in range(4):
            server.wrong(clock_ms=jump_ms * (turn % 2))
            await ask(socket, type="chat.send", content=f"hello {turn}", wait=True)
    told = await all_facts(server, "jump")
    stamps = [fact["ts"] for fact in told]
    assert stamps == sorted(stamps)
    assert [fact["seq"] for fact in told] == list(range(1, len(told) + 1))
    runs = [fact["run"] for fact in told if fact["type"] == "run.accepted"]
    assert len(set(runs)) == 4
    assert runs == sorted(runs), "a run's id sorts by time"


@pytest.mark.parametrize("jump_ms", [24 * HOUR_MS, -24 * HOUR_MS], ids=["forwards", "backwards"])
async def test_a_delay_is_as_long_as_it_is_whatever_the_wall_clock_says(make: MAKE, model: MODEL, jump_ms: int) -> None:
    """In the process timers run monotonic (rulings 4): a day's jump neither ends one at once nor holds it for a day."""
    fake, settings = model
    fake.json = PLAN
    server = make(*settings)
    await server.start()
    async with server.connect("delay") as socket:
        await ask(socket, type="agent.control", action="goal", goal="wait, then speak")
        await until(socket, lambda frame: frame.get("phase") == "planner" and frame["status"] == "ready")
        began = time.monotonic()
        server.wrong(clock_ms=jump_ms)
        await socket.send('{"type": "agent.control", "action": "steer", "text": "a step in between"}')
        frames = await until(socket, of_type("run.completed"))
    assert DELAY_S - 0.5 < time.monotonic() - began < DELAY_S + 3
    assert frames[-1]["counts"]["done"] == 2


@pytest.mark.parametrize("jump_ms", [24 * HOUR_MS, -24 * HOUR_MS], ids=["forwards", "backwards"])
async def test_a_delay_that_outlives_its_server_is_clamped_at_the_start(make: MAKE, model: MODEL, jump_ms: int) -> None:
    """To 0 or its own length, whatever the wall clock says when the server comes back (rulings 4)."""
    fake, settings = model
    fake.json = PLAN
    server = make(*settings)
    await server.start()
    async with server.connect("delay") as socket:
        await ask(socket, type="agent.control", action="goal", goal="wait, then speak")
        await until(socket, lambda frame: frame.get("phase") == "planner" and frame["status"] == "ready")
    server.kill()
    server.wrong(clock_ms=jump_ms)
    await server.start()
    began = time.monotonic()
    async with server.connect("delay", after=0) as socket:
        frames = await until(socket, of_type("run.completed"))
    assert time.monotonic() - began < DELAY_S + 3
    stamps = [fact["ts"] for fact in facts(frames)]
    assert stamps == sorted(stamps)
