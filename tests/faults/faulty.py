"""A server with something wrong around it: `python -m tests.faults.faulty serve ...` is `agentd serve ...` with faults.

What can't be done to a process from outside (a disk that is slow, a wall clock that jumps, deadlines short enough for a
test) is put in at the seams where the world comes in. The file named by the variable FAULTS says what is wrong now, as
JSON; it is read again at each use, so a test changes it while the server runs:

    clock_ms     added to the wall clock
    commit_s     each commit takes so much longer
    max_pages    the database may not grow beyond so many pages (0: as it likes)
    read_only    the database takes no writes
    synchronous  what the database says of its setting, whatever was asked for
    edge         fields of agentd.edge.limits.Limits, read once at the start
"""

import json
import os
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from agentd import app, wiring
from agentd.cli.main import run
from agentd.clock import SystemClock
from agentd.edge.limits import Limits
from agentd.protocol.errors import AgentdError
from agentd.settings import Settings
from agentd.store import connection as connections
from agentd.store.store import Append
from agentd.store.writing import BatchWriter

UNLIMITED_PAGES = 0xFFFFFFFE
_said = Path(os.environ["FAULTS"])
_clock, _commit, _set, _limits = SystemClock.now_ms, BatchWriter.commit, connections._set, wiring.edge_limits


def now() -> dict[str, Any]:
    """What is wrong now."""
    try:
        return dict(json.loads(_said.read_bytes()))
    except (OSError, ValueError):
        return {}


def now_ms(self: SystemClock) -> int:
    return _clock(self) + int(now().get("clock_ms", 0))


def commit(self: BatchWriter, connection: sqlite3.Connection, batch: list[Append]) -> list[AgentdError | None]:
    wrong = now()
    if "max_pages" in wrong:
        connection.execute(f"PRAGMA max_page_count = {wrong['max_pages'] or UNLIMITED_PAGES}")
    connection.execute(f"PRAGMA query_only = {int(wrong.get('read_only', False))}")
    time.sleep(wrong.get("commit_s", 0))
    return _commit(self, connection, batch)


def settings_of(connection: sqlite3.Connection, settings: dict[str, str | int]) -> dict[str, str | int]:
    told = _set(connection, settings)
    return told | {name: value for name, value in now().items() if name in told}


def edge_limits(settings: Settings) -> Limits:
    return msgspec.structs.replace(_limits(settings), **now().get("edge", {}))


if __name__ == "__main__":
    SystemClock.now_ms = now_ms  # type: ignore[method-assign]
    BatchWriter.commit = commit  # type: ignore[method-assign]
    connections._set = settings_of
    app.edge_limits = edge_limits  # type: ignore[attr-defined]
    sys.exit(run(sys.argv[1:]))
