"""The doctor's full look at a database: what it finds, and that it writes nothing."""

import os
from pathlib import Path

import pytest

from agentd.store.check import full_check
from tests.store.making import opened, session_row, step
from tests.store.test_opening import edit, filled, page_of, spoil


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agentd.db"


def state_of(folder: Path) -> dict[str, bytes]:
    return {item.name: item.read_bytes() for item in folder.iterdir()}


async def test_a_sound_database_is_said_to_be_sound_and_is_not_touched(path: Path) -> None:
    await filled(path, steps=5)
    before = state_of(path.parent)
    findings = full_check(path)
    assert [(finding.health, finding.what) for finding in findings] == [("ok", "the database is sound")]
    assert state_of(path.parent) == before


def test_no_database_is_a_warning(path: Path) -> None:
    assert [finding.health for finding in full_check(path)] == ["warning"]


async def test_every_finding_of_an_unsound_database_names_a_remedy(path: Path) -> None:
    await filled(path, steps=10)
    edit(path, lambda c: c.execute("DELETE FROM events WHERE seq = 4"))
    edit(path, lambda c: c.execute("UPDATE events SET body = 'x' WHERE seq = 7 AND session = 2"))
    edit(
        path, lambda c: c.execute("UPDATE events SET body = CAST('{\"seq\":1}' AS BLOB) WHERE seq = 8 AND session = 3")
    )
    findings = full_check(path)
    said = " ".join(finding.what for finding in findings)
    assert all(finding.health == "error" and finding.remedy for finding in findings)
    assert "session s0: 1 facts missing in 1..10" in said
    assert "fact 7 of session s1: its body is no frame" in said
    assert "fact 8 of session s2: its body is of session None, seq 1" in said


async def test_damage_in_pages_and_length_is_found(path: Path) -> None:
    await filled(path, steps=20)
    sound = path.read_bytes()  # noqa: ASYNC240
    spoil(path, page_of(path, "<s1.5>")[0])
    assert {finding.health for finding in full_check(path)} == {"error"}
    path.write_bytes(sound)  # noqa: ASYNC240
    os.truncate(path, len(sound) - 8192)
    assert "cut short" in full_check(path)[0].what
    path.write_bytes(b"nonsense" * 1000)  # noqa: ASYNC240
    assert "does not begin like a database" in full_check(path)[0].what


async def test_a_newer_database_and_a_missing_index_are_told(path: Path) -> None:
    async with opened(path) as store:
        await store.append(step("a", 1, rows=(session_row("a"),)))
    edit(path, lambda c: c.execute("DROP INDEX keys_ts"))
    assert "keys_ts" in full_check(path)[0].what
    edit(path, lambda c: c.execute("PRAGMA user_version = 9"))
    assert "newer" in full_check(path)[0].what
    edit(path, lambda c: c.execute("PRAGMA user_version = 0"))
    assert full_check(path)[0].health == "error" or "updates it" in full_check(path)[0].remedy


async def test_what_lies_in_the_write_ahead_log_is_read_and_left_there(path: Path) -> None:
    copy = path.with_name("copy") / "agentd.db"
    copy.parent.mkdir()
    async with opened(path) as store:
        for seq in range(1, 11):
            await store.append(step("a", seq, rows=(session_row("a"),)))
        for suffix in ("", "-wal"):
            copy.with_name(copy.name + suffix).write_bytes(path.with_name(path.name + suffix).read_bytes())
    before = state_of(copy.parent)
    assert full_check(copy)[0].health == "ok"
    after = state_of(copy.parent)
    assert {name: after[name] for name in before} == before
