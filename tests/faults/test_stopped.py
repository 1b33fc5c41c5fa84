"""The process is stopped (SIGSTOP) for longer than its deadlines and goes on: nobody is cut off for that time."""

import asyncio
import json
import os
import signal
import time

from tests.child import Frame, all_facts, ask, facts, of_type, until
from tests.faults.conftest import MAKE, MODEL

STOPPED_S = float(os.environ.get("AGENTD_STOPPED_S", "6.5"))  # with real deadlines, 45
SHORT = {"ping_s": 1.0, "silent_s": 2.0, "stalled_s": 3.0, "header_s": 2.0}


async def test_a_process_that_slept_goes_on_where_it_was(make: MAKE) -> None:
    """A run in the middle, a client that waits, one that sends meanwhile, one that is quiet: each gets what is due."""
    real = STOPPED_S > 40
    server = make("AGENTD_PROVIDER__PACE_MS=100", **({} if real else {"edge": SHORT}))
    await server.start()
    async with server.connect("run") as runner, server.connect("quiet") as quiet, server.connect("sender") as sender:
        for socket in (runner, quiet, sender):
            await until(socket, of_type("session.ack"))
        await runner.send(json.dumps({"type": "chat.send", "id": "r", "content": "[[chunks=20]] tell"}))
        heard = await until(runner, of_type("session.delta"))
        server.send(signal.SIGSTOP)
        await sender.send(json.dumps({"type": "chat.send", "id": "s", "content": "hello", "wait": True}))
        await asyncio.to_thread(time.sleep, STOPPED_S)
        server.send(signal.SIGCONT)
        began = time.monotonic()
        state = await ask(quiet, type="agent.control", action="state")
        assert state["type"] == "agent.state", "a socket that was quiet meanwhile is still there"
        assert time.monotonic() - began < 2.0
        heard += await until(runner, of_type("run.completed"))
        result = (await until(sender, lambda frame: frame.get("request") == "s"))[-1]
        assert (result["type"], result["state"]) == ("run.result", "completed")
    for session in ("run", "sender"):
        told = await all_facts(server, session)
        assert [fact["type"] for fact in told].count("run.completed") == 1
        assert [fact["type"] for fact in told].count("session.receive") == 1
    assert without_request(facts(heard)) == await all_facts(server, "run")


async def test_a_model_that_spoke_meanwhile_is_heard(make: MAKE, model: MODEL) -> None:
    """The reply lay in the socket's buffer while the process slept through the provider's deadlines."""
    fake, settings = model
    fake.behaviour = "fake:chunks=60,pace_ms=20"
    server = make(*settings)
    await server.start()
    async with server.connect("model") as socket:
        await socket.send(json.dumps({"type": "chat.send", "content": "hello"}))
        await until(socket, of_type("session.delta"))
        server.send(signal.SIGSTOP)
        await asyncio.to_thread(time.sleep, 2.0)
        server.send(signal.SIGCONT)
        told = facts(await until(socket, of_type("run.completed")))
    assert not [fact for fact in told if fact["type"] == "warning"]
    assert sum("messages" in request for request in fake.requests) == 1


def without_request(told: list[Frame]) -> list[Frame]:
    return [{name: value for name, value in fact.items() if name != "request"} for fact in told]
