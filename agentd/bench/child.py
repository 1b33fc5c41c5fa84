"""The servers that are measured, as child processes on a core of their own: agentd and the floor.

Each has a temporary state directory of its own and a free port. They are ended by their process and waited for, also
when a scenario fails or Ctrl-C ends the bench (which they don't see themselves); nothing of them stays.
"""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from agentd.bench.machine import pin

START_S = 30.0
END_S = 15.0


class NotStarted(Exception):
    """A server that should be measured could not be started or reached; the text says why."""


class Server(msgspec.Struct, frozen=True):
    """A server that answers at `url`. `pid` is None when it is not on this machine; `started_s`: how long it took."""

    url: str
    token: str | None
    pid: int | None
    started_s: float = 0.0
    floor: bool = False


@asynccontextmanager
async def agentd_server(core: Sequence[int], settings: Mapping[str, str]) -> AsyncIterator[Server]:
    """`agentd serve` with `settings` (AGENTD_SECTION__KEY: value) over the defaults, offline. Raises NotStarted."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AGENTD_", "OPENAI_"))}
    with tempfile.TemporaryDirectory(prefix="agentd-bench-") as folder:
        command = ["-m", "agentd", "serve", "--port", "0", "--state-dir", folder, "--provider", "offline"]
        async with _process(command, {**env, **settings}, core) as (pid, line, took_s):
            token = (Path(folder) / "token").read_text(encoding="utf-8").strip()
            yield Server(line.split()[-1], token, pid, took_s)


@asynccontextmanager
async def floor_server(core: Sequence[int]) -> AsyncIterator[Server]:
    """The floor (agentd/bench/floor.py). Raises NotStarted."""
    with tempfile.TemporaryDirectory(prefix="agentd-floor-") as folder:
        async with _process(["-m", "agentd.bench.floor", folder], dict(os.environ), core) as (pid, line, took_s):
            yield Server(f"http://127.0.0.1:{line.strip()}", None, pid, took_s, floor=True)


@asynccontextmanager
async def _process(
    command: Sequence[str], env: Mapping[str, str], core: Sequence[int]
) -> AsyncIterator[tuple[int, str, float]]:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    with tempfile.TemporaryFile() as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, env=env, stdout=asyncio.subprocess.PIPE, stderr=errors, start_new_session=True,
        )  # fmt: skip
        try:
            pin(process.pid, core)
            line = await _first_line(process)
            if not line:
                errors.seek(0)
                said = errors.read()[-2_000:].decode("utf-8", "replace").strip()
                raise NotStarted(f"the server did not start: {said or 'it said nothing'}")
            yield process.pid, line, loop.time() - began_s
        finally:
            await _ended(process)


async def _first_line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            return (await process.stdout.readline()).decode().strip()
    except TimeoutError:
        return ""


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(END_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
