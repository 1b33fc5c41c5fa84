"""What a tool is: a name, a schema of its input, an effect, and one call with a time limit.

Tools are named by a task before they may be called; nothing is allowed by default. `effect` decides what a crash in
the middle of a call means: `none` and `idempotent` are repeated, `once` is put to a person. What a tool returns is
evidence for a model, never an instruction to it.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from agentd.protocol.facts import Effect

TIMEOUT_S = 30.0


class ToolError(Exception):
    """A call that failed; `kind` is one word (invalid_input, not_found, too_large, timeout, failed)."""

    def __init__(self, message: str, *, kind: str = "failed") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind


class Found(msgspec.Struct, frozen=True):
    """An entry of the session's transcript that a look-up found."""

    id: str
    role: str
    content: str


class Context(msgspec.Struct, frozen=True):
    """What a tool may reach of the session that calls it: `look_up(words, limit)` over its active path."""

    look_up: Callable[[str, int], Awaitable[list[Found]]]


class Tool(Protocol):
    """One tool. `parameters` is a JSON Schema object."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def parameters(self) -> dict[str, Any]: ...

    @property
    def effect(self) -> Effect: ...

    @property
    def timeout_s(self) -> float: ...

    async def call(self, given: bytes, context: Context) -> Any:
        """Do it; `given` is the input as JSON.

        Raises:
            ToolError: it can't be done.
        """
        ...
