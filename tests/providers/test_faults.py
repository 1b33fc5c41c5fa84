"""Reading what failing servers say."""

import email.utils

import pytest

from agentd.providers.faults import MESSAGE_CHARS_MAX, Refused, Scrub, of_refusal, retry_after_s

NOW_MS = 1_790_000_000_000


def told(status: int, body: bytes, key: str = "sk-0123456789") -> str:
    refused = Refused(status, {}, body)
    return of_refusal(refused, model="m", scrub=Scrub(key), now_ms=NOW_MS).message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": {"message": "too bad", "code": 7}}', "too bad"),
        (b'{"error": "too bad"}', "too bad"),
        (b'{"message": "too bad"}', "too bad"),
        (b'{"detail": [{"msg": "too bad"}]}', "too bad"),
        (b"<html><h1>too bad</h1></html>", "too bad"),
        (b"\xff\xfe too bad", "too bad"),
        (b"[]", "[]"),
        (b"", "HTTP status 418"),
    ],
)
def test_every_form_of_an_error_is_read(body: bytes, words: str) -> None:
    assert words in told(418, body)


def test_messages_are_cut() -> None:
    assert len(told(400, b"x" * 100_000)) <= MESSAGE_CHARS_MAX + 1


@pytest.mark.parametrize(
    "text",
    [
        "bad key my-own-key-1234 here",
        "Incorrect API key provided: sk-abcd****wxyz.",
        "header Authorization: Bearer abc.def",
        "pad " * 60 + "my-own-key-1234",
    ],
)
def test_keys_are_taken_out(text: str) -> None:
    clean = Scrub("my-own-key-1234")(text)
    assert not any(secret in clean for secret in ("my-own", "1234", "abcd", "wxyz", "abc.def"))


def test_a_placeholder_for_a_key_does_not_mangle_messages() -> None:
    assert Scrub("x")("an example") == "an example"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after": email.utils.formatdate(NOW_MS / 1000 + 10, usegmt=True)}, 10.0),
        ({"retry-after": email.utils.formatdate(NOW_MS / 1000 - 10, usegmt=True)}, 0.0),
    ],
)
def test_retry_after_is_read_in_every_form(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after_s(headers, NOW_MS) == expected


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": {"message": "x", "code": "context_length_exceeded"}}',
        b'{"error": {"message": "it exceeds the available context size", "type": "exceed_context_size_error"}}',
        b'{"error": {"message": "This model\'s maximum context length is 8192 tokens"}}',
        b'{"error": {"message": "prompt is too long: 9000 tokens"}}',
    ],
)
def test_a_prompt_that_is_too_long_is_recognised_by_code_and_by_words(body: bytes) -> None:
    error = of_refusal(Refused(400, {}, body), model="m", scrub=Scrub("k"), now_ms=NOW_MS)
    assert (error.kind, error.may_retry) == ("context_length", False)
