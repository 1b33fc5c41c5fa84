"""What is counted of model calls: each ends once, by its outcome; texts pass untouched (L2, L17)."""

import asyncio
from typing import cast

import pytest

from agentd.clock import SystemClock
from agentd.protocol.errors import ProviderError
from agentd.protocol.facts import Usage
from agentd.providers.measured import Measured
from agentd.providers.provider import Events, ModelReply, ModelRequest, Provider
from agentd.telemetry import Metrics

REQUEST = ModelRequest(messages=(), purpose="answer")


class Inner:
    """A provider that does what it is told, after one retry and one text."""

    name, model, offline = "inner", "m-1", True

    def __init__(self, outcome: ModelReply | BaseException | None) -> None:
        self.outcome = outcome
        self.closed = False
        self.called = asyncio.Event()

    async def complete(self, request: ModelRequest, events: Events) -> ModelReply:
        events.retry(1, "network", 5)
        events.text("said")
        self.called.set()
        if self.outcome is None:
            await asyncio.Event().wait()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        assert self.outcome is not None
        return self.outcome

    async def check(self) -> str | None:
        return "it is far away"

    async def close(self) -> None:
        self.closed = True


class Heard:
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.retries: list[tuple[int, str, int]] = []

    def text(self, text: str) -> None:
        self.texts.append(text)

    def retry(self, attempt: int, kind: str, wait_ms: int) -> None:
        self.retries.append((attempt, kind, wait_ms))


def made(outcome: ModelReply | BaseException | None) -> tuple[Measured, Metrics, Inner]:
    inner, metrics = Inner(outcome), Metrics()
    return Measured(cast(Provider, inner), metrics, SystemClock()), metrics, inner


def counted(metrics: Metrics) -> dict[str, float]:
    family = next(one for one in metrics.registry.collect() if one.name == "agentd_model_calls")
    return {sample.labels["outcome"]: sample.value for sample in family.samples}


async def test_a_call_that_ends_well_is_counted_with_its_times() -> None:
    reply = ModelReply(content="said", usage=Usage(ttft_ms=250), finish_reason="stop")
    provider, metrics, _ = made(reply)
    heard = Heard()
    assert await provider.complete(REQUEST, heard) is reply
    assert (heard.texts, heard.retries) == (["said"], [(1, "network", 5)])
    assert counted(metrics) == {"ok": 1.0}
    value = metrics.registry.get_sample_value
    assert value("agentd_model_call_seconds_count") == 1
    assert value("agentd_model_first_token_seconds_sum") == 0.25
    assert value("agentd_model_retries_total", {"kind": "network"}) == 1


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (ProviderError("no", kind="rate_limit", retryable=True), "rate_limit"),
        (ProviderError("no", kind="auth", retryable=False), "auth"),
        (ValueError("a bug of ours"), "internal"),
    ],
)
async def test_a_failure_is_counted_by_its_kind_and_goes_on_its_way(outcome: Exception, word: str) -> None:
    provider, metrics, _ = made(outcome)
    with pytest.raises(type(outcome)):
        await provider.complete(REQUEST, Heard())
    assert counted(metrics) == {word: 1.0}
    assert metrics.registry.get_sample_value("agentd_model_first_token_seconds_count") == 0


async def test_a_reply_without_a_first_token_has_no_time_to_it() -> None:
    provider, metrics, _ = made(ModelReply(content="", usage=Usage(), finish_reason="tool_calls"))
    await provider.complete(REQUEST, Heard())
    assert metrics.registry.get_sample_value("agentd_model_first_token_seconds_count") == 0


async def test_an_abort_is_no_error() -> None:
    """N9."""
    provider, metrics, inner = made(None)
    call = asyncio.get_running_loop().create_task(provider.complete(REQUEST, Heard()))
    await inner.called.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert counted(metrics) == {"cancelled": 1.0}


async def test_it_is_the_provider_that_it_stands_for() -> None:
    provider, _, inner = made(None)
    assert (provider.name, provider.model, provider.offline) == ("inner", "m-1", True)
    assert await provider.check() == "it is far away"
    await provider.close()
    assert inner.closed
