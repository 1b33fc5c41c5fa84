"""How large a text is and how to cut it: bytes as UTF-8, tokens as an estimate.

Every cut lies on a code point. The estimate is bytes divided by a factor of the model, rounded up: no tokenizer is
asked, because a decision must not depend on which package happens to be installed.
"""

import math
from collections.abc import Iterable


def byte_length(text: str) -> int:
    """Bytes of `text` as UTF-8; a lone surrogate counts three."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def byte_lengths(texts: Iterable[str]) -> list[int]:
    """`byte_length` of each, without a call for each: a prompt has some hundred texts."""
    return [len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass")) for text in texts]


def token_estimate(size_bytes: int, bytes_per_token: float) -> int:
    """Tokens of a text of `size_bytes`, rounded up."""
    return math.ceil(size_bytes / bytes_per_token)


def token_estimates(sizes: Iterable[int], bytes_per_token: float) -> int:
    """Tokens of texts of these sizes, each rounded up by itself, in all."""
    ceil = math.ceil
    return sum([ceil(size / bytes_per_token) for size in sizes])


def cut_to_bytes(text: str, max_bytes: int) -> str:
    """The longest prefix of `text` that takes at most `max_bytes` bytes; `text` itself when it fits."""
    if max_bytes <= 0:
        return ""
    # A code point takes at most four bytes, so most texts that fit are known to fit by their length.
    if len(text) * 4 <= max_bytes or byte_length(text) <= max_bytes:
        return text
    data = text[: max_bytes + 1].encode("utf-8", "surrogatepass")
    end = max_bytes
    while data[end] & 0xC0 == 0x80:  # the byte after the cut continues a code point
        end -= 1
    return data[:end].decode("utf-8", "surrogatepass")
