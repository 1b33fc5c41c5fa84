"""What is wrong with something that was proposed: where, and why, in words that a person or a model can repair from."""

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """`path` as in JSON ($.tasks[2].depends_on), `message` in a sentence."""

    path: str
    message: str
