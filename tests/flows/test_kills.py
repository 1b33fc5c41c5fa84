"""Killed at random moments under load: nothing that was acknowledged is lost, doubled or reordered (F1)."""

import asyncio
import json
import os
import random
import signal
from pathlib import Path

from websockets.exceptions import WebSocketException

from tests.child import Child, Frame, facts, of_type, until

KILLS = int(os.environ.get("AGENTD_KILLS", "50"))
SESSIONS = 6
FRAMES_MAX = 400  # a kill comes after 0 to so many frames, whatever they are
END_S = 60.0
NO_FACTS = ("session.ack", "stream.lagged")  # their `seq` is the session's


class Countdown:
    """When the next kill comes: after so many frames of all clients."""

    def __init__(self, frames: int) -> None:
        self.left = frames
        self.over = asyncio.Event()
        self.count(0)

    def count(self, frames: int = 1) -> None:
        self.left -= frames
        if self.left <= 0:
            self.over.set()


class Talker:
    """One client that keeps asking, and remembers every fact it was sent."""

    def __init__(self, name: str, goals: bool) -> None:
        self.name = name
        self.goals = goals
        self.facts: dict[int, Frame] = {}
        self.asked = 0

    @property
    def cursor(self) -> int:
        return max(self.facts, default=0)

    def hear(self, frame: Frame) -> None:
        if "seq" not in frame or frame["type"] in NO_FACTS:
            return
        frame.pop("request", None)
        known = self.facts.get(frame["seq"])
        assert known is None or known == frame, "a number was used twice"
        assert frame["seq"] == self.cursor + 1 or known is not None, "a fact was left out"
        self.facts[frame["seq"]] = frame

    async def talk(self, child: Child, countdown: Countdown) -> None:
        """Until the server dies."""
        try:
            async with child.connect(self.name, after=self.cursor) as socket:
                while True:
                    self.asked += 1
                    words = f"/goal a{self.asked}; b; then c" if self.goals else f"hello {self.asked}"
                    await socket.send(json.dumps({"type": "chat.send", "id": str(self.asked), "content": words}))
                    while True:
                        frame = json.loads(await socket.recv())
                        countdown.count()
                        self.hear(frame)
                        if frame["type"] in ("run.completed", "run.failed", "error"):
                            break
        except (WebSocketException, OSError, EOFError):
            return


async def test_nothing_acknowledged_is_lost_over_many_kills(tmp_path: Path) -> None:
    chance = random.Random(2026)
    child = Child(tmp_path)
    talkers = [Talker(f"kill{number}", number % 2 == 0) for number in range(SESSIONS)]
    for _ in range(KILLS):
        await child.start()
        async with asyncio.TaskGroup() as group:
            countdown = Countdown(chance.randint(0, FRAMES_MAX))
            for talker in talkers:
                group.create_task(talker.talk(child, countdown))
            async with asyncio.timeout(END_S):
                await countdown.over.wait()
            await asyncio.to_thread(child.end, signal.SIGKILL)
    await child.start()
    for talker in talkers:
        await all_ended(child, talker)
        check(talker)
    assert await asyncio.to_thread(child.end, signal.SIGTERM) == 0
    assert sum(len(talker.facts) for talker in talkers) > KILLS


async def all_ended(child: Child, talker: Talker) -> None:
    """Follow until nothing of the session is unfinished."""
    async with child.connect(talker.name, after=talker.cursor) as socket, asyncio.timeout(END_S):
        for frame in await until(socket, of_type("session.ack")):
            talker.hear(frame)
        while True:
            await socket.send(json.dumps({"type": "agent.control", "action": "state", "id": "s"}))
            frames = await until(socket, lambda frame: frame.get("request") == "s")
            for frame in facts(frames):
                talker.hear(frame)
            if not frames[-1]["runs"]:
                break
        await socket.send(json.dumps({"type": "session.resume", "id": "r", "after": talker.cursor}))
        to = (await until(socket, of_type("session.resumed")))[-1]["to"]
        while talker.cursor < to:
            talker.hear(json.loads(await socket.recv()))


def check(talker: Talker) -> None:
    """Gap-free numbers; each accepted run has exactly one end, and its own numbers are gap-free too."""
    told = [talker.facts[seq] for seq in sorted(talker.facts)]
    assert [fact["seq"] for fact in told] == list(range(1, len(told) + 1))
    runs: dict[str, list[Frame]] = {}
    for fact in told:
        if fact.get("run"):
            runs.setdefault(fact["run"], []).append(fact)
    for name, own in runs.items():
        assert [fact["run_seq"] for fact in own] == list(range(1, len(own) + 1)), name
        assert own[0]["type"] == "run.accepted"
        ends = [fact["type"] for fact in own if fact["type"] in ("run.completed", "run.failed", "run.cancelled")]
        assert len(ends) == 1, (name, ends)
        assert own[-1]["type"] == ends[0]
