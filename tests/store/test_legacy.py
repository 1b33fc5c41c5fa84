"""The older JSON format: read in order, each fault told with its reason, nothing outside the directory opened (S9)."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from agentd.store import legacy
from agentd.store.legacy import INDEX, Legacy, Skipped, read_legacy


def snapshot(session: str, ts: int, *texts: str, **more: Any) -> dict[str, Any]:
    entries = [
        {"id": n, "role": "user" if n % 2 else "assistant", "state": "active", "content": text, "related_to": None}
        for n, text in enumerate(texts, 1)
    ]
    return {
        "version": 1, "timestamp_ms": ts, "session_id": session, "reason": "shutdown", "next_id": len(texts) + 1,
        "entries": entries, "summaries": [], **more,
    }  # fmt: skip


def archive(folder: Path, *snapshots: dict[str, Any]) -> None:
    """Snapshot files and an index that names them."""
    with (folder / INDEX).open("a") as index:
        for one in snapshots:
            name = f"{one['session_id']}-{one['timestamp_ms']}.json"
            (folder / name).write_text(json.dumps(one))
            index.write(json.dumps(line_of(one, name)) + "\n")


def line_of(one: dict[str, Any], name: str) -> dict[str, Any]:
    return {
        "version": 1, "timestamp_ms": one["timestamp_ms"], "session_id": one["session_id"], "reason": one["reason"],
        "archive_path": name, "next_id": one["next_id"], "entry_count": len(one["entries"]), "summary_count": 0,
    }  # fmt: skip


def read(folder: Path) -> tuple[list[Legacy], list[Skipped]]:
    found = list(read_legacy(folder))
    return [one for one in found if isinstance(one, Legacy)], [one for one in found if isinstance(one, Skipped)]


def test_snapshots_come_in_the_order_of_their_times(tmp_path: Path) -> None:
    archive(tmp_path, snapshot("b", 2, "two"), snapshot("a", 1, "one", "and"), snapshot("a", 3, "three"))
    good, bad = read(tmp_path)
    assert [(one.session_id, one.timestamp_ms) for one in good] == [("a", 1), ("b", 2), ("a", 3)]
    assert [entry.content for entry in good[0].entries] == ["one", "and"]
    assert not bad


def test_entries_may_be_arrays_in_the_order_of_their_fields(tmp_path: Path) -> None:
    one = snapshot("a", 1, entries=[[7, "user", "tombstone", "hi", None]], summaries=[[1, 7, "greeted", 5]])
    archive(tmp_path, one)
    (good,), _ = read(tmp_path)
    assert (good.entries[0].id, good.entries[0].state, good.entries[0].content) == (7, "tombstone", "hi")
    assert (good.summaries[0].source_id, good.summaries[0].text) == (7, "greeted")


def test_what_is_wrong_is_told_and_stops_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(legacy, "SNAPSHOT_BYTES_MAX", 2_000)
    outside = tmp_path / "outside.json"
    outside.write_text(json.dumps(snapshot("a", 1)))
    folder = tmp_path / "old"
    folder.mkdir()
    archive(folder, snapshot("good", 9, "words"), snapshot("large", 2, "x" * 3_000))
    faults = [
        "{half",
        "[]",
        "\xff",
        json.dumps({**line_of(snapshot("a", 3), "missing.json"), "version": 2}),
        json.dumps(line_of(snapshot("a", 4), "missing.json")),
        json.dumps(line_of(snapshot("a", 5), "../outside.json")),
        json.dumps(line_of(snapshot("a", 6), "/etc/passwd")),
        json.dumps(line_of(snapshot("other", 9), "good-9.json")),
        "x" * (legacy.LINE_BYTES_MAX + 10),
        "",
    ]
    with (folder / INDEX).open("ab") as index:
        for fault in faults:
            index.write(fault.encode("latin-1") + b"\n")
    archive(folder, snapshot("last", 10, "still read"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    good, bad = read(folder)
    assert [one.session_id for one in good] == ["good", "last"]
    assert len(bad) == len(faults), "all but the empty line, and the large file"
    told = " | ".join(f"{one.place}: {one.reason}" for one in bad)
    for reason in ("does not fit", "version 2", "no such file", "outside the directory", "of another session",
                   "longer than", "are more than"):  # fmt: skip
        assert reason in told, reason
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before, "files stay as they are"


def test_a_directory_without_an_index_is_told(tmp_path: Path) -> None:
    _, bad = read(tmp_path)
    assert [one.place for one in bad] == [INDEX]


def test_a_file_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    archive(tmp_path, snapshot("a", 1, "x"))
    (tmp_path / "a-1.json").unlink()
    os.mkdir(tmp_path / "a-1.json")
    _, bad = read(tmp_path)
    assert len(bad) == 1


@pytest.mark.parametrize(
    "one",
    [
        snapshot("a", 2**66, "hi"),
        snapshot("a", -5, "hi"),
        snapshot("a", 1, "hi", summaries=[{"id": 1, "source_id": 1, "text": "x", "created_at_ms": 2**63}]),
        snapshot("a", 1, entries=[{"id": "x" * 129, "role": "user", "content": "hi"}]),
        snapshot("a", 1, entries=[{"id": 2**70, "role": "user", "content": "hi"}]),
        snapshot("a", 1, entries=[{"id": 1, "role": "user", "content": "hi", "related_to": "x" * 129}]),
        snapshot("a", 1, "half of a pair: \ud800"),
    ],
)
def test_what_no_store_could_take_is_left_out_and_told(tmp_path: Path, one: dict[str, Any]) -> None:
    archive(tmp_path, one, snapshot("b", 2, "good"))
    good, bad = read(tmp_path)
    assert [entry.session_id for entry in good] == ["b"]
    assert "does not fit the format" in bad[0].reason
