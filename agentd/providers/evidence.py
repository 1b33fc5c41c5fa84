"""Finds the results of tasks in a prompt, so that the offline provider can tell them in order.

It reads what `core/prompt.py` writes: a user message right before the current one, in which every result is enclosed by
numbered marks (`core/evidence.py`), as `task: TITLE`, `status: STATUS`, an empty line and the content. What is inside a
mark is content, whatever it says; a user who types the like in a chat is not believed, because the place is wrong. One
pass over the text, because it may be hostile.
"""

import re
from collections.abc import Sequence

import msgspec

from agentd.providers.provider import Message

FINDINGS_MAX = 1_000

_OPENS = "<<<data "
_MARK = re.compile(r"<<<data (\d{1,9}): ([^\n]{0,200})\n")
_RESULT = re.compile(r"task: ([^\n]*)\nstatus: ([a-z_]+)(?:\n\n?|$)")


class Finding(msgspec.Struct, frozen=True):
    """One task as the prompt tells of it."""

    title: str
    status: str
    text: str


def findings(messages: Sequence[Message]) -> list[Finding]:
    """The tasks told of before the current user message, in their order; empty when there are none."""
    last = next((place for place in range(len(messages) - 1, -1, -1) if messages[place].role == "user"), 0)
    before = messages[last - 1] if last else None
    return _results(before.content) if before is not None and before.role == "user" else []


def is_quotation(message: Message) -> bool:
    """The message is no turn of the user's but something quoted for the model."""
    return message.role == "user" and _OPENS in message.content and message.content.rstrip().endswith(">>>")


def _results(content: str) -> list[Finding]:
    found: list[Finding] = []
    at = content.find(_OPENS)
    while at >= 0 and len(found) < FINDINGS_MAX:
        mark = _MARK.match(content, at)
        end = content.find(f"\ndata {mark[1]}>>>", mark.end() - 1) if mark else -1
        if mark is None or end < 0:
            break
        inside = content[mark.end() : end]
        if result := _RESULT.match(inside):
            found.append(Finding(result[1], result[2], inside[result.end() :].strip()))
        at = content.find(_OPENS, end)
    return found
