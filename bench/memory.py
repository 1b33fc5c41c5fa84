"""What a long conversation costs, and how fast memory answers: one session of many turns, then questions of two words.

    python -m bench.memory [--turns 10000] [--rows 100000]

First a server of its own and one client that says a turn after the other, each with two words that no other turn has:
CPU of the server per turn at the beginning and at the end, its resident memory, recall of any turn by its two words,
how long it takes to go on from any entry of it, and to branch there.
Then a database with many rows, asked for topics drawn from them.
"""

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from matplotlib import pyplot
from websockets.asyncio.client import ClientConnection, connect

from agentd.clock import SystemClock
from agentd.store.sqlite import SqliteStore
from agentd.store.store import Append, EntryRow, Record, SessionRow
from agentd.supervisor import Supervisor

SYLLABLES = [first + second for first in "bdfgklm" for second in "aeiou"]
TICKS = os.sysconf("SC_CLK_TCK")
WINDOW = 500


def word(number: int) -> str:
    """A word of its own for each number."""
    base, said = len(SYLLABLES), ""
    number += base**3
    while number:
        number, place = divmod(number, base)
        said += SYLLABLES[place]
    return said


class Server:
    """A server of its own, with figures."""

    def __init__(self, folder: str) -> None:
        command = [sys.executable, "-m", "agentd", "serve", "--port", "0", "--state-dir", folder]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]
        self.token = (Path(folder) / "token").read_text().strip()

    def connect(self, session: str) -> connect:
        address = f"{self.url.replace('http', 'ws')}/v1/agents/default/stream?session={session}"
        return connect(address, additional_headers={"Authorization": f"Bearer {self.token}"}, max_queue=None)

    def figure(self, name: str) -> float:
        request = urllib.request.Request(f"{self.url}/metrics", headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            found = re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)
        assert found is not None, name
        return float(found[1])

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(15)


def disk_kib(folder: str) -> float:
    return sum(file.stat().st_size for file in Path(folder).glob("agentd.db*")) / 1024


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def ask(socket: ClientConnection, **frame: Any) -> dict[str, Any]:
    await socket.send(json.dumps({"id": "q", **frame}))
    while True:
        found: dict[str, Any] = json.loads(await socket.recv())
        if found.get("request") == "q":
            return found


async def turn(socket: ClientConnection, number: int) -> str:
    """One turn to its end; the entry of its words."""
    words = f"{word(2 * number)} {word(2 * number + 1)}"
    said = f"[[chunks=2]] turn {number}: the {words} and what comes with it, said at some length so that it is a turn"
    await socket.send(json.dumps({"type": "chat.send", "content": said}))
    entry = ""
    while (frame := json.loads(await socket.recv()))["type"] != "run.completed":
        entry = frame.get("entry", entry) if frame["type"] == "run.started" else entry
    return entry


async def conversation(turns: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(folder)
        try:
            async with server.connect("long") as socket:
                found = await _measured(socket, server.process.pid, turns)
            found["disk_kib_per_1000_turns"] = round(disk_kib(folder) / turns * 1000)
            return found
        finally:
            server.end()


async def _measured(socket: ClientConnection, pid: int, turns: int) -> dict[str, Any]:
    costs, resident, clock = [], [], time.perf_counter()
    entries: list[str] = []
    done = 0
    for _ in range(100):
        entries.append(await turn(socket, done))
        done += 1
    while done < turns:
        before = cpu_s(pid)
        for _ in range(WINDOW):
            entries.append(await turn(socket, done))
            done += 1
        costs.append(round((cpu_s(pid) - before) / WINDOW * 1e6))
        resident.append(round(rss_mb(pid), 1))
    seconds = time.perf_counter() - clock
    await asyncio.sleep(3)  # the index takes the last rows
    hits, times = 0, []
    dice = random.Random(7)
    asked = [dice.randrange(done) for _ in range(200)]
    for number in asked:
        begun = time.perf_counter()
        reply = await ask(socket, type="memory.query", topic=f"{word(2 * number)} {word(2 * number + 1)}", limit=5)
        times.append((time.perf_counter() - begun) * 1e3)
        hits += any(f"turn {number}:" in item["content"] for item in reply["items"])
    return {
        "turns": done, "turns_per_s": round(done / seconds), "cpu_us_per_turn": costs, "rss_mb": resident,
        "last_beside_first": round(statistics.median(costs[-3:]) / statistics.median(costs[:3]), 2),
        "recalled": f"{hits} of {len(asked)} among the first five", "recall_ms_p50": round(statistics.median(times), 2),
        **await _leaves(socket, entries, dice),
    }  # fmt: skip


async def _leaves(socket: ClientConnection, entries: list[str], dice: random.Random) -> dict[str, Any]:
    """To go on from any entry, and to branch there, as the client sees it."""
    leaves: list[float] = []
    branches: list[float] = []
    for number in range(100):
        entry = dice.choice(entries)
        for times, frame in (
            (leaves, {"type": "session.set_leaf", "leaf_id": entry}),
            (branches, {"type": "session.branch", "leaf_id": entry, "new_session": f"branch-{number}"}),
        ):
            begun = time.perf_counter()
            reply = await ask(socket, **frame)
            times.append((time.perf_counter() - begun) * 1e3)
            assert reply["type"] in ("session.leaf", "session.branched"), reply
    return {"set_leaf_ms": _spread(leaves), "branch_ms": _spread(branches)}


async def questions(rows: int) -> dict[str, Any]:
    """Rows over 20 sessions' worth of words: rare ones, and a few that are everywhere."""
    dice = random.Random(3)
    vocabulary = [word(n) for n in range(20_000)]
    common = ["the", "and", "of", "harbour", "light"]
    with tempfile.TemporaryDirectory() as folder:
        clock = SystemClock()
        supervisor = Supervisor(clock, print)
        store = await SqliteStore.open(Path(folder) / "agentd.db", clock=clock, supervisor=supervisor, on_fatal=print)
        texts: list[str] = []
        for seq, start in enumerate(range(0, rows, 1_000), 1):
            made: list[EntryRow] = []
            for n in range(start, min(start + 1_000, rows)):
                text = " ".join([*dice.sample(vocabulary, 10), *dice.sample(common, 3)])
                texts.append(text)
                parent = f"e{n - 1}" if n else None
                made.append(EntryRow(f"e{n}", "s", parent, 0, "user", "message", "user", text, None, n, seq))
            row = SessionRow("s", "default", "local", 1, "running", 0, made[-1].id, 0, None, 1)
            body = json.dumps({"session": "s", "seq": seq}).encode()
            await store.append(Append("s", 1, (Record(seq, seq, 1, "x", body),), (row, *made)))
        begun = time.perf_counter()
        while await store.index(2_000):
            pass
        indexed = time.perf_counter() - begun
        rare: list[float] = []
        mixed: list[float] = []
        first = 0
        for _ in range(300):
            words = dice.choice(texts).split()
            for times, pair in ((rare, words[:2]), (mixed, [dice.choice(words), dice.choice(common)])):
                begun = time.perf_counter()
                found = await store.query("s", leaf=f"e{rows - 1}", topic=" ".join(pair), limit=25)
                times.append((time.perf_counter() - begun) * 1e3)
                first += set(pair) <= set(found[0].row.content.split())
        both = []
        for _ in range(100):
            begun = time.perf_counter()
            await store.query("s", leaf=f"e{rows - 1}", topic=" ".join(dice.sample(common, 2)), limit=25)
            both.append((time.perf_counter() - begun) * 1e3)
        await store.close()
        await supervisor.stop(5)
    return {
        "rows": rows, "index_us_per_row": round(indexed / rows * 1e6, 1),
        "rows_with_both_words_first": f"{first} of 600",
        "rare_words_ms": _spread(rare), "one_common_word_ms": _spread(mixed), "two_common_words_ms": _spread(both),
    }  # fmt: skip


def _spread(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {"p50": round(statistics.median(ordered), 2), "p99": round(ordered[int(len(ordered) * 0.99) - 1], 2)}


def _plot(found: dict[str, Any], path: Path) -> None:
    figure, left = pyplot.subplots(figsize=(7, 3.2))
    turns = [100 + WINDOW * (n + 1) for n in range(len(found["cpu_us_per_turn"]))]
    left.plot(turns, [cost / 1000 for cost in found["cpu_us_per_turn"]], color="#1b6ca8", label="CPU of the server")
    left.set(xlabel="turns of one session", ylabel="ms CPU a turn", ylim=(0, None))
    right = left.twinx()
    right.plot(turns, found["rss_mb"], color="#c0504d", label="resident memory")
    right.set(ylabel="MB", ylim=(0, None))
    figure.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--plot", type=Path, help="write the cost per turn as SVG")
    given = parser.parse_args()
    print(json.dumps(await questions(given.rows), indent=1))
    found = await conversation(given.turns)
    print(json.dumps(found, indent=1))
    if given.plot is not None:
        _plot(found, given.plot)


if __name__ == "__main__":
    asyncio.run(main())
