"""A server for each test, and what has to be true of it whatever was done to it."""

import asyncio
import json
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.child import Child
from tests.fake_openai import Fake

MAKE = Callable[..., "Faulty"]
MODEL = tuple[Fake, tuple[str, ...]]


class Faulty(Child):
    """A server around which things go wrong; see faulty.py."""

    def __init__(self, folder: Path, *env: str) -> None:
        super().__init__(
            folder / "state", "AGENTD_HEARTBEAT__ENABLED=false", f"FAULTS={folder / 'faults.json'}", *env,
            log=folder / "log", module="tests.faults.faulty",
        )  # fmt: skip
        self.faults = folder / "faults.json"

    def wrong(self, **faults: Any) -> None:
        """From now on this is wrong, and nothing else."""
        fresh = self.faults.with_suffix(".new")
        fresh.write_text(json.dumps(faults), encoding="utf-8")
        fresh.replace(self.faults)

    def sound(self) -> None:
        """It lives, has thrown nothing, and goes in order."""
        assert self.end(signal.SIGTERM) == 0
        assert not self.faulty_lines()

    def faulty_lines(self) -> list[dict[str, Any]]:
        return [line for line in self.logged() if "exception" in line]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[MAKE]:
    """Makes servers; those that a test leaves running have to end in order and without a traceback in their log."""
    made: list[Faulty] = []

    def one(*env: str, state: Path | None = None, **faults: Any) -> Faulty:
        server = Faulty(tmp_path, *env)
        server.state = state or server.state
        server.wrong(**faults)
        made.append(server)
        return server

    yield one
    for server in made:
        try:
            if server.process is not None and server.process.poll() is None:
                await asyncio.to_thread(server.sound)
            elif server.log is not None and server.log.exists():
                assert not server.faulty_lines()
        finally:
            server.kill()


@pytest.fixture
async def model() -> AsyncIterator[MODEL]:
    """A model's server, well behaved until it is told otherwise, and the settings that use it."""
    fake = Fake()
    async with await fake.serve() as listening:
        port = listening.sockets[0].getsockname()[1]
        yield fake, (
            "AGENTD_PROVIDER__NAME=openai", "AGENTD_MODEL=fake", "OPENAI_API_KEY=sk-none",
            f"OPENAI_BASE_URL=http://127.0.0.1:{port}/v1",
        )  # fmt: skip
        fake.end()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB, which only root can mount."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("NOT RUN: a small file system can't be mounted here (needs root)")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
