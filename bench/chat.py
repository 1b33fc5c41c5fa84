"""CPU of a chat turn with 20 deltas beside the floor, in alternated rounds: `python -m bench.chat`.

Server on one core, clients on the other. Every turn is checked: numbers without gaps, deltas that add up to the words,
one end for each run; a breach ends the bench with exit code 1. The machine is shared: trust the ratio and the median.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
from websockets.asyncio.client import connect

decode = msgspec.json.Decoder().decode
ASK = '{"type":"chat.send","id":"1","content":"hello there [[chunks=20]]"}'


class Server:
    """One of the two, as a child process on the first core."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline()
        os.sched_setaffinity(self.process.pid, {0})

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(15)


def check(frames: list[Any], seq: int) -> int:
    """The facts of one turn; the last number. Raises AssertionError, naming the breach."""
    words = ""
    for frame in frames:
        kind = frame["type"]
        if kind == "session.delta":
            assert frame["offset"] == len(words), "a delta is missing"
            words += frame["text"]
        elif "seq" in frame:
            assert frame["seq"] == seq + 1, f"seq {frame['seq']} after {seq}"
            seq += 1
        if kind == "session.receive":
            assert frame["content"] == words, "the deltas do not add up"
    assert sum(frame["type"] == "run.completed" for frame in frames) == 1, "a run ended not once"
    return seq


async def client(url: str, headers: dict[str, str], turns: int, times: list[float], checked: bool) -> None:
    async with connect(url, additional_headers=headers, compression=None, max_queue=None) as socket:
        seq = decode(await socket.recv())["seq"] if checked else 0
        for _ in range(turns):
            begun = time.perf_counter()
            await socket.send(ASK)
            frames: list[Any] = []
            while not frames or frames[-1]["type"] != "run.completed":
                frames.append(decode(await socket.recv()))
            times.append(time.perf_counter() - begun)
            if checked:
                seq = check([frame for frame in frames if frame.get("phase") != "reconnect"], seq)


async def load(address: str, headers: dict[str, str], sessions: int, turns: int, checked: bool) -> list[float]:
    times: list[float] = []
    clients = (client(address.format(n), headers, turns, times, checked) for n in range(sessions))
    await asyncio.gather(*clients)
    return times


def measure(server: Server, address: str, headers: dict[str, str], options: argparse.Namespace, checked: bool) -> float:
    """CPU microseconds of one turn."""
    asyncio.run(load(address, headers, options.sessions, 3, checked))
    cpu, begun = server.cpu_s(), time.perf_counter()
    times = sorted(asyncio.run(load(address, headers, options.sessions, options.turns, checked)))
    spent, wall = server.cpu_s() - cpu, time.perf_counter() - begun
    print(
        f"  {'agentd' if checked else 'floor ':6}  {spent / len(times) * 1e6:6.0f} µs CPU a turn"
        f"  {len(times) / wall:6.0f} turns/s  p50 {times[len(times) // 2] * 1e3:6.1f} ms"
        f"  p99 {times[len(times) * 99 // 100] * 1e3:6.1f} ms"
    )
    return spent / len(times) * 1e6


def counters(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
        lines = [line.split() for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines if name.endswith("_total")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fresh", action="store_true", help="new sessions in each round: else they grow, and recall")
    options = parser.parse_args()
    os.sched_setaffinity(0, {1} if len(os.sched_getaffinity(0)) > 1 else {0})
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        serve = [sys.executable, "-m", "agentd", "serve", "--port", "0", "--state-dir", str(state / "agentd")]
        agentd, floor = Server(serve), Server([sys.executable, "-m", "bench.floor", folder])
        try:
            url = agentd.first_line.split()[-1]
            headers = {"Authorization": f"Bearer {(state / 'agentd' / 'token').read_text().strip()}"}
            ours = url.replace("http", "ws") + "/v1/agents/default/stream?session="
            theirs = f"ws://127.0.0.1:{floor.first_line.strip()}/{{}}"
            before = counters(url)
            for number in range(options.rounds):
                base = measure(floor, theirs, {}, options, False)
                sessions = f"{ours}chat{number if options.fresh else ''}.{{}}"
                ratios.append(measure(agentd, sessions, headers, options, True) / base)
            after = counters(url)
        finally:
            agentd.stop()
            floor.stop()
    turns = (options.turns + 3) * options.sessions * options.rounds
    for name in ("facts", "appends", "commits"):
        more = after[f"agentd_{name}_total"] - before[f"agentd_{name}_total"]
        print(f"  {name} a turn: {more / turns:.2f}")
    print(f"  agentd beside the floor: {statistics.median(ratios):.2f} times its CPU (median of {options.rounds})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
