"""Finds the results of tasks in the prompt of a goal's answer, so that the offline provider can tell them in order.

A result begins with a line that names its task and how it ended, and reaches to the next such line. Several writings
are understood, because the prompt is made for models and not for this parser:

    <task id="t1" title="Count the words" status="done"> ... </task>        attributes in any order, any tag name
    ## Count the words (done)        [done] Count the words: 42        1. Count the words — done: 42
"""

import re

import msgspec

ENDINGS = ("done", "failed", "cancelled", "skipped", "dropped", "needs_review")
FINDINGS_MAX = 1_000
LINE_CHARS_MAX = 400  # a longer line is content; it also bounds what a hostile line costs the patterns

_ENDING = "|".join(ENDINGS)
_MARK = re.compile(_ENDING, re.IGNORECASE)
_ATTRIBUTE = re.compile(r'([a-z_]+)="([^"]*)"')
_TAG = re.compile(rf'^\s*<([a-z_-]+)\b([^<>]*\bstatus="(?:{_ENDING})"[^<>]*)>(.*)$', re.IGNORECASE)
_LEAD = r"^\s*(?:[-*>]\s+|\d+[.)]\s+|#{1,6}\s+)*(?:task\s+)?"
_STATUS = rf"(?P<status>{_ENDING})"
_REST = r"\s*(?P<rest>.*)"
_LINES = tuple(
    re.compile(_LEAD + writing, re.IGNORECASE)
    for writing in (
        rf"\[{_STATUS}\]\s*(?P<title>[^:\n]+?)\s*(?::{_REST})?$",
        rf"(?P<title>.+?)\s*[(\[](?:[^()\[\]]*[\s,:])?{_STATUS}[)\]]\s*(?::{_REST})?$",
        rf"(?P<title>.+?)\s*(?:[—–:]|\s-)\s*{_STATUS}\b\s*(?:[:.,—–-]{_REST})?$",
    )
)


class Finding(msgspec.Struct):
    """One task as the prompt tells of it."""

    title: str
    status: str
    text: str = ""


def findings(prompt: str) -> list[Finding]:
    """The tasks told of in `prompt`, in its order; empty when it tells of none."""
    found: list[Finding] = []
    for line in prompt.splitlines():
        begun = _begun(line)
        if begun is not None and len(found) < FINDINGS_MAX:
            found.append(begun)
        elif found and line.strip() and not re.fullmatch(r"\s*(</[a-z_-]+>|```\w*|>+)\s*", line):
            found[-1].text += ("\n" if found[-1].text else "") + line.strip().removeprefix("> ")
    for one in found:
        one.text = re.sub(r"\s*</[a-z_-]+>\s*$", "", one.text).strip()
    return found


def _begun(line: str) -> Finding | None:
    if len(line) > LINE_CHARS_MAX or not _MARK.search(line):
        return None
    if tag := _TAG.match(line):
        attributes = dict(_ATTRIBUTE.findall(tag[2]))
        title = attributes.get("title") or attributes.get("task") or attributes.get("id") or tag[1]
        return Finding(title, attributes["status"], tag[3].strip())
    for pattern in _LINES:
        if match := pattern.match(line):
            title = match["title"].strip("\"'“”*_ ")
            return Finding(title, match["status"].lower(), (match["rest"] or "").strip())
    return None
