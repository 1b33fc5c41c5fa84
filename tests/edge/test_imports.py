"""Who may have the older format taken in, what the answer tells, and a client that does not read it (S9, L5)."""

import json
import socket as sockets
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx2
import pytest

from agentd.actors.importing import Progress
from agentd.app import App
from agentd.edge import download, imports
from agentd.store.legacy import INDEX, Skipped
from tests.edge.rig import until
from tests.edge.served import app, token_of
from tests.store.test_legacy import archive, snapshot


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[App]:
    async with app(tmp_path / "state") as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "old"
    made.mkdir()
    return made


async def ask(server: App, path: str, token: str | None) -> httpx2.Response:
    headers = {"authorization": f"Bearer {token}"} if token is not None else {}
    async with httpx2.AsyncClient(trust_env=False) as client:
        return await client.post(server.url + path, headers=headers)


def admin(tmp_path: Path) -> str:
    return token_of(tmp_path / "state")


async def test_each_line_says_how_far_it_is_and_the_last_one_what_was_left_out(
    server: App, tmp_path: Path, folder: Path
) -> None:
    archive(folder, snapshot("ann", 1, "hi", "hello"), snapshot("no key!", 2, "x"), snapshot("bob", 3, "x"))
    with (folder / INDEX).open("a") as index:
        index.write("no line\n")
    answer = await ask(server, f"/v1/import?dir={quote(str(folder))}", admin(tmp_path))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
    assert "content-disposition" not in answer.headers, "a progress is nothing to save"
    lines = [json.loads(line) for line in answer.content.splitlines()]
    assert len(lines) == 5, "one for each snapshot, named or not, and the end"
    assert [line.get("done", False) for line in lines] == [False] * 4 + [True]
    assert not any("reasons" in line for line in lines[:-1])
    assert (lines[-1]["snapshots"], lines[-1]["entries"], lines[-1]["skipped"]) == (2, 3, 2)
    assert len(lines[-1]["reasons"]) == 2
    again = json.loads((await ask(server, f"/v1/import?dir={folder}", admin(tmp_path))).content.splitlines()[-1])
    assert (again.get("snapshots", 0), again["already"]) == (0, 2)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [("", 400, "invalid_payload"), ("?dir=", 400, "invalid_payload"), ("?dir=/a&dir=/b", 400, "invalid_payload"),
     ("?dir=relative", 404, "not_found"), ("?dir=/nowhere/at/all", 404, "not_found")],
)  # fmt: skip
async def test_what_is_no_directory_of_the_older_format_is_refused(
    server: App, tmp_path: Path, query: str, status: int, code: str
) -> None:
    answer = await ask(server, f"/v1/import{query}", admin(tmp_path))
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_it_needs_the_scope_admin(server: App, tmp_path: Path, folder: Path) -> None:
    archive(folder, snapshot("ann", 1, "hi"))
    guest = server.reception.auth._tokens.add("guest", frozenset({"operator"}))
    path = f"/v1/import?dir={folder}"
    assert [(await ask(server, path, token)).status_code for token in (None, guest)] == [401, 403]
    assert server.directory.get("ann") is None


async def test_who_does_not_read_the_answer_is_cut_off_and_the_import_goes_no_further(
    server: App, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / INDEX).write_text("")
    told = {"pages": 0, "left": 0}

    async def endless(*_: object) -> AsyncIterator[Progress]:
        try:
            while True:
                told["pages"] += 1
                yield Progress(done=True, reasons=[Skipped("x" * 65_536, "y")])
        finally:
            told["left"] += 1

    monkeypatch.setattr(download, "STALLED_S", 0.2)
    monkeypatch.setattr(imports, "import_folder", endless)
    url = urlsplit(server.url)
    deaf = sockets.socket()
    deaf.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4_096)
    deaf.connect((url.hostname, url.port))
    request = f"POST /v1/import?dir={folder} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
    deaf.sendall(f"{request}Authorization: Bearer {admin(tmp_path)}\r\n\r\n".encode())
    await until(lambda: told["left"] == 1)
    pages = told["pages"]
    assert (await ask(server, "/v1/import?dir=relative", admin(tmp_path))).status_code == 404, "others are served"
    assert told["pages"] == pages
    deaf.close()
