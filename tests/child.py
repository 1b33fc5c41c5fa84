"""A whole server as a child process, and how a test talks to it: the real thing, with everything that can go wrong."""

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from websockets.asyncio.client import ClientConnection, connect

START_S = 20.0
ANSWER_S = 20.0
END_S = 12.0
Frame = dict[str, Any]


class Child:
    """`agentd serve` as a child process on a free port."""

    def __init__(self, state: Path, *env: str, log: Path | None = None, module: str = "agentd") -> None:
        """`env`: settings as NAME=VALUE. `log`: where its log lines go, run after run. `module`: what runs."""
        self.state = state
        self.log = log
        self.module = module
        self.env = {**os.environ, **dict(pair.split("=", 1) for pair in env)}
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    async def start(self) -> None:
        """Return when it listens."""
        async with asyncio.timeout(START_S):
            line = await asyncio.to_thread(self._spawn)
        self.url = line.split()[-1].replace("http", "ws")

    def command(self) -> list[str]:
        return [sys.executable, "-m", self.module, "serve", "--port", "0", "--state-dir", str(self.state)]

    def _spawn(self) -> str:
        stderr: int | IO[bytes] = subprocess.DEVNULL if self.log is None else self.log.open("ab")
        self.process = subprocess.Popen(self.command(), env=self.env, stdout=subprocess.PIPE, stderr=stderr, text=True)
        if not isinstance(stderr, int):
            stderr.close()
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def end(self, number: signal.Signals) -> int:
        """Send the signal and wait; the exit code."""
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.send_signal(number)
        code = self.process.wait(END_S)
        self.process.stdout.close()
        return code

    def kill(self) -> None:
        """Whatever state a test left it in, nothing of it stays."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(END_S)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def open_files(self, limit: int) -> None:
        """How many files it may have open from now on."""
        resource.prlimit(
            self.pid, resource.RLIMIT_NOFILE, (limit, resource.prlimit(self.pid, resource.RLIMIT_NOFILE)[1])
        )

    @property
    def token(self) -> str:
        return (self.state / "token").read_text().strip()

    def address(self, session: str, **query: object) -> str:
        more = "".join(f"&{name}={value}" for name, value in query.items() if value is not None)
        return f"{self.url}/v1/agents/default/stream?session={session}{more}"

    def connect(self, session: str, after: int | None = None, log: str | None = None) -> connect:
        """Frames that a test does not read are no reason to wait at its end, so any number is taken in."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return connect(
            self.address(session, after=after, log=log), additional_headers=headers, max_queue=None, ping_interval=None
        )

    async def http(self, method: str, path: str, token: str | None = None) -> tuple[int, str]:
        """Status and text; without another token with the local one."""
        return await asyncio.to_thread(self._http, method, path, token or self.token)

    def _http(self, method: str, path: str, token: str) -> tuple[int, str]:
        request = urllib.request.Request(
            self.url.replace("ws", "http", 1) + path, method=method, headers={"Authorization": f"Bearer {token}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    def logged(self) -> list[Frame]:
        """Its log lines so far."""
        assert self.log is not None
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


async def until(socket: ClientConnection, wanted: Callable[[Frame], bool]) -> list[Frame]:
    """Frames up to the first that is wanted."""
    frames: list[Frame] = []
    async with asyncio.timeout(ANSWER_S):
        while True:
            frames.append(json.loads(await socket.recv()))
            if wanted(frames[-1]):
                return frames


async def ask(socket: ClientConnection, **frame: Any) -> Frame:
    """The one reply to a request."""
    await socket.send(json.dumps({"id": "q", **frame}))
    return (await until(socket, lambda found: found.get("request") == "q"))[-1]


def of_type(kind: str) -> Callable[[Frame], bool]:
    return lambda frame: bool(frame["type"] == kind)


def facts(frames: list[Frame]) -> list[Frame]:
    return [frame for frame in frames if "seq" in frame and frame["type"] not in ("session.ack", "stream.lagged")]


async def all_facts(child: Child, session: str) -> list[Frame]:
    """Every fact of a session, read from the log over the wire; none when there is no such session."""
    found: list[Frame] = []
    async with child.connect("_server") as socket:
        while True:
            after = found[-1]["seq"] if found else 0
            page = await ask(socket, type="events.read", session=session, after=after, limit=500)
            if page.get("code") == "not_found":
                return []
            assert page["type"] == "events.page", page
            found += page["events"]
            if not page["events"]:
                return found
