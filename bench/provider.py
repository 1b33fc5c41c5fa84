"""CPU per model call of the openai adapter, against the fake server in a process of its own.

    python -m bench.provider [--calls 1000] [--at-once 64] [--chunks 50] [--rounds 3]

Figures are this process's CPU, so the server's is not in them; medians over the rounds, whose order alternates.
`burst`: the server writes the whole reply at once; `split`: a write per chunk without a wait; `paced`: a chunk every
10 ms. The rows `typed` are the package's own typed stream, for comparison. `loop_lag_ms_max` is how long the loop was
kept from its turn while the package was imported in a thread.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from agentd.clock import SystemClock
from agentd.providers.openai import OpenAIProvider
from agentd.providers.provider import Message, ModelRequest

SERVER = Path(__file__).parent.parent / "tests" / "fake_openai.py"
REQUEST = ModelRequest((Message("system", "You are a bench."), Message("user", "hello there")), "answer")
WAYS = {"burst": "", "split": ",split=1", "paced": ",pace_ms=10"}

Call = Callable[[], Awaitable[int]]


class Counted:
    """Counts the chunks of a call."""

    def __init__(self) -> None:
        self.chunks = 0

    def text(self, text: str) -> None:
        self.chunks += 1

    def retry(self, attempt: int, kind: str, wait_ms: int) -> None:
        raise RuntimeError(f"ask {attempt} failed: {kind}")


async def cpu_us_per_call(call: Call, calls: int, at_once: int, chunks: int) -> float:
    """Process CPU per call; every call has to show all of its chunks."""
    left = iter(range(calls))

    async def caller() -> None:
        for _ in left:
            if (shown := await call()) != chunks:
                raise RuntimeError(f"a call showed {shown} chunks of {chunks}")

    begun = time.process_time()
    await asyncio.gather(*(caller() for _ in range(at_once)))
    return (time.process_time() - begun) / calls * 1e6


def adapter_call(provider: OpenAIProvider) -> Call:
    async def call() -> int:
        counted = Counted()
        await provider.complete(REQUEST, counted)
        return counted.chunks

    return call


def typed_call(base_url: str, model: str) -> Call:
    import openai  # here, so that the import of the adapter is measured from nothing

    client = openai.AsyncOpenAI(api_key="bench", base_url=base_url, max_retries=0)

    async def call() -> int:
        shown = 0
        stream = await client.chat.completions.create(
            model=model, stream=True, messages=[{"role": "user", "content": "hello there"}]
        )
        async for chunk in stream:
            shown += bool(chunk.choices and chunk.choices[0].delta.content)
        return shown

    return call


async def lag_ms_of_opening(provider: OpenAIProvider) -> tuple[float, float]:
    """(longest pause of the loop, whole time) in ms while the package is imported and its client made."""
    longest = 0.0
    begun = last = time.perf_counter()
    opening = asyncio.ensure_future(provider.check())
    while not opening.done():
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return longest * 1000, (last - begun) * 1000


async def measured(port: int, args: argparse.Namespace) -> dict[str, object]:
    base_url = f"http://127.0.0.1:{port}/v1"
    first = OpenAIProvider(SystemClock(), key="bench", model="fake:", base_url=base_url)
    lag_ms, opening_ms = await lag_ms_of_opening(first)
    await first.close()
    rows: dict[str, Call] = {}
    providers: list[OpenAIProvider] = []
    for way, options in WAYS.items():
        model = f"fake:chunks={args.chunks}{options}"
        for transport, fast in (("httpx2", False), ("aiohttp", True)):
            made = OpenAIProvider(SystemClock(), key="bench", model=model, base_url=base_url, fast=fast)
            providers.append(made)
            rows[f"{way} {transport}"] = adapter_call(made)
        rows[f"{way} typed"] = typed_call(base_url, model)
    figures: dict[str, list[float]] = {name: [] for name in rows}
    for number in range(args.rounds + 1):  # the first round only warms up
        order = list(rows.items())
        for name, call in order if number % 2 else order[::-1]:
            figure = await cpu_us_per_call(call, args.calls if number else args.at_once, args.at_once, args.chunks)
            if number:
                figures[name].append(figure)
    for made in providers:
        await made.close()
    return {
        "chunks": args.chunks,
        "at_once": args.at_once,
        "calls": args.calls,
        "opening_ms": round(opening_ms),
        "loop_lag_ms_max": round(lag_ms, 1),
        "cpu_us_per_call": {name: round(statistics.median(values)) for name, values in figures.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1_000)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--chunks", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    server = subprocess.Popen([sys.executable, str(SERVER), "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        print(json.dumps(asyncio.run(measured(int(server.stdout.readline()), args)), indent=2))
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
