"""What a model provider is: one call in, text as it comes, one reply out.

A provider is asked by workers and by the planner. `events` is called on the loop, never awaited: text goes to it as it
arrives, each bounded retry is told before it is waited for. Cancelling the task that awaits `complete` ends the call;
that is no error. Every failure is a `ProviderError` of one of the kinds of protocol.md, 3.
"""

from typing import Any, Literal, Protocol

import msgspec

from agentd.protocol.facts import Usage

__all__ = ["Events", "Message", "ModelReply", "ModelRequest", "Provider", "Purpose", "ToolCall", "ToolSpec", "Usage"]

Purpose = Literal["answer", "task", "planning", "summary"]


class ToolCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool that the model wants called; `arguments` is the JSON text as the model wrote it, unchecked."""

    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message of a prompt. `tool_calls` only on assistant, `tool_call_id` only on tool."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class ToolSpec(msgspec.Struct, frozen=True):
    """A tool as the model is told of it; `parameters` is a JSON Schema object."""

    name: str
    description: str
    parameters: dict[str, Any]


class ModelRequest(msgspec.Struct, frozen=True):
    """Everything a model call depends on. `schema`: the reply has to be JSON of this schema."""

    messages: tuple[Message, ...]
    purpose: Purpose
    tools: tuple[ToolSpec, ...] = ()
    schema: dict[str, Any] | None = None
    max_output_tokens: int | None = None


class ModelReply(msgspec.Struct, frozen=True):
    """A finished call; `content` is exactly the concatenation of the texts that went to `events.text`."""

    content: str
    usage: Usage
    finish_reason: str
    tool_calls: tuple[ToolCall, ...] = ()


class Events(Protocol):
    """Who hears of a call while it runs. Neither method blocks or raises."""

    def text(self, text: str) -> None: ...

    def retry(self, attempt: int, kind: str, wait_ms: int) -> None:
        """The call's ask number `attempt` failed with `kind`; the next one follows after `wait_ms`."""
        ...


class Provider(Protocol):
    """One way to reach a model."""

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> str | None: ...

    @property
    def offline(self) -> bool: ...

    async def complete(self, request: ModelRequest, events: Events) -> ModelReply:
        """One model call, streamed.

        Raises:
            ProviderError: with its kind; `retryable` when a later call may succeed. Asked at most 4 times within
                one call, never again after a text was shown; auth, refused and malformed requests are not repeated.
        """
        ...

    async def check(self) -> str | None:
        """None when the provider answers now, else a sentence that says what is wrong. Takes at most 3 s."""
        ...

    async def close(self) -> None: ...
