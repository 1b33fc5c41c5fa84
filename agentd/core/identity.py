"""Identity layers merged: SOUL over AGENT over IDENTITY over USER.

A layer is one Markdown file, read flat: each heading, of any level, begins a section that ends at the next heading.
A heading that a higher layer claims shadows the section in a lower one; within one file a heading may stand twice.
Two headings are the same when they differ only in case, level, white space or closing `#`s. Text before the first
heading has no name and is never shadowed; a section without a word of text claims nothing. Headings inside code
fences are text. `Title` over `===` or `---` is a heading too, when it is one line, alone in its paragraph.
The order of the text is the order of precedence, so what does not fit is always the tail of the lowest layers.
"""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from agentd.core.tokens import byte_length, cut_to_bytes

LayerName = Literal["SOUL", "AGENT", "IDENTITY", "USER"]

PRECEDENCE: tuple[LayerName, ...] = ("SOUL", "AGENT", "IDENTITY", "USER")
_GAP = "\n\n"

_ATX = re.compile(r" {0,3}#{1,6}(?=[ \t]|$)")
_FENCE = re.compile(r" {0,3}(?P<run>`{3,}|~{3,})(?P<info>.*)$")
_UNDERLINE = re.compile(r" {0,3}(?:={2,}|-{2,})[ \t]*$")
# What opens another block cannot be the text of an underlined heading.
_OTHER_BLOCK = re.compile(r" {4}|\t| {0,3}(?:[-*+>|=]|\d+[.)]|```|~~~)")


class Layer(msgspec.Struct, frozen=True):
    """One file as it was read; `text` is None when there is none."""

    name: LayerName
    path: str
    text: str | None


class Shadow(msgspec.Struct, frozen=True):
    """A heading that was left out, and the layer that claimed it."""

    heading: str
    by: str


class LayerReport(msgspec.Struct, frozen=True):
    """What became of one layer that is there.

    `bytes`: what it brings to the merged text. `headings`: all of the file, the shadowed included.
    """

    name: LayerName
    path: str
    bytes: int
    headings: tuple[str, ...]
    shadowed: tuple[Shadow, ...]
    truncated: bool


class Identity(msgspec.Struct, frozen=True):
    """The merged text, the first 32 hex digits of its SHA-256, its size, and how it came about."""

    text: str
    hash: str
    bytes: int
    layers: tuple[LayerReport, ...]
    warnings: tuple[str, ...]


class _Section(NamedTuple):
    heading: str
    text: str
    blank: bool


class _Merged(NamedTuple):
    layer: Layer
    text: str
    headings: tuple[str, ...]
    shadowed: tuple[Shadow, ...]


def merge(layers: Sequence[Layer], budget_bytes: int) -> Identity:
    """Merge the layers that are there, whatever order they are given in, into at most `budget_bytes` bytes."""
    claimed: dict[str, str] = {}
    merged: list[_Merged] = []
    warnings: list[str] = []
    for layer in sorted(layers, key=lambda one: PRECEDENCE.index(one.name)):
        if layer.text is not None:
            sections, open_fence = _sections(_normalized(layer.text))
            if open_fence:
                warnings.append(f"{layer.path}: a code fence is never closed, headings after it count as text")
            merged.append(_shadow(layer, sections, claimed, open_fence))
    whole = _GAP.join(one.text for one in merged if one.text)
    text = cut_to_bytes(whole, budget_bytes)
    reports = _reports(merged, byte_length(text))
    if len(text) < len(whole):
        lost = ", ".join(report.path for report in reports if report.truncated)
        warnings.append(f"identity cut from {byte_length(whole)} to {byte_length(text)} bytes: {lost}")
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return Identity(text, digest, byte_length(text), reports, tuple(warnings))


def _normalized(text: str) -> str:
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _shadow(layer: Layer, sections: list[_Section], claimed: dict[str, str], open_fence: str) -> _Merged:
    """Leave out what is claimed above, then claim the rest: so a file never shadows itself."""
    kept, shadowed, claims = [], [], set()
    for section in sections:
        key = _key(section.heading)
        if key and key in claimed:
            shadowed.append(Shadow(section.heading, claimed[key]))
            continue
        kept.append(section.text)
        if key and not section.blank:
            claims.add(key)
    claimed.update(dict.fromkeys(claims, layer.name))
    # An open fence is closed here, or the layers below would be read as part of the code.
    text = "\n".join([*kept, open_fence] if open_fence else kept).strip("\n")
    headings = tuple(section.heading for section in sections if section.heading)
    return _Merged(layer, text if text.strip() else "", headings, tuple(shadowed))


def _reports(merged: list[_Merged], kept_bytes: int) -> tuple[LayerReport, ...]:
    reports, start = [], 0
    for one in merged:
        size = byte_length(one.text)
        inside = max(0, min(size, kept_bytes - start))
        reports.append(LayerReport(one.layer.name, one.layer.path, inside, one.headings, one.shadowed, inside < size))
        start += size + len(_GAP) if size else 0
    return tuple(reports)


def _key(heading: str) -> str:
    return " ".join(unicodedata.normalize("NFC", heading).casefold().split())


def _sections(text: str) -> tuple[list[_Section], str]:
    """The sections of a file in order, and the fence that is still open at its end (empty when none is)."""
    lines = text.split("\n")
    sections: list[_Section] = []
    heading, first, body, fence = "", 0, 0, ""
    for number, line in enumerate(lines):
        if fence:
            fence = "" if _closes(line, fence) else fence
            continue
        fence = _opens(line)
        found = None if fence else _heading_at(lines, number, body)
        if found is not None:
            name, start = found
            _close(sections, heading, lines[first:start], lines[body:start])
            heading, first, body = name, start, number + 1
    _close(sections, heading, lines[first:], lines[body:])
    return sections, fence


def _close(sections: list[_Section], heading: str, lines: list[str], body: list[str]) -> None:
    if lines:
        sections.append(_Section(heading, "\n".join(lines), not any(line.strip() for line in body)))


def _heading_at(lines: list[str], number: int, body: int) -> tuple[str, int] | None:
    """The name of the heading that line `number` is or underlines, and the line it begins at."""
    line = lines[number]
    if mark := _ATX.match(line):
        return _without_closing(line[mark.end() :]), number
    above = number - 1
    alone = above == body or (above > body and not lines[above - 1].strip())
    if alone and _UNDERLINE.match(line) and lines[above].strip() and not _OTHER_BLOCK.match(lines[above]):
        return lines[above].strip(), above
    return None


def _without_closing(rest: str) -> str:
    """`Title ##` is the heading `Title`; `C#` stays as it is."""
    name = rest.strip(" \t")
    bare = name.rstrip("#")
    return bare.strip(" \t") if not bare or bare[-1] in " \t" else name


def _opens(line: str) -> str:
    """The run of marks that opens a code fence in this line, else an empty string."""
    found = _FENCE.match(line)
    if found is None or (found["run"][0] == "`" and "`" in found["info"]):
        return ""
    return found["run"]


def _closes(line: str, fence: str) -> bool:
    found = _FENCE.match(line)
    return bool(found and found["run"].startswith(fence) and not found["info"].strip())
