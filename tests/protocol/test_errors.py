"""Every refusal on the wire: its code, its HTTP status, whether to come again (protocol.md, 3; T10)."""

import msgspec
import pytest

from agentd.protocol import errors as e

# The table of protocol.md, 3, with the statuses of T10.
TABLE: list[tuple[e.AgentdError, str, int, bool, dict[str, object] | None]] = [
    (e.InvalidFrame("m"), "invalid_frame", 400, False, None),
    (e.UnknownType("m"), "unknown_type", 400, False, None),
    (e.InvalidPayload("m", path="$.x"), "invalid_payload", 400, False, {"path": "$.x"}),
    (e.TooLarge("m", limit=7), "too_large", 413, False, {"limit": 7}),
    (e.TooLarge("m", limit=7, path="$.content"), "too_large", 413, False, {"limit": 7, "path": "$.content"}),
    (e.Unauthorized("m"), "unauthorized", 401, False, None),
    (e.Forbidden("m", details={"required": "operator"}), "forbidden", 403, False, {"required": "operator"}),
    (e.NotFound("m", kind="gate"), "not_found", 404, False, {"kind": "gate"}),
    (e.Conflict("m"), "conflict", 409, False, None),
    (e.Conflict("m", details={"reason": "busy"}, retryable=True), "conflict", 409, True, {"reason": "busy"}),
    (e.NoActiveRun("m"), "no_active_run", 409, False, None),
    (e.Overloaded("m", retry_after_ms=5), "overloaded", 429, True, None),
    (e.Draining("m"), "draining", 503, True, None),
    (e.PolicyDenied("m"), "policy_denied", 403, False, None),
    (e.ConfirmationRequired("m"), "confirmation_required", 409, False, None),
    (e.Timeout("m"), "timeout", 504, True, None),
    (e.StorageUnavailable("m"), "storage_unavailable", 503, True, None),
    (e.ProviderError("m", kind="auth", retryable=False), "provider_error", 502, False, {"kind": "auth"}),
    (e.ProviderError("m", kind="rate_limit", retryable=True), "provider_error", 502, True, {"kind": "rate_limit"}),
    (e.Internal("m"), "internal", 500, False, None),
]


@pytest.mark.parametrize(("error", "code", "status", "retryable", "details"), TABLE, ids=[row[1] for row in TABLE])
def test_an_error_is_one_object_with_its_code(
    error: e.AgentdError, code: str, status: int, retryable: bool, details: dict[str, object] | None
) -> None:
    frame = msgspec.json.decode(msgspec.json.encode(error.frame(session="s", ts=9, request="r")))
    assert frame == {
        "type": "error", "session": "s", "ts": 9, "request": "r", "code": code, "message": "m", "retryable": retryable,
        **({"details": details} if details else {}), **({"retry_after_ms": 5} if code == "overloaded" else {}),
    }  # fmt: skip
    assert type(error).http_status == status
    assert str(error) == "m"


def test_what_is_not_known_is_left_out_and_a_hint_is_told() -> None:
    error = e.Unauthorized("who are you", hint="Send connect first.")
    assert msgspec.json.decode(msgspec.json.encode(error.frame())) == {
        "type": "error", "code": "unauthorized", "message": "who are you", "retryable": False,
        "hint": "Send connect first.",
    }  # fmt: skip


def test_the_table_is_whole() -> None:
    assert {type(row[0]) for row in TABLE} == set(e.ALL)
    assert len({kind.code for kind in e.ALL}) == len(e.ALL), "a code is one class's"
