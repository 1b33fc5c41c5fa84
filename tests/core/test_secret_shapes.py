import time

import pytest

from agentd.core.secret_shapes import find_shapes

PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAK\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("rule", "secret"),
    [
        ("openai_key", "sk-proj-abcdefghijklmnop1234"),
        ("openai_key", "sk-abcdefghijklmnopqrstuvwxyz"),
        ("anthropic_key", "sk-ant-api03-abcdefghijklmnop"),
        ("stripe_key", "sk_" + "live_abcdefghijklmnop1234"),
        ("github_token", "ghp_abcdefghijklmnopqrstuvwxyz0123456789"),
        ("github_token", "github_pat_11ABCDEFG0abcdefghijkl_mnop"),
        ("gitlab_token", "glpat-abcdefghijklmnopqrst"),
        ("slack_token", "xox" + "b-123456789012-abcdefGHIJ"),
        ("aws_key", "AKIAIOSFODNN7EXAMPLE"),
        ("google_key", "AIzaSyA1234567890abcdefghijklmnopqrstuv"),
        ("huggingface_token", "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH"),
        ("npm_token", "npm_abcdefghijklmnopqrstuvwxyz0123456789"),
        ("jwt", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSMeKKF2QT4"),
        ("private_key", PEM),
    ],
)
def test_a_key_of_a_known_shape_is_found_wherever_it_stands(rule: str, secret: str) -> None:
    for before, after in (("", ""), ("use ", " now"), ("x=", "\n"), ('{"a": "', '"}'), ("é(", ")。")):
        text, rules = find_shapes(f"{before}{secret}{after}")
        assert text == f"{before}[scrubbed:{rule}]{after}"
        assert rules == [rule]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Authorization: Bearer abcd", "Authorization: Bearer [scrubbed:authorization]"),
        ('"authorization": "Basic dXNl"', '"authorization": "Basic [scrubbed:authorization]"'),
        ("send bearer abcdef123456 now", "send bearer [scrubbed:bearer] now"),
        ("postgres://u:hunter2@db/x", "postgres://u:[scrubbed:url_password]@db/x"),
        ("redis://:pw@h", "redis://:[scrubbed:url_password]@h"),
        ("password=hunter2", "password=[scrubbed:assignment]"),
        ("DB_PASSWORD: 'abc123'", "DB_PASSWORD: '[scrubbed:assignment]'"),
        ('{"api_key": "abc-123-def"}', '{"api_key": "[scrubbed:assignment]"}'),
        ("OPENAI_API_KEY := abc123", "OPENAI_API_KEY := [scrubbed:assignment]"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "aws_secret_access_key = [scrubbed:assignment]"),
    ],
)
def test_of_a_header_an_address_and_an_assignment_only_the_secret_goes(text: str, left: str) -> None:
    assert find_shapes(text)[0] == left
    assert find_shapes(left) == (left, [])


@pytest.mark.parametrize(
    "text",
    [
        "commit 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "id 123e4567-e89b-12d3-a456-426614174000",
        "the class sk-circle-fade-dot-animation",
        "task-management-and-risk-assessment",
        "basic understanding of basic authentication/authorization",
        "password: required",
        "password=${DB_PASSWORD1}",
        "token: /run/secrets/token1",
        "token=$TOKEN_1 secret=./file1 key",
        "api_key=config.api_key",
        "tokens: 120000, max_tokens=4096",
        "secret: https://a.b/c1",
        "the public key and the private key",
        "-----BEGIN PUBLIC KEY----- private key",
        "https://host:8080/path and user@example.org",
        "https://a:${PW}@b",
        "Authorization: Bearer ${TOKEN}",
        "xoxb-is-a-prefix-of-slack",
        "AKIA and ASIA, AIza, eyJ, hf_, npm_, ghp_, glpat-",
        "SAKIAIOSFODNN7EXAMPLE",
    ],
)
def test_what_only_resembles_a_secret_stays(text: str) -> None:
    found, rules = find_shapes(text)
    assert found is text
    assert rules == []


def test_a_private_key_without_an_end_goes_to_the_end() -> None:
    text = f"a {PEM} b -----BEGIN PRIVATE KEY-----\nMIIE"
    assert find_shapes(text) == ("a [scrubbed:private_key] b [scrubbed:private_key]", ["private_key"])


def test_several_secrets_of_a_shape_are_one_rule() -> None:
    text, rules = find_shapes("ghp_aaaaaaaaaaaaaaaaaaaaaa ghp_bbbbbbbbbbbbbbbbbbbbbb password=abc123")
    assert text == "[scrubbed:github_token] [scrubbed:github_token] password=[scrubbed:assignment]"
    assert rules == ["github_token", "assignment"]


def test_hostile_text_is_searched_in_linear_time() -> None:
    units = [
        "sk-",
        "eyJaaaaaaaa.",
        "://a:",
        "bearer\t",
        "token:= ",
        "-----BEGIN PRIVATE KEY",
        "-----BEGIN " + "A " * 19,
    ]
    begin = time.process_time()
    for unit in units:
        find_shapes((unit * 65_536)[:65_536])
        find_shapes(unit + "x" * 65_536)
    assert time.process_time() - begin < 0.5
