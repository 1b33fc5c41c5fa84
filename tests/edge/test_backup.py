"""Who may have the database copied, and what the answer is."""

import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from agentd.clock import SystemClock
from agentd.edge.auth import Auth
from agentd.edge.backup import PATH, backup_route
from agentd.edge.http import HttpApp
from agentd.edge.tokens import Tokens
from agentd.store.backup import Backups
from tests.store.making import opened, step


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path, SystemClock())


@pytest.fixture
def client(tmp_path: Path, tokens: Tokens) -> TestClient:
    clock = SystemClock()
    http = HttpApp(ready=lambda: [], render=lambda: b"", auth=Auth(tokens, clock), clock=clock)
    http.add(backup_route(http, Backups(tmp_path / "agentd.db", clock)))
    return TestClient(http, raise_server_exceptions=False)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_the_admin_is_told_where_the_copy_is(client: TestClient, tmp_path: Path) -> None:
    async with opened(tmp_path / "agentd.db") as store:
        await store.append(step("a", 1, 3))
        answer = client.post(PATH, headers=bearer((tmp_path / "token").read_text().strip()))
    assert answer.status_code == 200
    made = answer.json()
    assert (made["facts"], made["bytes"]) == (3, Path(made["path"]).stat().st_size)  # noqa: ASYNC240


@pytest.mark.parametrize("scope", ["chat", "operator"])
def test_without_the_scope_admin_it_is_refused_and_nothing_is_made(
    client: TestClient, tokens: Tokens, tmp_path: Path, scope: str
) -> None:
    answer = client.post(PATH, headers=bearer(tokens.add("guest", frozenset({scope}))))
    assert answer.status_code == 403
    assert answer.json()["details"] == {"required": "admin"}
    assert client.post(PATH).status_code == 401
    assert not (tmp_path / "backups").exists()


def test_it_is_no_question(client: TestClient) -> None:
    assert client.get(PATH).status_code == 405


def test_without_a_database_the_refusal_is_the_error_object(client: TestClient, tmp_path: Path) -> None:
    answer = client.post(PATH, headers=bearer((tmp_path / "token").read_text().strip()))
    assert answer.status_code == 503
    assert json.loads(answer.text)["code"] == "storage_unavailable"
