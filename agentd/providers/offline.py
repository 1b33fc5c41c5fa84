"""The provider that needs nothing: no key, no network, no model; the same prompt always gives the same reply.

It streams as a real one does, one word to a chunk (a longer word in pieces of `CHUNK_CHARS`), so a reply has as many
chunks as words: a plain message of N words, N up to `speech.QUOTE_WORDS`, is answered in N + `PLAIN_CHUNKS` chunks.
With `pace_ms` 0 it never sleeps, and lets the loop turn every `CHUNKS_PER_TURN` chunks, so that a long reply starves
nobody. Texts may steer it, see `directives`.
"""

import re
from collections.abc import Generator
from typing import Any

import msgspec

from agentd.clock import Clock
from agentd.protocol.errors import ProviderError
from agentd.providers.directives import RETRYABLE, Directives, read
from agentd.providers.evidence import findings
from agentd.providers.provider import Events, ModelReply, ModelRequest, ToolCall
from agentd.providers.schema_sample import sample
from agentd.providers.speech import spoken
from agentd.providers.usage import estimated_usage

MODEL = "agentd-offline"
CHUNK_CHARS = 24
CHUNKS_PER_TURN = 8
PLAIN_CHUNKS = 12
SCHEMA_TEXT_CHARS = 200

_PIECE = re.compile(rf"\s*\S{{1,{CHUNK_CHARS}}}(?:\s+$)?|\s+$")


class OfflineProvider:
    """Answers from the prompt alone. `pace_ms` is the wait before each chunk, in milliseconds."""

    name = "offline"
    model: str | None = MODEL
    offline = True

    def __init__(self, clock: Clock, pace_ms: int = 0) -> None:
        self._clock = clock
        self._pace_ms = pace_ms

    async def complete(self, request: ModelRequest, events: Events) -> ModelReply:
        """See `Provider.complete`. Fails only where the text asks for it, or a schema can't be met."""
        begun_s = self._clock.monotonic_s()
        told = _told(request)
        calls = _tool_asked_for(request, told)
        chunks = [] if calls else _exactly(pieces(_content(request, told.text)), told.chunks)
        ttft_ms = await self._stream(chunks, told, events, begun_s)
        content = "".join(chunks)
        return ModelReply(
            content=content,
            usage=estimated_usage(request, content, calls, model=MODEL, ttft_ms=ttft_ms),
            finish_reason="tool_calls" if calls else "stop",
            tool_calls=calls,
        )

    async def check(self) -> None:
        """There is nothing that could be missing."""

    async def close(self) -> None:
        """Nothing is open."""

    async def _stream(self, chunks: list[str], told: Directives, events: Events, begun_s: float) -> int:
        """Show the chunks at their pace; the milliseconds to the first one."""
        pace_s = (self._pace_ms if told.pace_ms is None else told.pace_ms) / 1000
        first_s: float | None = None
        for place, chunk in enumerate(chunks):
            if told.fail and place == told.fail_after:
                break
            if pace_s:
                await self._clock.sleep(pace_s)
            elif place % CHUNKS_PER_TURN == CHUNKS_PER_TURN - 1:
                await _LoopTurn()
            if first_s is None:
                first_s = self._clock.monotonic_s()
            events.text(chunk)
        if told.fail:
            raise _failure(told.fail)
        return round(((first_s or self._clock.monotonic_s()) - begun_s) * 1000)


class _LoopTurn:
    """Awaiting it gives the loop one turn, without a timer."""

    def __await__(self) -> Generator[None, None, None]:
        yield


def pieces(text: str) -> list[str]:
    """`text` in chunks of a word each; together they are exactly `text`."""
    return _PIECE.findall(text)


def _exactly(chunks: list[str], count: int | None) -> list[str]:
    """As many chunks as asked for: the text is cut, or goes on by counting."""
    if count is None:
        return chunks
    return chunks[:count] + [f" {number}" for number in range(len(chunks) + 1, count + 1)]


def _told(request: ModelRequest) -> Directives:
    """The directives that hold for this call."""
    told = read(next((message.content for message in reversed(request.messages) if message.role == "user"), ""))
    if told.fail is None:
        return told
    of_goal = request.purpose == "answer" and bool(findings(request.messages))
    fails = not of_goal if told.fail_in is None else told.fail_in == request.purpose
    return told if fails else msgspec.structs.replace(told, fail=None)


def _content(request: ModelRequest, text: str) -> str:
    said = spoken(request, text)
    if request.schema is None:
        return said
    try:
        value: Any = sample(request.schema, said[:SCHEMA_TEXT_CHARS])
    except ValueError as error:
        raise ProviderError(
            f"The offline provider can't make an example of the schema: {error}",
            kind="refused",
            retryable=False,
            hint="Use a schema that allows a value, or set a model provider.",
        ) from None
    return msgspec.json.encode(value).decode()


def _tool_asked_for(request: ModelRequest, told: Directives) -> tuple[ToolCall, ...]:
    """The call that the text asks for, once: not when a tool has answered since."""
    offered = any(tool.name == told.tool for tool in request.tools)
    if told.tool is None or not offered or (request.messages and request.messages[-1].role == "tool"):
        return ()
    return (ToolCall(id=f"call_{len(request.messages)}", name=told.tool, arguments=told.arguments),)


def _failure(kind: str) -> ProviderError:
    return ProviderError(
        f"The text asked the offline provider to fail with {kind}.",
        kind=kind,
        retryable=RETRYABLE[kind],
        hint="Remove [[fail=...]] from the text.",
    )
