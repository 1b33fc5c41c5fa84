"""The adapter against a server that behaves well or badly, over both transports of the package."""

import asyncio
import email.utils
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from agentd.protocol.errors import ProviderError
from agentd.providers.faults import MESSAGE_CHARS_MAX
from agentd.providers.openai import ASKS_MAX, OpenAIProvider, Waits
from agentd.providers.provider import Message, ModelReply, ModelRequest, Provider, ToolCall, ToolSpec
from tests.fake_openai import MODEL
from tests.providers.conftest import Served
from tests.providers.recorded import QuickClock, Recorded, asked

KEY = "sk-test-0123456789abcdef"
WORDS = " ".join(["word"] * 20)
SHORT = Waits(connect_s=1, first_token_s=0.1, between_chunks_s=0.1, whole_call_s=10)


class Asking:
    """A provider for each behaviour, closed at the end."""

    def __init__(self, served: Served, fast: bool) -> None:
        self.served = served
        self.fast = fast
        self.clock = QuickClock()
        self.heard = Recorded()
        self.made: list[OpenAIProvider] = []

    def provider(self, behaviour: str = "", **more: Any) -> OpenAIProvider:
        settings: dict[str, Any] = {"key": KEY, "base_url": self.served.url, "fast": self.fast, **more}
        made = OpenAIProvider(self.clock, model=f"fake:{behaviour}", **settings)
        self.made.append(made)
        return made

    async def reply(self, behaviour: str = "", request: ModelRequest | None = None, **more: Any) -> ModelReply:
        return await self.provider(behaviour, **more).complete(request or asked("hi"), self.heard)

    async def failure(self, behaviour: str, request: ModelRequest | None = None, **more: Any) -> ProviderError:
        with pytest.raises(ProviderError) as caught:
            await self.reply(behaviour, request, **more)
        error = caught.value
        told = f"{error!r} {error.message} {error.hint} {error.details}"
        assert KEY not in told
        assert error.__cause__ is None
        return error

    @property
    def asks(self) -> int:
        return len(self.served.fake.requests)

    @property
    def sent(self) -> dict[str, Any]:
        return self.served.fake.requests[-1]


@pytest.fixture(params=[False, True], ids=["httpx2", "aiohttp"])
async def asking(served: Served, request: pytest.FixtureRequest) -> AsyncIterator[Asking]:
    asking = Asking(served, request.param)
    yield asking
    for made in asking.made:
        await made.close()


async def test_a_reply_streams_and_tells_model_tokens_and_time(asking: Asking) -> None:
    reply = await asking.reply("chunks=20")
    assert asking.heard.shown == reply.content == WORDS
    assert len(asking.heard.texts) == 20
    assert reply.finish_reason == "stop"
    assert reply.usage.model == MODEL
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.calls) == (7, 20, 1)
    assert reply.usage.ttft_ms is not None
    assert not reply.usage.estimated
    assert asking.heard.retries == []
    assert asking.served.fake.headers[-1]["authorization"] == f"Bearer {KEY}"


async def test_the_connection_is_used_again(asking: Asking) -> None:
    provider = asking.provider("chunks=3")
    for _ in range(3):
        await provider.complete(asked("hi"), asking.heard)
    assert asking.served.fake.connections == 1


@pytest.mark.parametrize("behaviour", ["split=1", "pace_ms=1", "crlf=1", "comments=1", "nodone=1"])
async def test_every_lawful_way_to_stream_is_understood(asking: Asking, behaviour: str) -> None:
    assert (await asking.reply(behaviour)).content == WORDS


async def test_a_server_that_does_not_end_the_body_costs_no_reply(asking: Asking) -> None:
    assert (await asking.reply("hang=done")).content == WORDS


async def test_usage_is_estimated_when_the_server_reports_none(asking: Asking) -> None:
    reply = await asking.reply("nousage=1", asked("x" * 40))
    assert reply.usage.estimated
    assert reply.usage.input_tokens == 10
    assert reply.usage.model == MODEL


async def test_messages_tools_and_limits_are_sent_as_the_api_has_them(asking: Asking) -> None:
    call = ToolCall("call_1", "add", '{"a": 1}')
    function = {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}
    called = {"name": "add", "arguments": '{"a": 1}'}
    request = ModelRequest(
        messages=(
            Message("system", "be brief"),
            Message("user", "add"),
            Message("assistant", "", tool_calls=(call,)),
            Message("tool", "2", tool_call_id="call_1"),
        ),
        purpose="answer",
        tools=(ToolSpec("add", "Adds.", {"type": "object"}),),
        max_output_tokens=50,
    )
    await asking.reply("", request)
    assert asking.sent == {
        "model": "fake:",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 50,
        "tools": [{"type": "function", "function": function}],
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "add"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "call_1", "type": "function", "function": called}],
            },
            {"role": "tool", "content": "2", "tool_call_id": "call_1"},
        ],
    }


async def test_tool_calls_are_put_together_from_their_pieces(asking: Asking) -> None:
    reply = await asking.reply("tool=add")
    assert reply.finish_reason == "tool_calls"
    assert reply.content == ""
    assert reply.tool_calls == (ToolCall("call_a", "add", '{"x": 1}'), ToolCall("call_b", "add", "{}"))


SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}}


async def test_a_schema_is_asked_for_and_answered_with_json(asking: Asking) -> None:
    reply = await asking.reply("", msgspec.structs.replace(asked("hi"), schema=SCHEMA))
    assert msgspec.json.decode(reply.content) == {"answer": "forty-two"}
    assert asking.sent["response_format"]["type"] == "json_schema"
    assert asking.sent["response_format"]["json_schema"]["schema"] == SCHEMA


async def test_a_server_without_schemas_is_asked_for_a_json_object_from_then_on(asking: Asking) -> None:
    provider = asking.provider("reject_format=json_schema")
    request = msgspec.structs.replace(asked("hi"), schema=SCHEMA)
    await provider.complete(request, asking.heard)
    assert asking.sent["response_format"] == {"type": "json_object"}
    assert '"answer"' in asking.sent["messages"][-1]["content"]
    await provider.complete(request, asking.heard)
    assert asking.asks == 3
    assert asking.heard.retries == []


async def test_a_server_without_response_formats_is_asked_in_words(asking: Asking) -> None:
    await asking.reply("reject=response_format", msgspec.structs.replace(asked("hi"), schema=SCHEMA))
    assert "response_format" not in asking.sent
    assert "JSON Schema" in asking.sent["messages"][-1]["content"]


@pytest.mark.parametrize("field", ["stream_options", "max_tokens"])
async def test_a_field_that_the_server_rejects_is_left_out(asking: Asking, field: str) -> None:
    reply = await asking.reply(f"reject={field}", msgspec.structs.replace(asked("hi"), max_output_tokens=9))
    assert reply.content == WORDS
    assert field not in asking.sent
    assert asking.asks == 2
    assert asking.clock.slept_s == [0.0]
    assert asking.heard.retries == []


@pytest.mark.parametrize(
    ("behaviour", "kind", "retryable", "asks"),
    [
        ("status=401", "auth", False, 1),
        ("status=403", "auth", False, 1),
        ("status=400", "refused", False, 1),
        ("status=404", "unavailable", False, 1),
        ("error=context_length_exceeded", "context_length", False, 1),
        ("status=413", "context_length", False, 1),
        ("error=insufficient_quota", "rate_limit", False, 1),
        ("status=402", "rate_limit", False, 1),
        ("error=content_filter", "refused", False, 1),
        ("refusal=1", "refused", False, 1),
        ("filter=1", "refused", False, 1),
        ("garbage=0", "malformed_output", True, 1),
        ("html=1", "malformed_output", True, 1),
        ("status=408", "timeout", True, ASKS_MAX),
        ("status=409", "unavailable", True, ASKS_MAX),
        ("status=429", "rate_limit", True, ASKS_MAX),
        ("status=500", "unavailable", True, ASKS_MAX),
        ("status=503", "unavailable", True, ASKS_MAX),
        ("fault=0", "unavailable", True, ASKS_MAX),
        ("badhttp=1", "network", True, ASKS_MAX),
        ("cut=0", "network", True, ASKS_MAX),
        ("cut=0,how=reset", "network", True, ASKS_MAX),
        # After a text was shown nothing is asked again.
        ("cut=3", "network", True, 1),
        ("stops=3", "network", True, 1),
        ("cut=3,how=reset", "network", True, 1),
        ("garbage=3", "malformed_output", True, 1),
        ("fault=3", "unavailable", True, 1),
    ],
)
async def test_each_failure_has_its_kind_and_its_number_of_asks(
    asking: Asking, behaviour: str, kind: str, retryable: bool, asks: int
) -> None:
    error = await asking.failure(behaviour)
    assert (error.kind, error.may_retry, asking.asks) == (kind, retryable, asks)
    assert len(asking.heard.retries) == len(asking.clock.slept_s) == asks - 1


async def test_waits_grow_with_jitter_and_each_is_told_first(asking: Asking) -> None:
    await asking.failure("status=500")
    assert asking.clock.slept_s == [0.25, 0.5, 1.0]
    assert asking.heard.retries == [(1, "unavailable", 250), (2, "unavailable", 500), (3, "unavailable", 1000)]


async def test_a_fault_that_passes_is_not_seen_by_the_caller(asking: Asking) -> None:
    reply = await asking.reply("status=503,times=2")
    assert reply.content == asking.heard.shown == WORDS
    assert asking.asks == 3


async def test_retry_after_in_seconds_is_waited_for(asking: Asking) -> None:
    await asking.reply("status=429,retry_after=7,times=1")
    assert asking.clock.slept_s == [7.0]
    assert asking.heard.retries == [(1, "rate_limit", 7000)]


async def test_retry_after_as_a_date_is_waited_for(asking: Asking) -> None:
    date = email.utils.formatdate(asking.clock.now_ms() / 1000 + 20, usegmt=True)
    await asking.reply(f"status=503,times=1,retry_after={date.replace(' ', '_').replace(',', ';')}")
    assert 17 < asking.clock.slept_s[0] <= 20


async def test_a_retry_after_beyond_the_bound_ends_the_call_and_is_told(asking: Asking) -> None:
    error = await asking.failure("status=429,retry_after=31")
    assert asking.asks == 1
    assert error.retry_after_ms == 31_000
    assert error.may_retry


async def test_a_server_that_is_not_there_is_network(asking: Asking) -> None:
    error = await asking.failure("", base_url="http://127.0.0.1:1/v1")
    assert error.kind == "network"
    assert len(asking.heard.retries) == ASKS_MAX - 1


async def test_a_server_that_says_nothing_times_out(asking: Asking) -> None:
    asking.clock.chance = 0.0
    provider = asking.provider(
        "hang=headers", waits=msgspec.structs.replace(SHORT, first_token_s=0.3, whole_call_s=0.5)
    )
    await provider.check()  # the package is imported and the client made: that may take longer than these waits
    before = asking.asks
    with pytest.raises(ProviderError) as caught:
        await provider.complete(asked("hi"), asking.heard)
    assert caught.value.kind == "timeout"
    assert asking.asks - before == 2  # the whole call's time is over before the second one's


async def test_a_stream_that_stops_times_out_and_closes_the_connection(asking: Asking) -> None:
    error = await asking.failure("hang=stream", waits=SHORT)
    assert error.kind == "timeout"
    assert asking.asks == 1
    await asyncio.wait_for(asking.served.fake.gone.wait(), 2)


@pytest.mark.parametrize("behaviour", ["hang=headers", "hang=stream"])
async def test_cancelling_is_no_error_and_closes_the_connection(asking: Asking, behaviour: str) -> None:
    call = asyncio.ensure_future(asking.reply(behaviour))
    await asyncio.wait_for(asking.served.fake.streaming.wait(), 5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.wait_for(asking.served.fake.gone.wait(), 2)
    assert asking.heard.retries == []


async def test_cancelling_during_a_wait_ends_it(asking: Asking) -> None:
    told = asyncio.Event()

    class Waiting(QuickClock):
        async def sleep(self, delay_s: float) -> None:
            told.set()
            await asyncio.Event().wait()

    asking.clock = Waiting()
    call = asyncio.ensure_future(asking.reply("status=500"))
    await asyncio.wait_for(told.wait(), 5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert asking.asks == 1


async def test_a_reply_is_cut_at_its_bound_on_a_code_point(asking: Asking) -> None:
    reply = await asking.reply("huge=50000", waits=Waits(reply_bytes_max=12_345))
    assert len(reply.content.encode()) == 12_344
    assert reply.content == asking.heard.shown
    assert reply.finish_reason == "length"


@pytest.mark.parametrize("status", [400, 401, 429, 500])
async def test_a_key_that_the_server_echoes_is_scrubbed(asking: Asking, status: int) -> None:
    error = await asking.failure(f"status={status},echo_key=1,retry_after=99")
    assert "[key]" in error.message
    assert KEY not in str(error.__context__)


async def test_a_long_error_is_read_up_to_a_bound(asking: Asking) -> None:
    error = await asking.failure("status=400,wordy=100000")
    assert len(error.message) <= MESSAGE_CHARS_MAX + 1


async def test_a_closed_provider_opens_nothing_again(asking: Asking) -> None:
    provider = asking.provider()
    await provider.complete(asked("hi"), asking.heard)
    await provider.close()
    with pytest.raises(ProviderError) as caught:
        await provider.complete(asked("hi"), asking.heard)
    assert caught.value.kind == "network"
    assert asking.asks == 1


async def test_the_key_is_in_no_repr(asking: Asking) -> None:
    provider = asking.provider()
    await provider.check()
    assert KEY not in repr(provider)
    assert KEY not in str(vars(provider)["_scrub"])


async def test_many_calls_at_once_open_the_package_once(asking: Asking) -> None:
    provider: Provider = asking.provider("chunks=5")
    replies = await asyncio.gather(*(provider.complete(asked("hi"), Recorded()) for _ in range(20)))
    assert {reply.content for reply in replies} == {"word word word word word"}


async def test_check_is_silent_when_the_server_answers(asking: Asking) -> None:
    assert await asking.provider().check() is None
    assert asking.served.fake.paths == ["/v1/models"]


async def test_check_says_what_is_wrong(asking: Asking) -> None:
    gone = await asking.provider(base_url="http://127.0.0.1:1/v1").check()
    assert gone is not None
    assert "can't be reached" in gone
    assert "OPENAI_BASE_URL" in gone


async def test_check_gives_a_silent_server_a_bounded_time(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    await asking.provider().check()  # so that the import is not in the bounded time
    monkeypatch.setattr("agentd.providers.openai.CHECK_S", 0.05)
    asking.served.fake.models_status = 0
    said = await asking.provider().check()
    assert said is not None
    assert "did not answer within" in said


async def test_a_client_that_cannot_be_made_is_told(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("agentd.providers.openai.importlib.import_module", broken)
    said = await asking.provider().check()
    assert said is not None
    assert "can't be made: ImportError" in said
    assert (await asking.failure("")).kind == "network"


async def test_arguments_of_a_tool_that_are_cut_are_useless(asking: Asking) -> None:
    error = await asking.failure("tool=add", waits=Waits(reply_bytes_max=5))
    assert error.kind == "malformed_output"


async def test_a_schema_that_is_invalid_does_not_teach_that_schemas_are_not_taken(asking: Asking) -> None:
    provider = asking.provider("reject_format=json_schema,words=Invalid_schema_for_json_schema")
    request = msgspec.structs.replace(asked("hi"), schema=SCHEMA)
    await provider.complete(request, asking.heard)
    await provider.complete(request, asking.heard)
    assert asking.asks == 4


async def test_a_last_event_without_its_empty_line_counts(asking: Asking) -> None:
    assert (await asking.reply("unended=1")).content == WORDS


@pytest.mark.parametrize(
    ("status", "words"), [(401, "refuses the key"), (403, "OPENAI_API_KEY"), (500, "HTTP 500"), (404, None)]
)
async def test_check_tells_a_refused_key_and_a_broken_server(asking: Asking, status: int, words: str | None) -> None:
    asking.served.fake.models_status = status
    said = await asking.provider().check()
    assert (said is None) if words is None else (said is not None and words in said)
