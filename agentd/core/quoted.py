"""Which stretches of a text are quoted: code, quotation marks, brackets and addresses, where nothing may be divided.

`veil` gives the text back with every quoted character replaced by one that is no letter, no space and no separator, so
that whoever looks for seams can use plain patterns and the positions stay those of the text. A mark that is never
closed quotes nothing. Except for code fences a quotation ends with its paragraph and with its list item, so that one
stray mark spoils no more than that. Every pass is linear in the length of the text.
"""

import re
from collections.abc import Iterator

VEIL = "\x01"

# A line that begins a list item: bullet, number, letter, or "step 2:".
MARKER = re.compile(
    r"(?P<bullet>[-*+•‣◦▪–—·](?=\s)\s*(?:\[[ xX]\]\s+)?)"
    r"|(?P<number>\(?(?:\d{1,3}[.)](?=\s|[^\W\d])|[a-zA-Z]\)(?=\s))\s*)"
    r"|(?P<step>(?:step|task|part)\s{1,4}\d{1,3}\s{0,4}[:.)–—-](?!\d)\s*)",
    re.IGNORECASE,
)

_FENCE = re.compile(r"^[ \t]*(?P<run>`{3,}|~{3,})(?P<info>[^\n]*)$", re.MULTILINE)
_TOKEN = re.compile(
    r"(?P<rest>\n(?=[ \t]{0,40}(?:\n|[-*+•]\s|\(?\d{1,3}[.)]\s|\(?[a-z]\)\s)))"
    r"|(?P<ticks>`+)"
    r"|(?P<address>://[^\s\"'<>`()\[\]{}“”«»]*|&\#?\w{1,10};)"
    r"|[\"'“”„«»()\[\]{}]"
)
_QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“”", "«": "»"}
_BRACKETS = {")": "(", "]": "[", "}": "{"}


def veil(text: str) -> str:
    """`text` with every quoted character replaced by `VEIL`; as long as `text`."""
    fenced = _cover(text, _fences(text))
    return _cover(fenced, _inline(fenced))


def _cover(text: str, spans: Iterator[tuple[int, int]]) -> str:
    pieces, at = [], 0
    for start, end in sorted(spans):
        if end > at:
            begin = max(start, at)
            pieces += [text[at:begin], VEIL * (end - begin)]
            at = end
    return "".join([*pieces, text[at:]]) if pieces else text


def _fences(text: str) -> Iterator[tuple[int, int]]:
    """Fenced blocks, each with the line ends before it: a block belongs to the line above."""
    opened, run = -1, ""
    for mark in _FENCE.finditer(text):
        if not run:
            if mark["run"][0] == "~" or "`" not in mark["info"]:
                opened, run = mark.start(), mark["run"]
        elif mark["run"].startswith(run) and not mark["info"].strip():
            yield len(text[:opened].rstrip()) if opened else 0, mark.end()
            run = ""


def _inline(text: str) -> Iterator[tuple[int, int]]:
    tokens = list(_TOKEN.finditer(text))
    twins = _twins(tokens)
    stack: list[tuple[str, int]] = []
    closing, opened, skip_to = "", 0, 0
    for token in tokens:
        mark, at = token[0], token.start()
        if token["rest"]:
            stack.clear()
            closing = ""
        elif at < skip_to:
            continue
        elif closing:
            if mark in closing and _may_close(text, at):
                yield opened, at + 1
                closing = ""
        elif token["ticks"]:
            skip_to = twins.get(at, 0)
            if skip_to:
                yield at, skip_to
        elif token["address"]:
            yield at, token.end() - (0 if mark[0] == "&" else len(mark) - len(mark.rstrip(".,;:!?")))
        elif mark in _QUOTES and _may_open(text, at):
            closing, opened = _QUOTES[mark], at
        elif mark in "([{":
            stack.append((mark, at))
        elif mark in _BRACKETS and stack and stack[-1][0] == _BRACKETS[mark]:
            start = stack.pop()[1]
            if mark != ")" or at - start > 4 or not _is_label(text[start + 1 : at]):
                yield start, at + 1


def _twins(tokens: list[re.Match[str]]) -> dict[int, int]:
    """For each run of backticks that is closed: where it begins, and where the next run of its length ends."""
    twins: dict[int, int] = {}
    following: dict[str, int] = {}
    for token in reversed(tokens):
        if token["rest"]:
            following.clear()
        elif token["ticks"]:
            if token[0] in following:
                twins[token.start()] = following[token[0]]
            following[token[0]] = token.end()
    return twins


def _may_open(text: str, at: int) -> bool:
    """A mark opens a quotation after no letter and before no space: inches and apostrophes do not."""
    return not text[at - 1 : at].isalnum() and not text[at + 1 : at + 2].isspace()


def _may_close(text: str, at: int) -> bool:
    """An apostrophe inside a word closes nothing."""
    return text[at] != "'" or not text[at + 1 : at + 2].isalnum()


def _is_label(inside: str) -> bool:
    """`(1)` and `(b)` are the marks of a list."""
    return inside.isdecimal() or (len(inside) == 1 and inside.isalpha())
