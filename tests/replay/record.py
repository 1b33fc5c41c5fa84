"""Records sessions for the corpus: `python -m tests.replay.record FOLDER NAME`, of the agentd beside it.

A real server is talked to in every way, paused, killed and started again; each session's export is then a file. Files
of the corpus are never written anew: what a rule once led to, it has to lead to for ever.
"""

import asyncio
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection

from tests.child import Child, Frame, ask, of_type, until

SLOW = "[[pace_ms=40]] [[chunks=8]]"
ENDS = ("run.completed", "run.failed", "run.cancelled")


async def say(socket: ClientConnection, content: str, **more: Any) -> list[Frame]:
    """One run to its end."""
    await socket.send(json.dumps({"type": "chat.send", "content": content, **more}))
    return await until(socket, lambda frame: frame["type"] in (*ENDS, "error"))


async def control(socket: ClientConnection, action: str, **more: Any) -> Frame:
    return await ask(socket, type="agent.control", action=action, **more)


async def talked(child: Child) -> None:
    """Turns, memory's acts, leaves, a branch, a new epoch."""
    async with child.connect("talked") as socket:
        told: list[Frame] = []
        for number in range(14):
            told += await say(socket, f"turn {number}: the harbour has {number} boats")
        entries = [frame["entry"] for frame in told if "entry" in frame]
        held = entries[-6:]
        await ask(socket, type="memory.update", memory_id=held[0], pinned=True)
        await ask(socket, type="memory.update", memory_id=held[1], content="other words", pinned=True)
        await ask(socket, type="memory.update", memory_id=held[0], pinned=False)
        await ask(socket, type="memory.evict", memory_id=held[0])
        await ask(socket, type="memory.load", memory_id=entries[0])
        await ask(socket, type="memory.summarize", memory_ids=held[2:4])
        await ask(socket, type="memory.summarize", memory_ids=held[1:2], content="in short")
        await say(socket, "an api key sk-live-abcdefghijklmnopqrstuvwx012345 in my words")
        await ask(socket, type="session.set_leaf", leaf_id=entries[5])
        await say(socket, "from an earlier place")
        await say(socket, "from another one", leaf_id=entries[9])
        await ask(socket, type="session.branch", leaf_id=entries[7], new_session="branched")
        await ask(socket, type="memory.forget", memory_ids=entries[2:3])
        await ask(socket, type="session.new", reason="done")
        await say(socket, "afresh", idempotency_key="k1")
    async with child.connect("branched") as socket:
        await say(socket, "what was said before?")
        await say(socket, '[[tool=calculate {"expression": "6*7"}]] and now?')


async def worked(child: Child) -> None:
    """Goals under caps, steering, pauses, cancels, failures; the server goes and comes in the middle."""
    async with child.connect("worked") as socket:
        await say(socket, "/goal one; two; three; four; five; six; then seven; then eight")
        await control(socket, "goal", content="a; b; c; d; e; f; g; h; i; j; k; l", overflow="drop")
        await until(socket, lambda frame: frame["type"] in ENDS)
        await socket.send(json.dumps({"type": "chat.send", "content": f"/goal slow one {SLOW}; slow two {SLOW}"}))
        await until(socket, lambda frame: frame.get("status") == "running")
        await control(socket, "steer", content="shorter")
        await control(socket, "follow_up", content="and thanks")
        await control(socket, "pause")
        await socket.send(json.dumps({"type": "chat.send", "content": "queued meanwhile"}))
        await until(socket, of_type("run.accepted"))
        await control(socket, "resume")
        await until(socket, lambda frame: frame["type"] in ENDS)
        await until(socket, lambda frame: frame["type"] in ENDS)
        await say(socket, "/goal good; bad [[fail=auth in=task]]; other")
        await socket.send(json.dumps({"type": "chat.send", "content": f"/goal x {SLOW}; y {SLOW}; z {SLOW}"}))
        running = (await until(socket, lambda frame: frame.get("status") == "running"))[-1]
        await control(socket, "cancel", task=running["task"])
        await control(socket, "cancel")
        await socket.send(json.dumps({"type": "chat.send", "content": f"/goal x {SLOW}; y {SLOW}; z {SLOW}"}))
        await until(socket, lambda frame: frame.get("status") == "running")
    await asyncio.to_thread(child.end, signal.SIGKILL)
    await child.start()
    async with child.connect("worked") as socket:
        await ended(socket)
        await socket.send(json.dumps({"type": "chat.send", "content": f"slow {SLOW}"}))
        await until(socket, of_type("session.delta"))
        await socket.send(json.dumps({"type": "chat.send", "content": "at once", "input_mode": "interrupt"}))
        await until(socket, of_type("run.completed"))
        await socket.send(json.dumps({"type": "chat.send", "content": f"/goal m {SLOW}; n {SLOW}; o {SLOW}; p {SLOW}"}))
        await until(socket, lambda frame: frame.get("status") == "running")
        await control(socket, "clear_saturation")
        await until(socket, lambda frame: frame["type"] in ENDS)
        await control(socket, "pause", session="*")
        await socket.send(json.dumps({"type": "chat.send", "content": "held by the server"}))
        await until(socket, of_type("run.accepted"))
        await control(socket, "resume", session="*")
        await until(socket, lambda frame: frame["type"] in ENDS)


async def ended(socket: ClientConnection) -> None:
    """Nothing of the session is unfinished."""
    while (await control(socket, "state"))["runs"]:
        await until(socket, lambda frame: frame["type"] in (*ENDS, "agent.state"))


async def record(folder: Path, name: str) -> None:
    with tempfile.TemporaryDirectory() as state:
        limits = {"workers": 2, "dispatch": 5, "ram_entries": 16}
        child = Child(Path(state), *(f"AGENTD_LIMITS__{limit.upper()}={most}" for limit, most in limits.items()))
        await child.start()
        try:
            await talked(child)
            await worked(child)
            for session in ("talked", "branched", "worked"):
                status, body = await child.http("GET", f"/v1/sessions/{session}/export")
                assert status == 200, body
                (folder / f"{name}-{session}.ndjson").write_text(body)
        finally:
            await asyncio.to_thread(child.kill)


if __name__ == "__main__":
    asyncio.run(record(Path(sys.argv[1]), sys.argv[2]))
