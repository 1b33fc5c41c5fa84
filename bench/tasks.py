"""What a task of a plan costs: CPU, facts and commits of goals with many tasks, offline; and `state` under 1,000 goals.

    python -m bench.tasks [--goals 20]

The task's own work (the offline provider's reply, made from the same prompt) is measured apart, in this process, and
taken off. Growth is the same figure for 10 and 200 tasks, and for 10 and 1,000 sessions.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from typing import Any

from websockets.asyncio.client import ClientConnection

from agentd.clock import SystemClock
from agentd.providers.offline import OfflineProvider
from agentd.providers.provider import Message, ModelRequest
from bench.memory import Server, cpu_s


def goal(tasks: int) -> str:
    return "; ".join(f"name thing {n}" for n in range(tasks))


async def run(socket: ClientConnection, words: str) -> None:
    await socket.send(json.dumps({"type": "agent.control", "action": "goal", "goal": f"[[chunks=1]] {words}"}))
    while json.loads(await socket.recv())["type"] not in ("run.completed", "run.failed"):
        pass


async def cost(sessions: int, goals: int, tasks: int) -> dict[str, float]:
    """All sessions at once, each so many goals of so many tasks."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(folder)
        try:
            sockets = [await server.connect(f"s{n}") for n in range(sessions)]
            await run(sockets[0], goal(3))
            before = {name: server.figure(f"agentd_{name}_total") for name in ("facts", "commits")}
            cpu, clock = cpu_s(server.process.pid), time.perf_counter()

            async def work(socket: ClientConnection) -> None:
                for _ in range(goals):
                    await run(socket, goal(tasks))

            await asyncio.gather(*map(work, sockets))
            done, seconds = sessions * goals * tasks, time.perf_counter() - clock
            cpu = cpu_s(server.process.pid) - cpu
            found = {name: (server.figure(f"agentd_{name}_total") - old) / done for name, old in before.items()}
            for socket in sockets:
                await socket.close()
            return {
                "cpu_us_per_task": round(cpu / done * 1e6, 1), "facts_per_task": round(found["facts"], 2),
                "commits_per_task": round(found["commits"], 3), "facts_per_s": round(found["facts"] * done / seconds),
            }  # fmt: skip
        finally:
            server.end()


async def own_work() -> float:
    """CPU µs of the offline provider's reply to a task's prompt."""

    class Unheard:
        def text(self, text: str) -> None:
            pass

        def retry(self, attempt: int, kind: str, wait_ms: int) -> None:
            pass

    provider = OfflineProvider(SystemClock(), pace_ms=0)
    words = "Task: name thing 7\n\n[[chunks=1]]"
    request = ModelRequest(messages=(Message("system", "x" * 2_000), Message("user", words)), purpose="task")
    times = []
    for _ in range(5):
        cpu = time.process_time()
        for _ in range(400):
            await provider.complete(request, Unheard())
        times.append((time.process_time() - cpu) / 400 * 1e6)
    return statistics.median(times)


async def state_under_load(sessions: int) -> dict[str, float]:
    """`state` on a socket of its own while so many sessions have a goal each."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(folder)
        try:
            sockets = [await server.connect(f"s{n}") for n in range(sessions)]
            async with server.connect("operator") as operator:
                await run(operator, goal(2))
                work = asyncio.gather(*(run(socket, goal(10)) for socket in sockets))
                times: list[float] = []
                while not work.done():
                    begun = time.perf_counter()
                    await operator.send(json.dumps({"type": "agent.control", "action": "state", "id": "q"}))
                    while json.loads(await operator.recv()).get("request") != "q":
                        pass
                    times.append((time.perf_counter() - begun) * 1e3)
                    await asyncio.sleep(0.02)
                await work
            for socket in sockets:
                await socket.close()
            times.sort()
            return {
                "asked": len(times), "p50_ms": round(statistics.median(times), 1),
                "p99_ms": round(times[int(len(times) * 0.99) - 1], 1),
            }  # fmt: skip
        finally:
            server.end()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--goals", type=int, default=10)
    given = parser.parse_args()
    own = await own_work()
    found: dict[str, Any] = {"own_work_us": round(own, 1)}
    for tasks in (10, 50, 200):
        found[f"{tasks} tasks, 1 session"] = await cost(1, max(given.goals * 200 // tasks, 1), tasks)
    for sessions in (10, 100, 1_000):
        found[f"10 tasks, {sessions} sessions"] = await cost(sessions, max(1_000 // sessions, 1), 10)
    found["state under 1,000 goals"] = await state_under_load(1_000)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    asyncio.run(main())
