"""Reads over HTTP: the same answers and refusals as on a socket, exports in their form, nothing for who may not."""

import json
import socket as sockets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import pytest
from starlette.routing import Route

from agentd.app import App
from agentd.core.export import Reader
from agentd.core.trace_lines import LineChecker
from agentd.edge import download, openapi
from tests.edge.rig import until as until_true
from tests.edge.served import app, token_of
from tests.edge.test_following import Deaf, said, tokens_of
from tests.events import Events


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[App]:
    async with app(tmp_path) as made:
        yield made


@pytest.fixture
def token(server: App, tmp_path: Path) -> str:
    return token_of(tmp_path)


async def ask(server: App, path: str, token: str | None = None) -> httpx2.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as client:
        return await client.get(path, headers=headers)


def valid(answer: Any, name: str) -> None:
    """The answer is what the document says."""
    document = openapi.document()
    reference = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    jsonschema.validate(answer, reference)


async def test_sessions_are_listed_and_looked_at(server: App, token: str) -> None:
    await said(server, token, "one", "hello")
    await said(server, token, "two", "hello")
    listed = (await ask(server, "/v1/sessions?limit=2", token)).json()
    valid(listed, "SessionListReply")
    assert [line["key"] for line in listed["sessions"]] == ["_server", "one"]
    more = (await ask(server, f"/v1/sessions?limit=2&cursor={listed['next']}", token)).json()
    assert [line["key"] for line in more["sessions"]] == ["two"]
    view = (await ask(server, "/v1/sessions/one", token)).json()
    valid(view, "SessionView")
    line = listed["sessions"][1]
    assert {name: view[name] for name in ("agent", "owner", "mode", "epoch", "seq", "first", "unfinished")} == {
        name: line[name] for name in ("agent", "owner", "mode", "epoch", "seq", "first", "unfinished")
    }
    own = (await ask(server, "/v1/sessions/_server", token)).json()
    valid(own, "SessionView")


async def test_the_history_is_that_of_the_socket_in_pages(server: App, token: str) -> None:
    await said(server, token, "s", "first words")
    await said(server, token, "s", "second words")
    whole = (await ask(server, "/v1/sessions/s/history", token)).json()
    valid(whole, "HistoryReply")
    assert [entry["role"] for entry in whole["entries"]] == ["user", "assistant"] * 2
    newest = (await ask(server, "/v1/sessions/s/history?limit=1", token)).json()["entries"]
    older = (await ask(server, f"/v1/sessions/s/history?before={newest[0]['id']}", token)).json()["entries"]
    assert older + newest == whole["entries"]
    assert (await ask(server, "/v1/sessions/s/history?leaf_id=nobody", token)).status_code == 404


async def test_a_run_and_its_trace_are_read_after_its_end(server: App, token: str) -> None:
    run = await said(server, token, "s", "/goal a; b; then c")
    view = (await ask(server, f"/v1/runs/{run}", token)).json()
    valid(view, "RunView")
    assert (view["session"], view["kind"], view["state"], view["cause"]) == ("s", "goal", "completed", None)
    answer = await ask(server, f"/v1/runs/{run}/trace", token)
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = answer.content.splitlines(keepends=True)
    checker = LineChecker(run)
    assert [found for line in lines for found in checker.feed(line)] + checker.finish() == []
    facts = [json.loads(line) for line in lines]
    assert [fact["seq"] for fact in facts] == list(range(view["first"], view["last"] + 1))


async def test_an_export_is_whole_in_its_form(server: App, token: str) -> None:
    await said(server, token, "s", "/goal a; b; then c", times=3)
    answer = await ask(server, "/v1/sessions/s/export", token)
    assert answer.headers["content-disposition"] == 'attachment; filename="s.ndjson"'
    first, *lines = answer.content.splitlines(keepends=True)
    valid(json.loads(first), "Header")
    reader = Reader()
    header = reader.header(first)
    stored = [reader.fact(line) for line in lines]
    reader.end()
    assert (header.seq, len(stored)) == (len(lines), len(lines))


async def test_an_export_of_a_session_that_lost_its_oldest_facts_begins_with_a_snapshot(
    server: App, token: str
) -> None:
    await said(server, token, "s", "hello", times=2)
    seat = await server.reception.existing("s")
    seat.first = 4  # as if the oldest facts had been removed
    lines = (await ask(server, "/v1/sessions/s/export", token)).content.splitlines(keepends=True)
    reader = Reader()
    assert reader.header(lines[0]).first == 4
    assert all(reader.fact(line) for line in lines[1:])
    reader.end()


async def test_the_load_of_the_server_is_for_operators(server: App, token: str) -> None:
    status = await ask(server, "/v1/status", token)
    valid(status.json(), "AgentState")
    guest = tokens_of(server, "guest", "chat")
    assert [(await ask(server, path, guest)).status_code for path in ("/v1/status", "/v1/sessions")] == [403, 403]


READS = (
    "/v1/sessions/{s}",
    "/v1/sessions/{s}/history",
    "/v1/sessions/{s}/export",
    "/v1/runs/{r}",
    "/v1/runs/{r}/trace",
)


async def test_reads_are_refused_as_on_a_socket(server: App, token: str) -> None:
    run = await said(server, token, "mine", "hello")
    guest = tokens_of(server, "guest", "chat")
    for path in READS:
        found = path.format(s="mine", r=run)
        assert (await ask(server, found, token)).status_code == 200
        assert (await ask(server, found)).status_code == 401
        assert (await ask(server, found + "?key=secret", token)).status_code == 400
        refused = await ask(server, found, guest)
        valid(refused.json(), "ErrorFrame")
        assert refused.json()["code"] == ("forbidden" if "{s}" in path else "not_found")
        missing = await ask(server, path.format(s="nobody", r="run_nobody"), token)
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/sessions?limit=0", "limit"),
        ("/v1/sessions?limit=many", "limit"),
        ("/v1/sessions/s/history?limit=501", "limit"),
        ("/v1/sessions/s/history?limit=1&limit=2", "limit"),
        ("/v1/sessions/s/history?before=", "before"),
    ],
)
async def test_a_field_out_of_bounds_is_told_with_its_name(server: App, token: str, path: str, field: str) -> None:
    answer = await ask(server, path, token)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_payload")
    assert answer.json()["details"] == {"path": field}


async def test_while_the_server_starts_or_goes_it_says_so(server: App, token: str) -> None:
    server.reception.ready = False
    for path in ("/v1/sessions", "/v1/sessions/s/events", "/v1/runs/r/trace"):
        answer = await ask(server, path, token)
        assert (answer.status_code, answer.json()["code"]) == (503, "draining")
    server.reception.ready = True


async def test_the_document_lists_what_is_served(server: App) -> None:
    answer = await ask(server, "/v1/openapi.json")
    assert answer.content == openapi.document_bytes()
    routes = server.edge._http_app._starlette.router.routes  # type: ignore[attr-defined]
    served = {(route.path, method.lower()) for route in routes if isinstance(route, Route)
              for method in (route.methods or ()) if method != "HEAD"}  # fmt: skip
    assert served == {(door.path, door.method) for door in openapi.DOORS}


async def test_downloads_are_bounded_and_one_that_is_not_read_is_cut_off(
    server: App, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "DOWNLOADS_MAX", 1)
    monkeypatch.setattr(download, "STALLED_S", 0.2)
    await said(server, token, "s", "x" * 60_000, times=60)
    deaf = Deaf(server, "/v1/sessions/s/export", token)
    deaf.socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4_096)
    await until_true(lambda: _downloads(server) == 1)
    assert (await ask(server, "/v1/sessions/s/export", token)).status_code == 429
    await until_true(lambda: _downloads(server) == 0)
    assert (await ask(server, "/v1/sessions/s/export", token)).status_code == 200
    deaf.close()


def _downloads(server: App) -> int:
    routes = server.edge._http_app._starlette.router.routes  # type: ignore[attr-defined]
    export = next(route for route in routes if isinstance(route, Route) and route.path.endswith("/export"))
    api: Any = getattr(export.endpoint, "__self__", None)
    return int(api._downloads.open)


async def test_the_head_of_a_download_has_no_body(server: App, token: str) -> None:
    await said(server, token, "s", "hello")
    async with Events(server.url, "/v1/sessions/s/export", token, method="HEAD") as answer:
        assert answer.status == 200
