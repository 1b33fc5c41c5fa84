"""The outline of a goal: which stretches of its text are parts to do, and which are context of those parts.

Lists come first: an author who made items has divided the goal already, so items are not divided again, and what is
indented under one belongs to it. Without a list each line falls into its clauses. Context of all parts is what stands
before a list and what asks for nothing after one; context of the parts that follow is a line that ends in ":", a
Markdown heading, and an item that ends in ":" over a list of its own.
Spans only, no copies: whatever is no mark and no separator lies in a part or in a context.
"""

import re
from typing import Literal, NamedTuple

from agentd.core.clauses import begins_task, clauses, is_ordered
from agentd.core.quoted import MARKER, VEIL

Span = tuple[int, int]

_LINE = re.compile(r"[^\r\n]+")
_LABEL = re.compile(
    r"(?<!\S)(?:\(?(?P<label>\d{1,3}|[a-z])[.)]|(?P<step>step|task|part)\s{1,4}(?P<number>\d{1,3})\s{0,4}[:.)–—-])\s",
    re.IGNORECASE,
)
_INTRODUCTION = re.compile(
    r"[^:;.!?]{0,80}\b(?:following|these|tasks?|things|to-?dos?|steps?|goals?|step[- ]by[- ]step|in (?:this )?order)"
    r"(?: (?:tasks|things|steps|items))?\s{0,4}:(?=\s)",
    re.IGNORECASE,
)
_HEADING = re.compile(r"#{1,6}\s")
_NESTED_BY = 2  # columns; less is a crooked list, not a deeper one
_WRAPPED_FROM = 60  # characters; a shorter line was ended on purpose


class Part(NamedTuple):
    """A stretch to do. `item`: of a list. `step`: marked as a step of a sequence.

    `section`: the headings over it; parts under the same headings hold the same object.
    """

    start: int
    end: int
    section: tuple[Span, ...] = ()
    item: bool = False
    step: bool = False


class Outline(NamedTuple):
    """The parts in the order of the text, and the context of all of them."""

    parts: list[Part]
    shared: list[Span]


class _Line(NamedTuple):
    start: int
    end: int
    column: int
    kind: Literal["text", "item", "step", "heading", "code"]
    body: int


def outline(text: str, veiled: str) -> Outline:
    """Read `text`, whose quotations are veiled in `veiled`."""
    lines = [line for found in _LINE.finditer(veiled) for line in _read(text, veiled, *found.span())]
    listed = _is_list(lines)
    reader = _Reader(veiled, listed)
    for line in lines if listed else _unwrapped(veiled, lines):
        reader.take(line)
    return reader.finish()


def _read(text: str, veiled: str, start: int, end: int) -> list[_Line]:
    """The line, or what it enumerates: "do 1) this 2) that" is a heading and two items."""
    line = veiled[start:end]
    start, column = end - len(line.lstrip()), len(line.expandtabs(4)) - len(line.lstrip().expandtabs(4))
    end = start + len(line.strip())
    if start == end:
        return []
    labels = _labels(veiled, start, end)
    if labels:
        heads = [_Line(start, labels[0].start(), column, "heading", start)] if labels[0].start() > start else []
        ends = [*(label.start() for label in labels[1:]), end]
        return heads + [
            _Line(at.start(), stop, column, "step" if at["step"] else "item", at.end())
            for at, stop in zip(labels, ends, strict=True)
        ]
    marker = MARKER.match(text, start, end)
    if marker and marker.end() < end and veiled[start] != VEIL:
        return [_Line(start, end, column, "step" if marker["step"] else "item", marker.end())]
    if veiled[start] == VEIL and text.startswith(("```", "~~~"), start):
        return [_Line(start, end, column, "code", start)]
    heading = veiled[end - 1] in ":：" or _HEADING.match(veiled, start, end)
    return [_Line(start, end, column, "heading" if heading else "text", start)]


def _labels(veiled: str, start: int, end: int) -> list[re.Match[str]]:
    """The marks of an enumeration within one line: 1, 2, 3 or a, b, c, at least two of them."""
    run: list[re.Match[str]] = []
    for found in _LABEL.finditer(veiled, start, end):
        label = (found["label"] or found["number"]).lower()
        expected = str(len(run) + 1) if label.isdecimal() else chr(ord("a") + len(run))
        if label == expected and (not run or _is_number(run[0]) == label.isdecimal()):
            run.append(found)
    return run if len(run) > 1 else []


def _is_number(label: re.Match[str]) -> bool:
    return (label["label"] or label["number"]).isdecimal()


def _is_list(lines: list[_Line]) -> bool:
    """Two marked lines are a list; a single one only where a list may begin."""
    marked = [number for number, line in enumerate(lines) if line.kind in ("item", "step")]
    return len(marked) > 1 or (len(marked) == 1 and (marked[0] == 0 or lines[marked[0] - 1].kind == "heading"))


def _unwrapped(veiled: str, lines: list[_Line]) -> list[_Line]:
    """Lines that an editor wrapped are one again."""
    joined: list[_Line] = []
    width = 0
    for line in lines:
        last = joined[-1] if joined else None
        wraps = last is not None and last.kind == line.kind == "text" and width >= _WRAPPED_FROM
        if last and wraps and veiled[line.start].islower() and veiled[last.end - 1] not in ".!?;" + VEIL:
            joined[-1] = last._replace(end=line.end)
        else:
            joined.append(line)
        width = line.end - line.start
    return joined


class _Reader:
    """Takes the lines in order; knows the headings and the depth of the list it is in."""

    def __init__(self, veiled: str, listed: bool) -> None:
        self.veiled = veiled
        self.listed = listed
        self.parts: list[Part] = []
        self.shared: list[Span] = []
        self.section: tuple[Span, ...] = ()
        self.unused: list[Span] = []  # headings that no part stands under yet; they make up the next section
        self.column: int | None = None
        self.outer: list[tuple[int, tuple[Span, ...]]] = []

    def take(self, line: _Line) -> None:
        if line.kind == "heading":
            self._heading(line)
        elif line.kind == "code":
            self.shared.append((line.start, line.end))
        elif self.listed and line.kind != "text":
            self._item(line)
        elif self.listed:
            self._between(line)
        else:
            self._clauses(line.start, line.end)

    def finish(self) -> Outline:
        return Outline(self.parts, [*self.shared, *self.unused])

    def _heading(self, line: _Line) -> None:
        """Headings in a row belong together; one after a part takes the place of those before."""
        self.unused.append((line.start, line.end))
        self.column, self.outer = None, []

    def _add(self, start: int, end: int, *, item: bool = False, step: bool = False) -> None:
        if self.unused:
            self.section, self.unused = tuple(self.unused), []
        self.parts.append(Part(start, end, self.section, item, step))

    def _item(self, line: _Line) -> None:
        if self.column is None:
            self.column = line.column
        elif line.column >= self.column + _NESTED_BY:
            last = self.parts[-1]
            if not last.item or self.veiled[last.end - 1] not in ":：":
                self.parts[-1] = last._replace(end=line.end)
                return
            self.parts.pop()
            self.outer.append((self.column, self.section))
            self.section, self.column = (*self.section, (last.start, last.end)), line.column
        else:
            while self.outer and line.column < self.column:
                self.column, self.section = self.outer.pop()
        self._add(line.body, line.end, item=True, step=line.kind == "step")

    def _between(self, line: _Line) -> None:
        """Text among the items: of the item above when indented, else a task of its own or context."""
        if not self.parts:
            self.shared.append((line.start, line.end))
        elif self.column is not None and line.column >= self.column + _NESTED_BY:
            self.parts[-1] = self.parts[-1]._replace(end=line.end)
        elif begins_task(self.veiled, line.start, line.end) or is_ordered(self.veiled, line.start, line.end):
            self._clauses(line.start, line.end)
        else:
            self.shared.append((line.start, line.end))

    def _clauses(self, start: int, end: int) -> None:
        introduction = _INTRODUCTION.match(self.veiled, start, end)
        if introduction:
            self._heading(_Line(start, introduction.end(), 0, "heading", start))
            start = introduction.end()
        for at, stop in clauses(self.veiled, start, end):
            self._add(at, stop)
