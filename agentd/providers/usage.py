"""What a call cost when nobody counted it: tokens estimated from characters.

Four characters to a token holds within a quarter for English with the common tokenizers and is wrong for other scripts;
therefore such a usage always says `estimated`.
"""

from agentd.providers.provider import ModelRequest, ToolCall, Usage

CHARS_PER_TOKEN = 4


def tokens_of(characters: int) -> int:
    """Estimated tokens, rounded up."""
    return -(-characters // CHARS_PER_TOKEN)


def estimated_usage(
    request: ModelRequest, content: str, calls: tuple[ToolCall, ...], *, model: str | None, ttft_ms: int | None
) -> Usage:
    """The usage of one finished call, by its characters."""
    asked = sum([len(message.content) for message in request.messages])
    asked += sum([_length(message.tool_calls) for message in request.messages if message.tool_calls])
    return Usage(
        model=model,
        input_tokens=tokens_of(asked),
        output_tokens=tokens_of(len(content) + _length(calls)),
        ttft_ms=ttft_ms,
        calls=1,
        estimated=True,
    )


def _length(calls: tuple[ToolCall, ...]) -> int:
    return sum(len(call.name) + len(call.arguments) for call in calls)
