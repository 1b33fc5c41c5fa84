"""The offline provider: deterministic, honest, predictable in its chunks, steerable from the text."""

import asyncio
from typing import Any

import msgspec
import pytest

from agentd.clock import SystemClock
from agentd.protocol.errors import ProviderError
from agentd.providers.directives import RETRYABLE
from agentd.providers.offline import PLAIN_CHUNKS, OfflineProvider, pieces
from agentd.providers.provider import Message, ModelReply, ModelRequest, Provider, ToolSpec
from tests.providers.recorded import QuickClock, Recorded, asked

PLAIN = "the quick brown fox jumps over the lazy dog"


async def reply_to(request: ModelRequest, heard: Recorded | None = None) -> ModelReply:
    return await OfflineProvider(SystemClock()).complete(request, heard or Recorded())


async def said(*turns: str, **more: Any) -> str:
    return (await reply_to(asked(*turns, **more))).content


async def test_the_reply_is_what_was_shown_and_always_the_same() -> None:
    first, second = Recorded(), Recorded()
    reply = await reply_to(asked(PLAIN), first)
    again = await reply_to(asked(PLAIN), second)
    assert first.shown == reply.content == again.content
    assert first.texts == second.texts
    assert PLAIN in reply.content
    assert reply.finish_reason == "stop"


async def test_it_says_once_that_it_is_offline() -> None:
    assert (await said(PLAIN)).count("offline") == 1
    provider: Provider = OfflineProvider(SystemClock())
    assert provider.offline
    assert await provider.check() is None
    await provider.close()


@pytest.mark.parametrize("words", [1, 8, 40])
async def test_a_plain_message_of_n_words_is_answered_in_a_known_number_of_chunks(words: int) -> None:
    heard = Recorded()
    await reply_to(asked(" ".join(["word"] * words)), heard)
    assert len(heard.texts) == words + PLAIN_CHUNKS


@pytest.mark.parametrize("count", [1, 5, 20, 200])
async def test_a_directive_sets_the_number_of_chunks(count: int) -> None:
    heard = Recorded()
    await reply_to(asked(f"{PLAIN} [[chunks={count}]]"), heard)
    assert len(heard.texts) == count
    assert "[[" not in heard.shown


async def test_long_content_is_cut_with_an_ellipsis() -> None:
    content = await said("word " * 13_000)
    assert len(content) < 500
    assert "…" in content


async def test_pieces_add_up_to_the_text_whatever_it_is() -> None:
    for text in ("", " ", "  a  b \n c ", "x" * 100, "日本語" * 30, "\x00a\tb\n"):
        assert "".join(pieces(text)) == text


async def test_without_a_pace_it_never_sleeps_and_lets_the_loop_turn() -> None:
    clock, heard, turns = QuickClock(), Recorded(), 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.ensure_future(other())
    await OfflineProvider(clock).complete(asked("hello [[chunks=400]]"), heard)
    beside.cancel()
    assert clock.slept_s == []
    assert turns >= 50


async def test_with_a_pace_it_waits_before_each_chunk() -> None:
    clock, heard = QuickClock(), Recorded()
    await OfflineProvider(clock, pace_ms=20).complete(asked("hello [[chunks=3]]"), heard)
    assert clock.slept_s == [0.02] * 3
    await OfflineProvider(clock).complete(asked("hello [[chunks=1]] [[pace_ms=70]]"), heard)
    assert clock.slept_s[3:] == [0.07]


@pytest.mark.parametrize("kind", list(RETRYABLE))
async def test_a_directive_makes_it_fail_with_each_kind(kind: str) -> None:
    heard = Recorded()
    with pytest.raises(ProviderError) as caught:
        await reply_to(asked(f"hi [[fail={kind}]]"), heard)
    assert caught.value.kind == kind
    assert caught.value.may_retry is RETRYABLE[kind]
    assert heard.texts == []


async def test_it_can_fail_after_some_chunks() -> None:
    heard = Recorded()
    with pytest.raises(ProviderError):
        await reply_to(asked("hi there [[fail=network after=3]]"), heard)
    assert len(heard.texts) == 3


async def test_a_failure_that_a_goal_asks_for_is_its_tasks_unless_it_names_the_answer() -> None:
    result = Message("user", "<<<data 0: result\ntask: a\nstatus: failed\n\n\ndata 0>>>")
    for words, fails in (("[[fail=auth]]", False), ("[[fail=auth in=answer]]", True), ("[[fail=auth in=task]]", False)):
        request = ModelRequest((result, Message("user", f"do a {words}")), "answer")
        if fails:
            with pytest.raises(ProviderError):
                await reply_to(request)
        else:
            assert "1. a — failed" in (await reply_to(request)).content
    with pytest.raises(ProviderError):
        await reply_to(asked("Task: a [[fail=auth in=task]]", purpose="task"))


async def test_unknown_directives_are_text() -> None:
    assert "[[fail=nonsense]]" in await said("see [[fail=nonsense]]")


async def test_a_directive_asks_for_a_tool_once_and_only_when_it_is_offered() -> None:
    tool = ToolSpec("calculate", "Works it out.", {"type": "object"})
    first = msgspec.structs.replace(asked('go [[tool=calculate {"expression": "2*3"}]]'), tools=(tool,))
    reply = await reply_to(first)
    assert reply.finish_reason == "tool_calls"
    assert reply.content == ""
    assert [(call.name, call.arguments) for call in reply.tool_calls] == [("calculate", '{"expression": "2*3"}')]
    answered = (
        *first.messages,
        Message("assistant", "", tool_calls=reply.tool_calls),
        Message("tool", "the result is 6", tool_call_id=reply.tool_calls[0].id),
    )
    after = await reply_to(msgspec.structs.replace(first, messages=answered))
    assert after.tool_calls == ()
    assert "the result is 6" in after.content
    assert (await reply_to(msgspec.structs.replace(first, tools=()))).tool_calls == ()


async def test_usage_is_estimated_from_characters() -> None:
    reply = await reply_to(asked("x" * 40, system="y" * 40))
    assert reply.usage.estimated
    assert reply.usage.input_tokens == 20
    assert reply.usage.output_tokens == -(-len(reply.content) // 4)
    assert reply.usage.calls == 1
    assert reply.usage.ttft_ms is not None


async def test_a_schema_gives_json_that_streams_like_text() -> None:
    heard = Recorded()
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]}
    await reply_to(msgspec.structs.replace(asked("hi"), schema=schema), heard)
    assert msgspec.json.decode(heard.shown) == {"n": 3}


async def test_a_schema_that_allows_nothing_is_refused() -> None:
    impossible = {"type": "integer", "minimum": 5, "maximum": 4}
    with pytest.raises(ProviderError) as caught:
        await reply_to(msgspec.structs.replace(asked("hi"), schema=impossible))
    assert caught.value.kind == "refused"
    assert not caught.value.may_retry


async def test_cancelling_ends_the_call() -> None:
    heard = Recorded()
    call = asyncio.ensure_future(OfflineProvider(SystemClock(), pace_ms=60_000).complete(asked("hi"), heard))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
