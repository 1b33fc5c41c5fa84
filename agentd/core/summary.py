"""A summary without a model: an extract of the words themselves, the same for the same words.

The first sentence of each entry, cut to a fair share of the room, oldest first; where there is too little room for
all, the first and the newest are kept and what is left out is counted. What is wanted in full is read by its range.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from agentd.core.tokens import byte_length, cut_to_bytes

LINE_BYTES_MIN = 48
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|\n")
_TRUST = ("user", "system", "agent", "tool")


class Said(NamedTuple):
    """An entry as a summary sees it. `origin`: user, agent, tool, system."""

    role: str
    origin: str
    content: str


def extract(entries: Sequence[Said], max_bytes: int) -> str:
    """At most `max_bytes` of UTF-8 that say what was said."""
    entries = [one for one in entries if one.content.strip()]
    if not entries:
        return ""
    fit = max(1, max_bytes // LINE_BYTES_MIN)
    left_out = 0
    if len(entries) > fit:
        head = max(1, fit // 3)
        tail = max(0, fit - head - 1)
        left_out = len(entries) - head - tail
        entries = [*entries[:head], *entries[len(entries) - tail :]]
    share = max(1, (max_bytes - (32 if left_out else 0)) // len(entries) - 1)
    lines = [_line(one, share) for one in entries]
    if left_out:
        lines.insert(max(1, fit // 3), f"[… {left_out} more]")
    return cut_to_bytes("\n".join(lines), max_bytes)


def _line(one: Said, max_bytes: int) -> str:
    text = " ".join(_SENTENCE.split(one.content.strip(), maxsplit=1)[0].split())
    line = f"{one.role}: {text}"
    return line if byte_length(line) <= max_bytes else cut_to_bytes(line, max(max_bytes - 3, 1)) + "…"


def lowest_trust(origins: Sequence[str]) -> str:
    """A summary is trusted no more than the least of its parts; what is not known is trusted least."""
    return max(origins, key=lambda one: _TRUST.index(one) if one in _TRUST else len(_TRUST), default="user")
