"""Damaged files under a server that was killed: it starts, says so, keeps what can be read, and goes on (S22)."""

import asyncio
import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.child import Frame, all_facts, ask, facts, of_type, until
from tests.faults.conftest import MAKE

TURNS = 12
PAGE = 4096


def middle(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // PAGE * PAGE)
        file.write(random.Random(7).randbytes(2 * PAGE))


def header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"damaged" * 20)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def nothing(path: Path) -> None:
    os.truncate(path, 0)


def noise(path: Path) -> None:
    path.write_bytes(random.Random(7).randbytes(path.stat().st_size))


def a_few_bits(path: Path) -> None:
    chance = random.Random(7)
    data = bytearray(path.read_bytes())
    for _ in range(40):
        data[chance.randrange(200, len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


# Which file, what is done to it, and whether that is damage (a log that ends early is what every crash leaves).
DAMAGE: dict[str, tuple[str, Callable[[Path], None], bool]] = {
    "a page of the file": ("agentd.db", middle, True),
    "the header of the file": ("agentd.db", header, True),
    "half of the file": ("agentd.db", cut, True),
    "noise for the file": ("agentd.db", noise, True),
    "an empty file beside a log": ("agentd.db", nothing, True),
    "a few bits of the log": ("agentd.db-wal", a_few_bits, True),
    "half of the log": ("agentd.db-wal", cut, False),
    "noise for the log": ("agentd.db-wal", noise, False),
}


@pytest.mark.parametrize(("name", "damage", "told"), DAMAGE.values(), ids=DAMAGE)
async def test_a_damaged_file_costs_no_start_and_nothing_that_could_be_read(
    make: MAKE, name: str, damage: Callable[[Path], None], told: bool
) -> None:
    """Half of the facts lie in the file, half in its write-ahead log."""
    server = make()
    await server.start()
    before: list[Frame] = []
    log = ""
    for half in ("in the file", "in the log"):
        async with server.connect("kept") as socket:
            log = (await until(socket, of_type("session.ack")))[0]["log"]
            words = "hello " * (3_000 if half == "in the file" else 1)
            for _ in range(TURNS // 2):
                assert (await ask(socket, type="chat.send", content=words, wait=True))["state"] == "completed"
        before = await all_facts(server, "kept")
        if half == "in the file":
            assert await asyncio.to_thread(server.end, signal.SIGTERM) == 0
            await server.start()
    server.kill()
    await asyncio.to_thread(damage, server.state / name)
    await server.start()
    async with server.connect("kept", after=0, log=log) as socket:
        ack = (await until(socket, of_type("session.ack")))[0]
        kept = await all_facts(server, "kept")
        check_prefix(before, kept)
        assert len(kept) >= len(before) or damage is not header, "without its header all of it can be read"
        notices = {notice["code"]: notice["message"] for notice in ack["warnings"]}
        assert ("quarantined" in notices) is told
        assert (ack["log"] != log) is told
        assert (ack.get("reset") == "other_log") is told
        assert (await ask(socket, type="chat.send", content="still there?", wait=True))["state"] == "completed"
    acts = [fact for fact in await all_facts(server, "_server") if fact["type"] == "server.quarantined"]
    assert len(acts) == told
    if told:
        folder = server.state / "quarantine" / acts[0]["folder"]
        assert (folder / name).exists()
        assert acts[0]["notes"]
    server.kill()
    await server.start()
    after = await all_facts(server, "kept")
    assert [fact["seq"] for fact in after] == list(range(1, len(after) + 1))
    assert len(after) > len(kept)
    assert facts(after) == after


def check_prefix(before: list[Frame], kept: list[Frame]) -> None:
    """What is there is what was there, from the first fact on, up to where this start's recovery goes on."""
    for was, found in zip(before, kept, strict=False):
        if was != found:
            assert found["by"]["via"] == "recovery"
            return


async def test_damage_met_while_the_server_runs_is_told_and_mended_by_the_next_start(make: MAKE) -> None:
    server = make()
    await server.start()
    async with server.connect("kept") as socket:
        for turn in range(TURNS):
            await ask(socket, type="chat.send", content=f"hello {turn} " + "x" * 20_000, wait=True)
    assert await asyncio.to_thread(server.end, signal.SIGTERM) == 0
    await server.start()
    database = server.state / "agentd.db"
    size = database.stat().st_size
    with database.open("r+b") as file:
        for page in range(8, size // PAGE - 8):
            file.seek(page * PAGE)
            file.write(b"\x55" * PAGE)
    with pytest.raises(InvalidStatus) as refused:
        async with server.connect("kept"):
            pass
    assert refused.value.response.status_code == 503
    error = json.loads(refused.value.response.body or b"")
    assert error["code"] == "storage_unavailable"
    assert "the database is damaged" in error["message"]
    assert "restart agentd" in error["hint"]
    server.kill()
    await server.start()
    async with server.connect("kept") as socket:
        ack = (await until(socket, of_type("session.ack")))[0]
        assert "quarantined" in {notice["code"] for notice in ack["warnings"]}
        assert (await ask(socket, type="chat.send", content="still there?", wait=True))["state"] == "completed"
