"""File descriptors run out: who is connected goes on, nobody new is let in for the while, it is told, and it ends."""

import asyncio
import os
from contextlib import AsyncExitStack

from websockets.exceptions import WebSocketException

from tests.child import all_facts, ask
from tests.faults.conftest import MAKE, Faulty

SPARE = 12
CLIENTS = 60


def open_files(server: Faulty) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))


async def test_without_descriptors_the_log_still_writes_and_accepting_goes_on_afterwards(make: MAKE) -> None:
    server = make()
    await server.start()
    async with server.connect("inside") as inside:
        assert (await ask(inside, type="chat.send", content="before", wait=True))["state"] == "completed"
        before = open_files(server)
        server.open_files(before + SPARE)
        clients = [asyncio.ensure_future(connected(server, number)) for number in range(CLIENTS)]
        done, waiting = await asyncio.wait(clients, timeout=3.0)
        opened = [stack for each in done if (stack := each.result()) is not None]
        assert 0 < len(opened) <= SPARE
        assert len(opened) < CLIENTS
        for turn in range(10):
            result = await ask(inside, type="chat.send", content=f"during {turn}", wait=True)
            assert result["state"] == "completed"
        assert (await ask(inside, type="agent.control", action="state"))["type"] == "agent.state"
        async with asyncio.timeout(5):
            while not (told := lines(server)):
                await inside.ping()
        server.open_files(4_096)
        for stack in opened:
            await stack.aclose()
        done, waiting = await asyncio.wait(waiting or clients, timeout=10.0)
        assert not waiting, "who was kept waiting is let in, or has been told to go"
        for each in done:
            if (late := each.result()) is not None:
                await late.aclose()
        last = await connected(server, CLIENTS)
        assert last is not None, "it lets people in again"
        await last.aclose()
        assert (await ask(inside, type="chat.send", content="after", wait=True))["state"] == "completed"
    assert told == ["descriptors.none_left"]
    facts = await all_facts(server, "inside")
    assert sum(fact["type"] == "run.completed" for fact in facts) == 12


async def connected(server: Faulty, number: int) -> AsyncExitStack | None:
    """An open client; None when it was not let in."""
    async with AsyncExitStack() as stack:
        try:
            socket = await stack.enter_async_context(server.connect(f"many{number}"))
            await socket.recv()
        except (OSError, WebSocketException, EOFError):
            return None
        return stack.pop_all()
    raise AssertionError("unreachable: the stack swallows nothing")


def lines(server: Faulty) -> list[str]:
    return [line["event"] for line in server.logged() if line["event"].startswith("descriptors.")]
