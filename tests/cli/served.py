"""A server as a child process: started by the command itself, found by what it writes, ended by signals."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

START_S = 20
STOP_S = 15


def child_env(state: Path) -> dict[str, str]:
    """The environment without anything that steers agentd."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AGENTD_", "OPENAI_"))}
    return kept | {"XDG_CONFIG_HOME": str(state), "COLUMNS": "100"}


def start(state: Path) -> tuple[subprocess.Popen[str], str]:
    """The server and what it said at the start, up to the line that says what to try."""
    server = subprocess.Popen(
        [sys.executable, "-m", "agentd", "serve", "--port", "0", "--state-dir", str(state)],
        env=child_env(state), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    return server, "".join(_until(server.stdout, "Try:"))


def _until(stream: IO[str], mark: str) -> Iterator[str]:
    for line in stream:
        yield line
        if line.startswith(mark):
            return


@contextmanager
def served(state: Path) -> Iterator[str]:
    """A running server; what it said at the start."""
    server, said = start(state)
    try:
        yield said
    finally:
        end(server, signal.SIGTERM)


def rest(talk: subprocess.Popen[str], seconds: float) -> tuple[str, str]:
    """What it still says, to its end. `communicate` would miss what a read before has taken into its buffer."""
    assert talk.stdout is not None
    assert talk.stderr is not None
    watch = threading.Timer(seconds, talk.kill)
    watch.start()
    try:
        with talk.stdout, talk.stderr:
            return talk.stdout.read(), talk.stderr.read()
    finally:
        watch.cancel()
        talk.wait(seconds)


def end(server: subprocess.Popen[str], number: int) -> int:
    server.send_signal(number)
    try:
        return server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        server.kill()
        return server.wait()
    finally:
        assert server.stdout is not None
        server.stdout.close()


def agentd(state: Path, *arguments: str, stdin: IO[str] | int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    """A command as a process of its own, for what signals and pipes do to it."""
    return subprocess.Popen(
        [sys.executable, "-m", "agentd", *arguments, "--state-dir", str(state)],
        env=child_env(state), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
