"""The clients' processes: started with their part of a load, sent off at one moment, watched, put together.

There is one process for each core that is not the server's; they are pinned to those cores, as this process is.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence

import msgspec

from agentd.bench.load import Job, Outcome, joined
from agentd.bench.machine import pin
from agentd.bench.schedule import Part, total_s
from agentd.bench.worker import Said, Start
from agentd.supervisor import Supervisor

PROCESSES_MAX = 16
READY_S = 60.0
SLACK_S = 30.0
LINE_BYTES = 64 << 20

Progress = Callable[[float, int], None]
"""Share of the load that is done, and requests on their way."""


class CrewFailed(Exception):
    """A clients' process could not do its part; the text says why."""


class Crew:
    """The processes of one load."""

    def __init__(self, supervisor: Supervisor, cores: Sequence[int], progress: Progress) -> None:
        self._supervisor = supervisor
        self._cores = list(cores)
        self._progress = progress
        self._processes: list[asyncio.subprocess.Process] = []
        self._done = False

    async def ready(self, job: Job) -> None:
        """Start the processes and wait until all sockets are open. Raises CrewFailed."""
        count = min(len(self._cores), len(job.sessions), PROCESSES_MAX)
        for index in range(count):
            part = msgspec.structs.replace(job, sessions=job.sessions[index::count], part=Part(index, count))
            self._processes.append(await self._start(part, self._cores[index]))
        for process in self._processes:
            said = await self._line(process, READY_S)
            if not said.ready:
                raise CrewFailed(said.failed or "a clients' process is not ready")
        self._timeout_s = total_s(job.segments) + job.drain_s + SLACK_S

    async def run(self, start_s: float) -> Outcome:
        """Begin the load at this moment of the machine's monotonic clock; what it came to. Raises CrewFailed."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(msgspec.json.encode(Start(start_s)) + b"\n")
        tasks = [self._supervisor.start(f"bench.client{i}", self._outcome(p)) for i, p in enumerate(self._processes)]
        outcomes = list(await asyncio.gather(*tasks))
        self._done = True
        return joined(outcomes)

    async def end(self) -> None:
        """Whatever state they are in, they are gone afterwards; at once when they have not brought their outcome."""
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()
            if not self._done and process.returncode is None:
                process.kill()
        for process in self._processes:
            try:
                async with asyncio.timeout(5.0):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    async def _start(self, part: Job, core: int) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agentd.bench.worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_BYTES, start_new_session=True,
        )  # fmt: skip
        pin(process.pid, {core})
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(part) + b"\n")
        return process

    async def _outcome(self, process: asyncio.subprocess.Process) -> Outcome:
        while True:
            said = await self._line(process, self._timeout_s)
            if said.outcome is not None:
                return said.outcome
            if said.share is not None:
                self._progress(said.share, said.open)

    async def _line(self, process: asyncio.subprocess.Process, timeout_s: float) -> Said:
        assert process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                line = await process.stdout.readline()
        except TimeoutError:
            raise CrewFailed(f"a clients' process said nothing for {timeout_s:.0f} s") from None
        if not line:
            raise CrewFailed("a clients' process ended without its outcome")
        return msgspec.json.decode(line, type=Said)
