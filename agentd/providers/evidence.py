"""Finds the results of tasks in the prompt of a goal's answer, so that the offline provider can tell them in order.

A result begins with a line that names its task and how it ended, and reaches to the next such line; in a tag it
reaches to the end tag, whatever it says. Several writings are understood, because the prompt is made for models and not
for this parser:

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
_ATTRIBUTE = re.compile(r'([a-z_]+)="([^"]*)"', re.IGNORECASE)
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
    closing = ""  # the end tag of the result that is open: up to there everything is its text
    for line in prompt.splitlines():
        if closing:
            inside, ended, _ = line.partition(closing)
            _append(found[-1], inside)
            closing = "" if ended else closing
        elif len(found) < FINDINGS_MAX and (begun := _tagged(line)):
            one, closing = begun
            found.append(one)
        elif len(found) < FINDINGS_MAX and (one_line := _written(line)):
            found.append(one_line)
        elif found:
            _append(found[-1], line)
    return found


def _append(one: Finding, line: str) -> None:
    text = line.strip()
    if text and not text.startswith("```"):
        one.text += ("\n" if one.text else "") + text.removeprefix("> ")


def _tagged(line: str) -> tuple[Finding, str] | None:
    """The finding that a tag begins, and the tag that ends it (empty when it ends on the same line)."""
    match = _TAG.match(line) if "<" in line and len(line) <= LINE_CHARS_MAX else None
    if match is None:
        return None
    attributes = {name.lower(): value for name, value in _ATTRIBUTE.findall(match[2])}
    title = attributes.get("title") or attributes.get("task") or attributes.get("id") or match[1]
    closing = f"</{match[1]}>"
    inside, ended, _ = match[3].partition(closing)
    whole = bool(ended) or match[2].rstrip().endswith("/")
    return Finding(title, attributes["status"].lower(), inside.strip()), "" if whole else closing


def _written(line: str) -> Finding | None:
    if len(line) > LINE_CHARS_MAX or not _MARK.search(line):
        return None
    for pattern in _LINES:
        if match := pattern.match(line):
            title = match["title"].strip("\"'“”*_ ")
            return Finding(title, match["status"].lower(), (match["rest"] or "").strip())
    return None
