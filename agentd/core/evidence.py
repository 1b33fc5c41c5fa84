"""Text of others quoted for a model, so that it can be told from what the model is told to do.

A quotation stands between two marks that bear a number. The number is the smallest that the text itself does not use
in such a mark, so nothing inside can close its own quotation, whatever its author knew of this server. That no
instruction is obeyed from inside is the model's part; where the quotation ends is ours.
"""

import re

_MARK = re.compile(r"data[\s_-]{0,4}([0-9]{1,9})", re.IGNORECASE)
_UNSAFE = re.compile(r"[^A-Za-z0-9 _.-]")
_LABEL_CHARS = 32
# The two marks with their line ends take at most so many bytes.
FRAME_BYTES = 80


def enclose(label: str, content: str) -> str:
    """`content` between its marks; `label` says what it is, its unsafe characters left out."""
    number = 0
    if "data" in content.lower():  # the pattern takes 7 us for a KiB, and a goal is quoted for each of its tasks
        used = {int(number) for number in _MARK.findall(content)}
        number = next(free for free in range(len(used) + 1) if free not in used)
    name = _UNSAFE.sub("", label)[:_LABEL_CHARS]
    return f"<<<data {number}: {name}\n{content}\ndata {number}>>>"
