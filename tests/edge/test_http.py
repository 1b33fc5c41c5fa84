"""The HTTP side: health, readiness, metrics, and errors in the one shape."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agentd.edge.auth import Auth
from agentd.edge.http import HttpApp, json_response
from agentd.edge.tokens import Tokens
from agentd.protocol.errors import Overloaded
from tests.edge.rig import ManualClock, running


class Site:
    """An `HttpApp`, asked without a network."""

    def __init__(self, folder: Path) -> None:
        self.reasons: list[str] = []
        self.clock = ManualClock()
        self.tokens = Tokens(folder, self.clock)
        self.app = HttpApp(
            ready=lambda: self.reasons,
            render=lambda: b"agentd_up 1\n",
            auth=Auth(self.tokens, self.clock),
            clock=self.clock,
        )

    async def ask(
        self, path: str, method: str = "GET", *, address: str = "127.0.0.1", host: str = "127.0.0.1", **headers: str
    ) -> httpx2.Response:
        transport = httpx2.ASGITransport(self.app, client=(address, 1))
        async with httpx2.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            return await client.request(method, path, headers=headers)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_liveness_is_told_to_everybody_whatever_is_wrong(site: Site) -> None:
    site.reasons = ["starting"]
    answer = await site.ask("/healthz", address="10.0.0.1", host="anything.example")
    assert (answer.status_code, answer.json()) == (200, {"alive": True})


async def test_readiness_names_its_reasons(site: Site) -> None:
    assert (await site.ask("/readyz", address="10.0.0.1")).json() == {"ready": True}
    site.reasons = ["starting", "recovering 3 sessions"]
    answer = await site.ask("/readyz", address="10.0.0.1")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "reasons": ["starting", "recovering 3 sessions"]}
    assert answer.headers["retry-after"] == "1"


async def test_metrics_are_open_to_this_machine(site: Site) -> None:
    answer = await site.ask("/metrics")
    assert (answer.status_code, answer.content) == (200, b"agentd_up 1\n")
    assert answer.headers["content-type"].startswith("text/plain")


async def test_metrics_need_an_operators_token_from_elsewhere(site: Site) -> None:
    chat = site.tokens.add("phone", frozenset({"chat"}))
    operator = site.tokens.add("desk", frozenset({"operator"}))
    elsewhere = {"address": "10.0.0.1"}
    answer = await site.ask("/metrics", **elsewhere)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    answer = await site.ask("/metrics", **elsewhere, authorization=f"Bearer {chat}")
    assert (answer.status_code, answer.json()["details"]) == (403, {"required": "operator"})
    answer = await site.ask("/metrics", **elsewhere, authorization=f"Bearer {operator}")
    assert answer.status_code == 200


async def test_metrics_are_not_open_to_a_page_whose_name_was_rebound_to_this_machine(site: Site) -> None:
    assert (await site.ask("/metrics", host="evil.example")).status_code == 401
    assert (await site.ask("/metrics", **{"x-forwarded-for": "1.2.3.4"})).status_code == 401


async def test_a_token_in_the_address_and_a_foreign_origin_are_refused(site: Site) -> None:
    authorization = f"Bearer {site.tokens.local_token}"
    answer = await site.ask("/metrics?token=x", address="10.0.0.1", authorization=authorization)
    assert answer.status_code == 400
    answer = await site.ask("/metrics", address="10.0.0.1", authorization=authorization, origin="http://evil.example")
    assert answer.status_code == 403


async def test_failed_credentials_are_limited_on_loopback_too(site: Site) -> None:
    wrong = {"host": "evil.example", "authorization": "Bearer wrong"}
    statuses = [(await site.ask("/metrics", **wrong)).status_code for _ in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    assert (await site.ask("/metrics", **wrong)).headers["retry-after"] == "60"


@pytest.mark.parametrize("path", ["/nothing", "/healthz/", "/v1/agents/a/stream"])
async def test_an_unknown_path_is_a_404_with_the_error_object(site: Site, path: str) -> None:
    answer = await site.ask(path)
    assert answer.status_code == 404
    assert answer.json() == {
        "type": "error",
        "code": "not_found",
        "message": "there is no such path",
        "retryable": False,
        "details": {"kind": "path"},
    }


async def test_another_method_is_a_405_that_says_which_are_allowed(site: Site) -> None:
    answer = await site.ask("/healthz", "POST")
    assert (answer.status_code, answer.json()["code"]) == (405, "invalid_payload")
    assert {method.strip() for method in answer.headers["allow"].split(",")} == {"GET", "HEAD"}


async def test_a_registered_route_answers_and_its_errors_have_the_one_shape(site: Site) -> None:
    async def greet(request: Request) -> Response:
        return json_response({"hello": request.path_params["name"]})

    async def refuse(request: Request) -> Response:
        raise Overloaded("full", details={"cap": "mailbox"}, retry_after_ms=1_200)

    async def break_down(request: Request) -> Response:
        raise ValueError("a secret of the server")

    site.app.add(Route("/v1/{name}", greet), Route("/refuse", refuse), Route("/break", break_down))
    assert (await site.ask("/v1/ada")).json() == {"hello": "ada"}
    answer = await site.ask("/refuse")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    assert (answer.json()["code"], answer.json()["details"]) == ("overloaded", {"cap": "mailbox"})
    answer = await site.ask("/break")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert b"secret" not in answer.content


@asynccontextmanager
async def served(site: Site) -> AsyncIterator[str]:
    async with running(app=site.app) as rig:
        yield f"http://127.0.0.1:{rig.server.port}"


async def test_it_is_served_by_the_real_server(site: Site) -> None:
    async with served(site) as url, httpx2.AsyncClient() as client:
        assert (await client.get(f"{url}/healthz")).json() == {"alive": True}
        assert (await client.get(f"{url}/metrics")).content == b"agentd_up 1\n"
        assert (await client.head(f"{url}/healthz")).content == b""
        answer = await client.get(f"{url}/nothing")
        assert json.loads(answer.content)["code"] == "not_found"
