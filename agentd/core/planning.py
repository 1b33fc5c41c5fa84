"""A goal in words to draft tasks, without a model.

Tasks are independent, numbered ones too, so that they run at the same time. One depends on the task before it when it
says so ("then", "after that", "next,"), speaks of its outcome ("translate it"), is called a step ("step 2:"), or
when the words over its list say "in order" or "step by step"; "finally" waits for all before it; "before that" puts
a task ahead of the one before it.
Nothing is dropped: but for the marks of lists, separators and the connecting words at the head of a part, every word
of the goal stands in the prompt of some task. Linear in the length of the goal.
"""

import re
import unicodedata
from typing import Literal, NamedTuple

import msgspec

from agentd.core.clauses import ORDER, names_action
from agentd.core.outline import Outline, Part, Span, outline
from agentd.core.quoted import veil

TITLE_CHARS = 80
# Context is repeated in the prompts of its tasks; beyond so much in all of them together repeats are cut, and told.
CONTEXT_CHARS = 64 * 1024
CONTEXT_CHARS_MIN = 200

Relation = Literal["none", "previous", "all", "before"]

_LEAD = re.compile(
    rf"[\s,;:]*(?:(?P<all>finally|lastly|last(?=\s*,))|(?P<before>before\s+that)|(?P<previous>{ORDER}|next(?=\s*,))"
    r"|(?P<none>and|&|also|meanwhile|first(?:ly)?(?=\s*,))|(?P<maybe>next|last|first))(?![\w.'’-])[\s,]*",
    re.IGNORECASE,
)
_MAYBE: dict[str, Relation] = {"next": "previous", "last": "all", "first": "none"}
_LEADS_MAX = 6
_OUTCOME = re.compile(
    r"(?:please\s+)?[^\W\d_]+\s+(?:it|them|the\s+(?:result|outcome|output)s?"
    r"|(?:this|that|these|those)(?=\s*(?:[.,!?]|$|(?:to|into|in|for|on|by|with|as|and)\b)))(?!\w)",
    re.IGNORECASE,
)
_IN_ORDER = re.compile(
    r"\b(?:in (?:(?:this|that|the|the following|the given|strict) )?(?:order(?! to\b)|sequence)|in turn"
    r"|step[- ]by[- ]step|steps\s{0,4}:|sequentially|one (?:after|by) (?:another|the other|one))(?!\w)",
    re.IGNORECASE,
)
_SEPARATORS = " \t\r\n\f\v,;；؛"
_DANGLING = re.compile(r"[\s,;]+(?:and|then|&)$", re.IGNORECASE)


class DraftTask(msgspec.Struct, frozen=True):
    """One part of a goal; `depends_on` holds positions in the draft, ascending, all smaller than its own."""

    title: str
    prompt: str
    depends_on: tuple[int, ...] = ()


class Draft(msgspec.Struct, frozen=True):
    """The tasks of a goal, and in sentences what had to be done to the goal so that they fit."""

    tasks: tuple[DraftTask, ...]
    told: tuple[str, ...] = ()


class _Piece(NamedTuple):
    """A part without its connecting words; `before`: of the piece that comes after it here."""

    start: int
    end: int
    relation: Relation
    section: tuple[Span, ...]


def split_goal(text: str, tasks_max: int = 200) -> Draft:
    """The tasks that `text` asks for, at least one and at most `tasks_max`; what is more is put into the last.

    A goal of one part is one task whose prompt is the text as it stands; so is a blank one, which callers refuse.

    Raises:
        ValueError: `tasks_max` is below 1.
    """
    if tasks_max < 1:
        raise ValueError("tasks_max is below 1")
    veiled = veil(text)
    found = outline(text, veiled)
    pieces = _pieces(text, veiled, found)
    if len(pieces) < 2:
        return Draft((DraftTask(_title(text[pieces[0].start : pieces[0].end] if pieces else text), text),))
    told = []
    shared = [*found.shared, *_orphans(found.parts, pieces)]
    if len(pieces) > tasks_max:
        told.append(
            f"the goal has {len(pieces)} parts and a plan holds {tasks_max}: the parts from {tasks_max} on are one task"
        )
        pieces = _merged(pieces, tasks_max)
    prompts, cut = _prompts(text, pieces, shared)
    if cut:
        told.append(
            f"what the goal says for several tasks is too long to repeat: cut in {cut} of {len(pieces)} prompts"
        )
    return Draft(_tasks(text, pieces, prompts), tuple(told))


def _pieces(text: str, veiled: str, found: Outline) -> list[_Piece]:
    """The parts that hold more than separators, with what each says of its order."""
    shared_order = any(_IN_ORDER.search(veiled, *span) for span in found.shared)
    ordered: dict[int, bool] = {}  # by the identity of a section, which may be long
    pieces: list[_Piece] = []
    last: Part | None = None
    at = 0
    for part in found.parts:
        start, end, relation = _trimmed(text, veiled, part)
        if start == end:
            continue
        if id(part.section) not in ordered:
            ordered[id(part.section)] = any(_IN_ORDER.search(veiled, *span) for span in part.section)
        sequence = ordered[id(part.section)] or (part.item and shared_order)
        follows = part.step or (sequence and last is not None and last.section is part.section)
        if relation == "none" and (follows or _OUTCOME.match(veiled, start, end)):
            relation = "previous"
        if relation == "before" and not pieces:
            relation = "none"
        # "before that": ahead of the piece that was spoken of last.
        at = at if relation == "before" else len(pieces)
        pieces.insert(at, _Piece(start, end, relation, part.section))
        last = part
    return pieces


def _orphans(parts: list[Part], pieces: list[_Piece]) -> list[Span]:
    """Headings over nothing but connecting words: they are context of all, rather than lost."""
    sections = {id(part.section): part.section for part in parts}
    used = {id(piece.section): piece.section for piece in pieces}
    seen = {span for section in used.values() for span in section}
    return [span for number, section in sections.items() if number not in used for span in section if span not in seen]


def _trimmed(text: str, veiled: str, part: Part) -> tuple[int, int, Relation]:
    """The span of a part without separators and connecting words, and the order they tell; empty if no more is left."""
    body = text[part.start : part.end]
    start = part.end - len(body.lstrip(_SEPARATORS))
    end = part.start + len(body.rstrip(_SEPARATORS))
    if start >= end:
        return part.end, part.end, "none"
    if part.item and (dangling := _DANGLING.search(veiled, max(start, end - 8), end)):
        end = dangling.start()
    relation: Relation = "none"
    at = start
    for _ in range(_LEADS_MAX):
        lead = _LEAD.match(veiled, at, end)
        if lead is None or not (lead["maybe"] is None or names_action(veiled, lead.end(), end)):
            break
        if lead.end() == end:
            return end, end, "none"
        relation = _told(lead, relation)
        at = lead.end()
    return at, end, relation


def _told(lead: re.Match[str], before: Relation) -> Relation:
    """What a connecting word adds to what those before it told; "all" is stronger than "previous"."""
    kind = _MAYBE[lead["maybe"].lower()] if lead["maybe"] else lead.lastgroup
    if kind == "all" or before == "all":
        return "all"
    if kind == "before":
        return "before"
    return "previous" if kind == "previous" else before


def _merged(pieces: list[_Piece], tasks_max: int) -> list[_Piece]:
    """The pieces from `tasks_max` on as one, with all the text between them."""
    rest = pieces[tasks_max - 1 :]
    relation: Relation = "all" if any(piece.relation == "all" for piece in rest) else rest[0].relation
    first = min(rest)
    return [*pieces[: tasks_max - 1], _Piece(first.start, max(piece.end for piece in rest), relation, first.section)]


def _prompts(text: str, pieces: list[_Piece], shared: list[Span]) -> tuple[list[str], int]:
    """Context and piece for each, and in how many the context had to be cut.

    A context stands whole where it is first used; only its repeats are cut.
    """
    everywhere = "\n".join(text[start:end].strip() for start, end in shared)
    limit = max(CONTEXT_CHARS_MIN, CONTEXT_CHARS // len(pieces))
    used: set[Span] = set()
    prompts, cut = [], 0
    for number, piece in enumerate(pieces):
        context = everywhere if number == 0 else everywhere[:limit]
        headings, short = _headings(text, piece.section, used, limit - len(context))
        cut += short or (number > 0 and len(everywhere) > limit)
        context = "\n".join(filter(None, [context, *headings]))
        prompts.append("\n\n".join(filter(None, [context, text[piece.start : piece.end]])))
    return prompts, cut


def _headings(text: str, section: tuple[Span, ...], used: set[Span], room: int) -> tuple[list[str], bool]:
    """The headings over a piece; those that were used before within `room` characters. Whether that cut any."""
    headings: list[str] = []
    for start, end in section:
        again = (start, end) in used
        if again and end - start > room:
            # Headings come outermost first, and what is inside one used before was not always used.
            headings += [
                text[start : start + max(room, 0)],
                *(text[slice(*span)] for span in section if span not in used),
            ]
            used.update(section)
            return headings, True
        used.add((start, end))
        room -= end - start
        headings.append(text[start:end].strip())
    return headings, False


def _tasks(text: str, pieces: list[_Piece], prompts: list[str]) -> tuple[DraftTask, ...]:
    tasks = []
    for number, piece in enumerate(pieces):
        title = _title(text[piece.start : piece.end])
        tasks.append(DraftTask(title, prompts[number], tuple(_needs(pieces, number))))
    return tuple(tasks)


def _needs(pieces: list[_Piece], number: int) -> range:
    """The positions that the piece at `number` waits for: some that lie right before it."""
    first = number
    while first and pieces[first - 1].relation == "before":
        first -= 1
    if pieces[number].relation == "all":
        first = 0
    elif pieces[number].relation == "previous":
        first = max(0, first - 1)
    elif pieces[number].relation == "before":
        first = max(first, number - 1)
    return range(first, number)


def _title(text: str) -> str:
    """The words of `text` on one line, cut on a word."""
    words = " ".join(text[: TITLE_CHARS * 20].split())
    if len(words) <= TITLE_CHARS:
        return words.rstrip(".,;:") or words or "(no words)"
    end = TITLE_CHARS - 1
    space = words.rfind(" ", TITLE_CHARS // 2, end + 1)
    if space > 0:
        return words[:space].rstrip(".,;:") + "…"
    while end > 1 and (unicodedata.combining(words[end]) or words[end] in "\u200d\ufe0f" or words[end - 1] == "\u200d"):
        end -= 1  # no accent, joiner or variation without its letter
    return words[:end] + "…"
