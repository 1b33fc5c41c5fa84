"""Looks at the identity files: shared within a turn of the loop, never older."""

import asyncio
import os
from pathlib import Path

import pytest

from agentd.actors.identity_files import IdentityFiles

LATER_NS = 1_000_000_000


@pytest.fixture
def soul(tmp_path: Path) -> Path:
    path = tmp_path / "SOUL.md"
    path.write_text("I am calm.")
    return path


def edit(path: Path, text: str) -> None:
    """Another text of the same length, at a time that a coarse file system can tell from the one before."""
    at = path.stat().st_mtime_ns + LATER_NS
    path.write_text(text)
    os.utime(path, ns=(at, at))


async def turn_of_loop() -> None:
    turned = asyncio.Event()
    asyncio.get_running_loop().call_soon(turned.set)
    await turned.wait()


async def test_an_edit_is_seen_by_whoever_was_scheduled_after_it(tmp_path: Path, soul: Path) -> None:
    files = IdentityFiles(tmp_path, 10_000)
    assert (await files.read("a")).text == "I am calm."
    files.current("a")  # a look that others of this turn of the loop may share
    edit(soul, "I am glad.")
    await turn_of_loop()
    assert (await files.read("a")).text == "I am glad."


async def test_those_who_ask_in_one_turn_of_the_loop_share_a_look(
    tmp_path: Path, soul: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = IdentityFiles(tmp_path, 10_000)
    await files.read("a")
    await turn_of_loop()
    real, looked = os.stat, list[str]()

    def stat(path: str) -> os.stat_result:
        looked.append(path)
        return real(path)

    monkeypatch.setattr(os, "stat", stat)
    assert files.current("a") is files.current("a")
    assert looked.count(str(soul)) == 1
    await turn_of_loop()
    files.current("a")
    assert looked.count(str(soul)) == 2


async def test_a_file_of_the_agents_own_counts_before_the_common_one(tmp_path: Path, soul: Path) -> None:
    files = IdentityFiles(tmp_path, 10_000)
    common = await files.read("a")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "SOUL.md").write_text("I am a.")
    await turn_of_loop()
    assert (await files.read("a")).text == "I am a."
    assert (await files.read("b")).text == common.text
