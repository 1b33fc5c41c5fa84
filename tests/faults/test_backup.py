"""A backup of a busy server restores to the same facts, under another log, and the server did not notice (L18)."""

import asyncio
import json
import os
import shutil
import signal
import time
from pathlib import Path

from tests.child import Frame, all_facts, ask, of_type, until
from tests.faults.conftest import MAKE, Faulty

SESSIONS = 6
FILL_MB = int(os.environ.get("AGENTD_BACKUP_MB", "8"))
P99_FACTOR = 8.0  # of a quiet server's p99, on a machine that may have other work


async def test_a_backup_under_load_restores_to_the_same_facts_of_all_sessions(make: MAKE, tmp_path: Path) -> None:
    server = make("AGENTD_LIMITS__CHAT_BYTES=1000000")
    await server.start()
    await fill(server)
    over = asyncio.Event()
    quiet: list[float] = []
    busy: list[float] = []
    waits = quiet

    async def talk(number: int) -> None:
        async with server.connect(f"talk{number}") as socket:
            turn = 0
            while not over.is_set():
                began = time.monotonic()
                content = f"/goal a{turn}; b" if number == 0 else f"hello {turn}"
                assert (await ask(socket, type="chat.send", content=content, wait=True))["state"] == "completed"
                waits.append(time.monotonic() - began)
                turn += 1

    async with asyncio.TaskGroup() as group:
        for number in range(SESSIONS):
            group.create_task(talk(number))
        while len(quiet) < 300:  # noqa: ASYNC110
            await asyncio.sleep(0)
        waits = busy
        status, body = await server.http("POST", "/v1/backup")
        waits = []
        over.set()
    assert status == 200, body
    made = json.loads(body)
    print(
        f"backup of {made['bytes'] / 1e6:.0f} MB in {made['duration_ms']} ms;",
        f"quiet {line(quiet)}; busy {line(busy)}",
    )
    assert percentile(busy, 0.99) < P99_FACTOR * percentile(quiet, 0.99) + 0.05
    sessions = ["_server", "fill", *(f"talk{number}" for number in range(SESSIONS))]
    before = {session: await all_facts(server, session) for session in sessions}
    assert await asyncio.to_thread(server.end, signal.SIGTERM) == 0
    restored = await restore(server, tmp_path / "restored", Path(made["path"]))
    after = {session: await all_facts(restored, session) for session in sessions}
    kept = {session: common(before[session], after[session]) for session in sessions}
    assert sum(kept.values()) == made["facts"], "the copy is a prefix of each session, whole to its last fact"
    for session in sessions:  # what follows is the restored server's own: its start, and what it recovered
        assert [fact["seq"] for fact in after[session]] == list(range(1, len(after[session]) + 1))
        assert all(fact["ts"] >= before["_server"][0]["ts"] for fact in after[session][kept[session] :])
    await check_cursor(restored, made["log"], before["talk1"])


async def restore(server: Faulty, state: Path, copy: Path) -> Faulty:
    """The same server, on a new state directory that holds the copy and the old tokens."""
    os.mkdir(state, 0o700)
    shutil.copy(copy, state / "agentd.db")
    shutil.copy(server.state / "token", state / "token")
    server.state = state
    await server.start()
    return server


def common(one: list[Frame], other: list[Frame]) -> int:
    """How many facts they begin with alike."""
    return next(
        (place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]),
        min(len(one), len(other)),
    )


async def check_cursor(server: Faulty, log: str, before: list[Frame]) -> None:
    """A cursor of the original means nothing in the copy."""
    async with server.connect("talk1", after=5, log=log) as socket:
        ack = (await until(socket, of_type("session.ack")))[0]
        assert (ack["reset"], ack["log"] != log) == ("other_log", True)
        assert "restored" in {notice["code"] for notice in ack["warnings"]}
        assert (await until(socket, of_type("session.created")))[-1] == before[0]
        assert (await ask(socket, type="chat.send", content="go on", wait=True))["state"] == "completed"


async def fill(server: Faulty) -> None:
    """So much that a copy takes a while."""
    async with server.connect("fill") as socket:
        for _ in range(FILL_MB * 2):
            reply = await ask(socket, type="chat.send", content="[[chunks=1]]" + "x" * 400_000, wait=True)
            assert reply["type"] == "run.result", reply


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def line(values: list[float]) -> str:
    return ", ".join(f"p{round(share * 100)} {percentile(values, share) * 1000:.1f} ms" for share in (0.5, 0.99)) + (
        f" of {len(values)}"
    )
