"""Frames in and out: good ones once, bad ones as typed errors with their request."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.protocol import commands as c
from agentd.protocol import facts as f
from agentd.protocol.codec import BadFrame, decode_command, decode_fact, encode, with_request


@pytest.mark.parametrize(
    ("text", "code", "path", "request_id"),
    [
        (b"", "invalid_frame", None, None),
        (b"[]", "invalid_frame", None, None),
        (b'{"type": 5, "id": "a"}', "invalid_frame", None, "a"),
        (b'{"type": "nope", "id": "a"}', "unknown_type", None, "a"),
        (b'{"type": "session.resume", "id": "a"}', "invalid_payload", "$.after", "a"),
        (b'{"type": "chat.send", "id": ""}', "invalid_payload", "$.id", None),
        (b'{"type": "agent.control", "action": "x", "id": "a"}', "invalid_payload", "$.action", "a"),
        (b'{"type": "chat.send", "id": "a", "content": "\\ud800"}', "invalid_payload", "$.content", "a"),
        (b'{"type": "ping", "x": ' + b"[" * 100_000, "invalid_frame", None, None),
        (b'{"type": "chat.send", "id": "a", "x": [1, {"y": ["ok", "\\udfff"]}], "content": "\\ud800"}',
         "invalid_payload", "$.x[1].y[1]", "a"),
        (b'{"type": "chat.send", "id": "a", "content": 7, "x": {"\\ud800": 1}}', "invalid_payload", "$.x", "a"),
        (b'{"type": "chat.send", "id": "a", "content": 7, "x": ["fine", {}, []]}', "invalid_payload", "$.content", "a"),
        (b'{"type": "chat.send", "id": "a\\ud800", "content": 7}', "invalid_payload", "$.id", None),
        (b'{"type": "\\ud800", "id": "a"}', "unknown_type", None, "a"),
        (b'{"type": "chat.send", "id": "' + b"i" * 129 + b'", "content": "x"}', "invalid_payload", "$.id", None),
    ],
)  # fmt: skip
def test_a_bad_frame_is_told_with_code_place_and_request(
    text: bytes, code: str, path: str | None, request_id: str | None
) -> None:
    """Lone surrogates are told apart from bad JSON, wherever they stand (rulings 45)."""
    with pytest.raises(BadFrame) as bad:
        decode_command(text)
    assert bad.value.error.code == code
    assert (bad.value.error.details or {}).get("path") == path
    assert bad.value.request == request_id


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(text: bytes) -> None:
    with pytest.raises(BadFrame) as bad:
        decode_command(text)
    assert bad.value.error.message


@given(st.text(max_size=50), st.text(min_size=1, max_size=128))
def test_any_text_comes_back_unchanged(content: str, request: str) -> None:
    frame = {"type": "chat.send", "id": request, "content": content}
    found = decode_command(msgspec.json.encode(frame))
    assert isinstance(found, c.ChatSend)
    assert (found.content, found.id) == (content, request)


def test_a_fact_that_is_a_reply_is_its_stored_bytes_and_the_request() -> None:
    fact = f.RunCancelling(session="s", seq=3, ts=1, run="r", run_seq=2)
    body = encode(fact)
    assert decode_fact(body) == fact
    assert msgspec.json.decode(with_request(body, 'a"b')) == {**msgspec.json.decode(body), "request": 'a"b'}
    assert with_request(body, None) is body


def test_a_fact_that_is_no_text_is_damage_like_any_other() -> None:
    body = b'{"type":"warning","session":"s","ts":1,"seq":1,"code":"x","message":"w\xff","source":"y"}'
    with pytest.raises(msgspec.DecodeError, match="UTF-8"):
        decode_fact(body)


@pytest.mark.parametrize("depth", [0, 400, 900, 950, 970, 980, 990, 1_000, 1_100, 5_000, 100_000])
@pytest.mark.parametrize("brackets", [(b"[", b"]"), (b'{"a":', b"}")])
def test_a_frame_of_any_depth_is_told(depth: int, brackets: tuple[bytes, bytes]) -> None:
    text = b'{"type": "chat.send", "content": 7, "x": ' + brackets[0] * depth + b"1" + brackets[1] * depth + b"}"
    with pytest.raises(BadFrame) as bad:
        decode_command(text)
    assert bad.value.error.code in ("invalid_payload", "invalid_frame")


def test_what_json_reads_deeper_than_functions_go_is_told_with_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """As newer Pythons have it, whose `json` has a bound of its own."""
    value: list[object] = []
    for _ in range(5_000):
        value = [value]
    monkeypatch.setattr("agentd.protocol.codec.json.loads", lambda text: {"type": "chat.send", "id": "a", "x": value})
    with pytest.raises(BadFrame) as bad:
        decode_command(b'{"type": "chat.send", "id": "a", "content": 7}')
    assert (bad.value.error.code, bad.value.request) == ("invalid_frame", "a")
