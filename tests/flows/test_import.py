"""The older format, imported by a running server: once, told, and then remembered (S9)."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.child import Child, ask, of_type, until
from tests.store.test_legacy import archive, snapshot


def command(child: Child, folder: Path) -> tuple[int, dict[str, Any]]:
    said = subprocess.run(
        [sys.executable, "-m", "agentd", "import", str(folder), "--json", "--state-dir", str(child.state)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    return said.returncode, json.loads(said.stdout)


async def test_an_older_archive_is_imported_once_and_a_session_goes_on_from_it(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    summary = [{"id": 1, "source_id": 1, "text": "they met at the harbour", "created_at_ms": 900}]
    archive(
        folder,
        snapshot("ann", 1_000, "my name is Ann", "hello Ann"),
        snapshot("ann", 2_000, *[f"turn {n}" for n in range(1, 250)], summaries=summary),
        snapshot("not a key!", 1_000, "x"),
    )
    child = Child(tmp_path / "state")
    await child.start()
    try:
        code, told = await asyncio.to_thread(command, child, folder)
        assert (code, told["snapshots"], told["entries"], told["summaries"], told["skipped"]) == (1, 2, 251, 1, 1)
        assert "no key" in told["reasons"][0]["reason"]
        code, again = await asyncio.to_thread(command, child, folder)
        assert (again.get("snapshots", 0), again["already"]) == (0, 2)
        async with child.connect("ann") as socket:
            page = await ask(socket, type="session.history", limit=3)
            assert [entry["content"] for entry in page["entries"]] == ["turn 247", "turn 248", "turn 249"]
            found = await ask(socket, type="memory.query", topic="harbour")
            assert [(item["kind"], item["source"]) for item in found["items"]] == [("summary", "ltm")]
            found = await ask(socket, type="memory.query", topic="name Ann")
            assert found["items"][0]["id"] == "imp:1000:ann:1"
            await socket.send(json.dumps({"type": "chat.send", "content": "and now?"}))
            started = (await until(socket, of_type("run.started")))[-1]
            assert started["parent"] == "imp:2000:ann:249"
            await until(socket, of_type("run.completed"))
        assert (await child.http("POST", "/v1/import?dir=relative"))[0] == 404
        assert (await child.http("POST", "/v1/import"))[0] == 400
    finally:
        await asyncio.to_thread(child.kill)


async def test_an_archive_in_the_state_directory_is_imported_at_start(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    archive(state, snapshot("bob", 1_000, "my name is Bob", "hello Bob"))
    child = Child(state)
    await child.start()
    try:
        async with child.connect("bob", after=0) as socket:
            await until(socket, of_type("memory.imported"))
            page = await ask(socket, type="session.history")
            assert [entry["content"] for entry in page["entries"]] == ["my name is Bob", "hello Bob"]
    finally:
        await asyncio.to_thread(child.kill)
