"""Who may connect (S2, F8)."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from agentd.edge import auth as module
from agentd.edge.auth import FAILURES_MAX, Auth, FailureLimit, check_reserved, from_this_machine, read_upgrade
from agentd.edge.door import Upgrade
from agentd.edge.tokens import SCOPES, Principal, Tokens
from agentd.protocol.errors import AgentdError, Forbidden, InvalidPayload, NotFound, Overloaded, Unauthorized
from tests.edge.rig import ManualClock

STREAM = "/v1/agents/default/stream"


class Gate:
    """An `Auth` with a chat token, an operator token, and a clock."""

    def __init__(self, folder: Path, origins: tuple[str, ...] = ()) -> None:
        self.clock = ManualClock()
        tokens = Tokens(folder, self.clock)
        self.local = tokens.local_token
        self.chat = tokens.add("phone", frozenset({"chat"}))
        self.operator = tokens.add("desk", frozenset({"chat", "operator"}))
        self.auth = Auth(tokens, self.clock, origins=origins)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path, ("https://console.example", "http://other.example:8080"))


def upgrade(path: str = STREAM, *query: tuple[str, str], **asked: Any) -> Upgrade:
    """An upgrade to `path`; `address` and `secure` besides headers."""
    address, secure = asked.pop("address", "127.0.0.1"), asked.pop("secure", False)
    headers = {"host": "127.0.0.1:18790", **asked}
    return Upgrade(path=path, query=query, headers=tuple(headers.items()), address=address, secure=secure)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_an_upgrade_is_read_into_what_it_asks_for(gate: Gate) -> None:
    asked = read_upgrade(
        upgrade(
            "/v1/agents/my-agent_1/stream",
            *(("session", "team:a.b-1_"), ("after", "17"), ("log", "log_1"), ("other", "x")),
            origin="http://localhost:18790",
            **bearer(gate.chat),
        ),
        gate.auth,
    )
    assert (asked.agent, asked.session, asked.after, asked.log) == ("my-agent_1", "team:a.b-1_", 17, "log_1")
    assert asked.principal == Principal("phone", frozenset({"chat"}))
    assert (asked.address, asked.origin) == ("127.0.0.1", "http://localhost:18790")


def test_without_a_credential_the_first_frame_decides(gate: Gate) -> None:
    asked = read_upgrade(upgrade(), gate.auth)
    assert (asked.principal, asked.session, asked.after) == (None, None, None)


@pytest.mark.parametrize("path", ["/", "/v1", STREAM + "/", "/v2/agents/a/stream", "/v1/agents/stream", "/healthz"])
def test_another_path_is_not_found(gate: Gate, path: str) -> None:
    with pytest.raises(NotFound) as error:
        read_upgrade(upgrade(path), gate.auth)
    assert error.value.details == {"kind": "path"}


@pytest.mark.parametrize("agent", ["", "..", "a/b", "../../etc", "a b", "ä", "a\n", "x" * 65, "a.b", "%2e"])
def test_a_malformed_agent_id_is_refused(gate: Gate, agent: str) -> None:
    with pytest.raises(InvalidPayload) as error:
        read_upgrade(upgrade(f"/v1/agents/{agent}/stream"), gate.auth)
    assert error.value.details == {"path": "agent"}


@pytest.mark.parametrize("session", ["", "a b", "a/b", "ä", "a\n", "x" * 129, "*"])
def test_a_malformed_session_key_is_refused(gate: Gate, session: str) -> None:
    with pytest.raises(InvalidPayload) as error:
        read_upgrade(upgrade(STREAM, ("session", session)), gate.auth)
    assert error.value.details == {"path": "session"}


@pytest.mark.parametrize("after", ["", "-1", "1.5", "x", "٣", "9" * 19])
def test_a_malformed_cursor_is_refused(gate: Gate, after: str) -> None:
    with pytest.raises(InvalidPayload) as error:
        read_upgrade(upgrade(STREAM, ("after", after)), gate.auth)
    assert error.value.details == {"path": "after"}


def test_a_field_given_twice_is_refused(gate: Gate) -> None:
    with pytest.raises(InvalidPayload, match="twice"):
        read_upgrade(upgrade(STREAM, ("session", "a"), ("session", "b")), gate.auth)


def test_a_key_of_the_servers_own_is_for_operators(gate: Gate) -> None:
    with pytest.raises(Forbidden) as error:
        read_upgrade(upgrade(STREAM, ("session", "_server"), **bearer(gate.chat)), gate.auth)
    assert error.value.details == {"required": "operator"}
    asked = read_upgrade(upgrade(STREAM, ("session", "_server"), **bearer(gate.operator)), gate.auth)
    assert asked.session == "_server"
    check_reserved("mine", Principal("x", frozenset({"chat"})))


@pytest.mark.parametrize("field", ["token", "access_token", "key", "Token", "API_KEY", "authorization"])
def test_a_token_in_the_address_is_a_400_that_does_not_repeat_it(gate: Gate, field: str) -> None:
    with pytest.raises(InvalidPayload) as error:
        read_upgrade(upgrade(STREAM, (field, gate.local), **bearer(gate.local)), gate.auth)
    assert gate.local not in f"{error.value.message}{error.value.hint}{error.value.details}"


# Credentials.


def test_the_scopes_are_the_tokens_own(gate: Gate) -> None:
    for token, scopes in ((gate.local, SCOPES), (gate.chat, {"chat"}), (gate.operator, {"chat", "operator"})):
        asked = read_upgrade(upgrade(**bearer(token)), gate.auth)
        assert asked.principal is not None
        assert asked.principal.scopes == scopes


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Bearer wrong", "Basic {}", "{}", "Bearer {} x"])
def test_a_wrong_credential_is_a_401(gate: Gate, value: str) -> None:
    with pytest.raises(Unauthorized) as error:
        read_upgrade(upgrade(authorization=value.format(gate.local)), gate.auth)
    assert gate.local not in str(error.value)


def test_the_scheme_is_written_in_any_case(gate: Gate) -> None:
    assert read_upgrade(upgrade(authorization=f"bearer  {gate.chat}"), gate.auth).principal is not None


@pytest.mark.parametrize("name", ["authorization", "origin", "host"])
def test_a_repeated_header_is_refused(gate: Gate, name: str) -> None:
    value = {"authorization": f"Bearer {gate.chat}", "origin": "http://localhost:18790", "host": "127.0.0.1:18790"}
    headers = (*value.items(), (name, value[name]))
    twice = Upgrade(path=STREAM, query=(), headers=headers, address="127.0.0.1", secure=False)
    with pytest.raises(InvalidPayload, match="repeated"):
        read_upgrade(twice, gate.auth)


def fail(gate: Gate, **asked: str) -> type[AgentdError]:
    with pytest.raises(AgentdError) as error:
        read_upgrade(upgrade(**asked), gate.auth)
    return type(error.value)


def test_more_than_ten_failures_a_minute_are_a_429_for_that_pair_only(gate: Gate) -> None:
    wrong = bearer("wrong")
    assert [fail(gate, **wrong) for _ in range(FAILURES_MAX + 2)] == [Unauthorized] * FAILURES_MAX + [Overloaded] * 2
    with pytest.raises(Overloaded) as error:
        read_upgrade(upgrade(**bearer(gate.local)), gate.auth)
    assert error.value.http_status == 429
    assert error.value.retry_after_ms is not None
    assert 59_000 < error.value.retry_after_ms <= 60_001
    assert fail(gate, address="10.0.0.9", **wrong) is Unauthorized
    assert fail(gate, origin="http://localhost:18790", **wrong) is Unauthorized
    assert read_upgrade(upgrade(address="10.0.0.9", **bearer(gate.chat)), gate.auth).principal is not None
    assert read_upgrade(upgrade(), gate.auth).principal is None


def test_the_limit_ends_with_its_minute(gate: Gate) -> None:
    for _ in range(FAILURES_MAX + 1):
        fail(gate, **bearer("wrong"))
    gate.clock.now_s += 59.9
    assert fail(gate, **bearer("wrong")) is Overloaded
    gate.clock.now_s += 0.2
    assert fail(gate, **bearer("wrong")) is Unauthorized
    assert read_upgrade(upgrade(**bearer(gate.chat)), gate.auth).principal is not None


def test_ten_failures_a_minute_never_reach_the_limit(gate: Gate) -> None:
    for _ in range(5):
        assert [fail(gate, **bearer("wrong")) for _ in range(FAILURES_MAX)] == [Unauthorized] * FAILURES_MAX
        gate.clock.now_s += 60


def test_the_table_of_failures_is_bounded_and_forgets_the_oldest_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FAILURES_PAIRS_MAX", 3)
    limit = FailureLimit(ManualClock())
    for _, address in itertools.product(range(FAILURES_MAX), ("a", "b", "c")):
        limit.failed(address, None)
    limit.failed("d", None)
    assert len(limit) == 3
    limit.check("a", None)
    for address in ("b", "c"):
        with pytest.raises(Overloaded):
            limit.check(address, None)


# Origins.

OWN = {
    "as reached": {"origin": "http://127.0.0.1:18790"},
    "by another name of loopback": {"origin": "http://localhost:18790"},
    "in capitals": {"origin": "HTTP://LocalHost:18790"},
    "IPv6": {"origin": "http://[::1]:18790"},
    "by name": {"origin": "http://agent.lan:18790", "host": "agent.lan:18790"},
    "default port": {"origin": "http://agent.lan", "host": "agent.lan:80"},
    "configured": {"origin": "https://console.example"},
    "configured with its port": {"origin": "https://console.example:443"},
    "configured, another port": {"origin": "http://other.example:8080"},
}


@pytest.mark.parametrize("headers", OWN.values(), ids=OWN)
def test_an_own_or_configured_origin_may_connect(gate: Gate, headers: dict[str, str]) -> None:
    assert read_upgrade(upgrade(**headers), gate.auth).origin == headers["origin"]


FOREIGN = {
    "another site": {"origin": "https://evil.example"},
    "another port": {"origin": "http://localhost:3000"},
    "another scheme": {"origin": "https://127.0.0.1:18790"},
    "null": {"origin": "null"},
    "empty": {"origin": ""},
    "a prefix": {"origin": "http://127.0.0.1:18790.evil.example"},
    "a user": {"origin": "http://127.0.0.1:18790@evil.example"},
    "a user before": {"origin": "http://x@127.0.0.1:18790"},
    "configured, another port": {"origin": "http://other.example"},
    "configured, a part of it": {"origin": "https://a.console.example"},
    "a bad port": {"origin": "http://127.0.0.1:99999"},
    "a file": {"origin": "file://"},
    "an extension": {"origin": "chrome-extension://abcdef"},
    "very long": {"origin": "http://" + "a" * 1000},
    "a bad bracket": {"origin": "http://[::1"},
    "no port in common": {"origin": "http://agent.lan", "host": "agent.lan:18790"},
}


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_origin_is_a_403_also_on_loopback_and_with_a_right_token(gate: Gate, headers: dict[str, str]) -> None:
    with pytest.raises(Forbidden):
        read_upgrade(upgrade(**headers, **bearer(gate.local)), gate.auth)


def test_without_a_host_header_no_origin_is_our_own(gate: Gate) -> None:
    headers = (("origin", "http://127.0.0.1:18790"),)
    with pytest.raises(Forbidden):
        gate.auth.check_origin(headers, secure=False)


def test_over_tls_the_own_origin_is_https(gate: Gate) -> None:
    asked = upgrade(origin="https://127.0.0.1:18790", secure=True)
    assert read_upgrade(asked, gate.auth).origin == "https://127.0.0.1:18790"


def test_a_configured_origin_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no origin"):
        Gate(tmp_path, ("console.example",))


# This machine.


@pytest.mark.parametrize(
    ("address", "headers", "local"),
    [
        ("127.0.0.1", {"host": "127.0.0.1:18790"}, True),
        ("127.8.8.8", {"host": "localhost"}, True),
        ("::1", {"host": "[::1]:18790"}, True),
        ("::ffff:127.0.0.1", {"host": "localhost"}, True),
        ("10.0.0.1", {"host": "localhost"}, False),
        ("", {"host": "localhost"}, False),
        ("127.0.0.1", {}, False),
        ("127.0.0.1", {"host": "rebound.example:18790"}, False),
        ("127.0.0.1", {"host": "localhost", "x-forwarded-for": "1.2.3.4"}, False),
        ("127.0.0.1", {"host": "localhost", "forwarded": "for=1.2.3.4"}, False),
    ],
)
def test_this_machine_is_a_direct_request_by_a_name_of_loopback(
    address: str, headers: dict[str, str], local: bool
) -> None:
    assert from_this_machine(headers.items(), address) is local
