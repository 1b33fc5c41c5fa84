"""What tests, benches and demonstrations write into a text to steer the offline provider: `[[name=value ...]]`.

    [[chunks=20]]                 the reply is exactly 20 chunks
    [[pace_ms=50]]                wait so long before each chunk of this reply
    [[fail=rate_limit]]           fail with this kind (protocol.md, 3) before anything was shown
    [[fail=network after=5]]      the same after 5 chunks
    [[fail=auth in=answer]]       the same, only in calls of this purpose (answer, task, planning, summary)
    [[tool=NAME {"x": 1}]]        ask for this tool once, when it is offered

Only the first `READ_CHARS_MAX` characters of the last user message count, and of one name the first. Anything else in
double brackets stays text. Without `in` the answer of a goal does not fail: the goal's words stand in it too. The
values are bounded, since any client may write them.
"""

import re

import msgspec

READ_CHARS_MAX = 4_000
CHUNKS_MAX = 10_000
PACE_MS_MAX = 10_000

# The kinds of protocol.md, 3, and whether a later call may succeed.
RETRYABLE = {
    "auth": False,
    "rate_limit": True,
    "timeout": True,
    "network": True,
    "malformed_output": True,
    "context_length": False,
    "refused": False,
    "unavailable": True,
}

_DIRECTIVE = re.compile(
    r"\s?\[\[(?:"
    r"chunks=(?P<chunks>\d{1,9})"
    r"|pace_ms=(?P<pace_ms>\d{1,9})"
    rf"|fail=(?P<fail>{'|'.join(RETRYABLE)})(?:\s+after=(?P<after>\d{{1,9}}))?"
    r"(?:\s+in=(?P<purpose>answer|task|planning|summary))?"
    r"|tool=(?P<tool>[A-Za-z0-9_.:-]{1,128})(?:\s+(?P<arguments>\{.*?\}))?"
    r")\s*\]\]",
    re.DOTALL,
)


class Directives(msgspec.Struct, frozen=True):
    """`text` is what was said without the directives."""

    text: str
    chunks: int | None = None
    pace_ms: int | None = None
    fail: str | None = None
    fail_after: int = 0
    fail_in: str | None = None
    tool: str | None = None
    arguments: str = "{}"


def read(text: str) -> Directives:
    """The directives in `text`. Never fails: what is no directive is text."""
    if "[[" not in text:
        return Directives(text)
    found: dict[str, str] = {}
    head, tail = text[:READ_CHARS_MAX], text[READ_CHARS_MAX:]
    for match in _DIRECTIVE.finditer(head):
        for name, value in match.groupdict().items():
            if value is not None:
                found.setdefault(name, value)
    return Directives(
        text=(_DIRECTIVE.sub("", head) + tail).strip(),
        chunks=_bounded(found.get("chunks"), 1, CHUNKS_MAX),
        pace_ms=_bounded(found.get("pace_ms"), 0, PACE_MS_MAX),
        fail=found.get("fail"),
        fail_in=found.get("purpose"),
        fail_after=_bounded(found.get("after"), 0, CHUNKS_MAX) or 0,
        tool=found.get("tool"),
        arguments=found.get("arguments", "{}"),
    )


def _bounded(text: str | None, least: int, most: int) -> int | None:
    return None if text is None else min(max(int(text), least), most)
