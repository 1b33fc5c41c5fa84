"""What a secret looks like in a text: keys of well-known issuers, tokens, private keys, passwords in addresses.

A shape is searched for only where its rare characters and then its fixed letters occur, so a clean text costs a few
microseconds; each pattern is linear in the text. Text that merely looks random is no secret: commit hashes and ids
would be lost. An assignment (`password=...`) counts only when its value looks like no word, for the same reason.
"""

import re
from collections.abc import Callable
from itertools import groupby
from typing import NamedTuple


class _Shape(NamedTuple):
    """`rare`: one of these characters, and `letters`: one of these, in lower case, is in every text with the shape.

    The group `secret` goes, when it is `genuine`.
    """

    rule: str
    rare: str
    letters: tuple[str, ...]
    pattern: re.Pattern[str]
    genuine: Callable[[str], bool]


def _always(_: str) -> bool:
    return True


def _has_digit(secret: str) -> bool:
    return any(char.isdigit() for char in secret)


def _no_words(secret: str) -> bool:
    """No row of joined words: a digit, padding, or a run of letters longer than words are."""
    return _has_digit(secret) or secret.endswith("=") or max(map(len, re.split("[_./-]", secret))) >= 16


def _mixed(secret: str) -> bool:
    return _has_digit(secret) and any(map(str.isalpha, secret)) and secret[0] not in "/.$" and "://" not in secret


def _shape(rule: str, rare: str, letters: str, pattern: str, genuine: Callable[[str], bool] = _always) -> _Shape:
    return _Shape(rule, rare, tuple(letters.split()), re.compile(pattern, re.ASCII), genuine)


_SHAPES = (
    _shape("anthropic_key", "-", "sk-ant-", r"(?<![A-Za-z0-9])(?P<secret>sk-ant-[\w-]{16,})"),
    _shape("openai_key", "-", "sk-", r"(?<![A-Za-z0-9])(?P<secret>sk-[\w-]{16,})", _no_words),
    _shape("stripe_key", "_", "k_live_ k_test_", r"(?<![A-Za-z0-9])(?P<secret>[rs]k_(?:live|test)_[A-Za-z0-9]{16,})"),
    _shape(
        "github_token",
        "_",
        "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
        r"(?<![A-Za-z0-9])(?P<secret>gh[oprsu]_[A-Za-z0-9]{20,}|github_pat_\w{20,})",
    ),
    _shape("gitlab_token", "-", "glpat-", r"(?<![A-Za-z0-9])(?P<secret>glpat-[\w-]{16,})"),
    _shape(
        "slack_token", "-", "xox xapp-", r"(?<![A-Za-z0-9])(?P<secret>(?:xox[a-z]|xapp)-[A-Za-z0-9-]{10,})", _has_digit
    ),
    _shape("aws_key", "KS", "akia asia", r"(?<![A-Za-z0-9])(?P<secret>A[KS]IA[A-Z0-9]{16})(?![A-Za-z0-9])"),
    _shape("google_key", "z", "aiza", r"(?<![A-Za-z0-9])(?P<secret>AIza[\w-]{30,})"),
    _shape("huggingface_token", "_", "hf_", r"(?<![A-Za-z0-9])(?P<secret>hf_[A-Za-z0-9]{30,})"),
    _shape("npm_token", "_", "npm_", r"(?<![A-Za-z0-9])(?P<secret>npm_[A-Za-z0-9]{30,})"),
    _shape("jwt", "J", "eyj", r"(?<![\w-])(?P<secret>eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"),
    _shape(
        "authorization",
        ":=",
        "authorization",
        r"(?i:authorization)[\"']?[ \t]{0,3}[:=][ \t]{0,3}[\"']?(?i:bearer|basic|token|digest)[ \t]{1,8}"
        r"(?P<secret>[^\s\"',;\[\]${}]{4,})",
    ),
    _shape(
        "bearer", " \t", "bearer basic", r"\b(?i:bearer|basic)[ \t]{1,8}(?P<secret>[\w.~+/-]{12,}={0,2})", _no_words
    ),
    _shape("url_password", "@", "://", r"://[^\s/@:?#]{0,128}:(?P<secret>[^\s/@?#\[\]${}]{1,256})@"),
    _shape(
        "assignment",
        ":=",
        "password passwd passphrase pwd secret token key",
        r"(?i:password|passwd|passphrase|pwd|secret|token|(?:api|access|private|secret|signing|encryption)[ _-]?key)"
        r"[\"']?[ \t]{0,3}(?::=|[:=])[ \t]{0,3}[\"']?(?P<secret>[^\s\"'`,;&()\[\]{}<>]{6,})",
        _mixed,
    ),
)
_BY_RARE = tuple((rare, tuple(shapes)) for rare, shapes in groupby(_SHAPES, key=lambda shape: shape.rare))
_KEY_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")


def find_shapes(text: str) -> tuple[str, list[str]]:
    """The text with a mark in the place of each secret, and the rules that found one."""
    lower = text.lower()
    rules: list[str] = []
    if "-----" in text and "private key" in lower:
        text = _without_keys(text, rules)
    for rare, shapes in _BY_RARE:
        for char in rare:  # a plain loop: each chat turn passes here, and mostly finds nothing
            if char in text:
                text = _without_shapes(text, lower, shapes, rules)
                break
    return text, rules


def _without_shapes(text: str, lower: str, shapes: tuple[_Shape, ...], rules: list[str]) -> str:
    for shape in shapes:
        if any(letters in lower for letters in shape.letters):
            text = _without(text, shape, rules)
    return text


def _without(text: str, shape: _Shape, rules: list[str]) -> str:
    pieces, at = [], 0
    for match in shape.pattern.finditer(text):
        if shape.genuine(match["secret"]):
            start, end = match.span("secret")
            pieces += [text[at:start], f"[scrubbed:{shape.rule}]"]
            at = end
    if not pieces:
        return text
    rules.append(shape.rule)
    return "".join([*pieces, text[at:]])


def _without_keys(text: str, rules: list[str]) -> str:
    """Private keys go with their first and last lines; one without an end goes to the end of the text."""
    pieces, at = [], 0
    while begin := _KEY_BEGIN.search(text, at):
        end = _KEY_END.search(text, begin.end())
        pieces += [text[at : begin.start()], "[scrubbed:private_key]"]
        at = end.end() if end else len(text)
    if not pieces:
        return text
    rules.append("private_key")
    return "".join([*pieces, text[at:]])
