"""A provider around another one that counts its calls: outcomes, times, repeated asks (L2, L17).

Nothing is done per text: `text` is the inner events' own method.
"""

import asyncio

from agentd.clock import Clock
from agentd.protocol.errors import ProviderError
from agentd.providers.provider import Events, ModelReply, ModelRequest, Provider
from agentd.telemetry import Metrics


class Measured:
    """A `Provider`."""

    def __init__(self, inner: Provider, metrics: Metrics, clock: Clock) -> None:
        self._inner = inner
        self._metrics = metrics
        self._clock = clock

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def model(self) -> str | None:
        return self._inner.model

    @property
    def offline(self) -> bool:
        return self._inner.offline

    async def complete(self, request: ModelRequest, events: Events) -> ModelReply:
        metrics, begun_s, outcome = self._metrics, self._clock.monotonic_s(), "internal"
        try:
            reply = await self._inner.complete(request, _Counting(events, metrics))
            outcome = "ok"
            if reply.usage.ttft_ms is not None:
                metrics.model_first_token_seconds.observe(reply.usage.ttft_ms / 1000)
            return reply
        except ProviderError as error:
            outcome = error.kind
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            metrics.model_calls.labels(outcome).inc()
            metrics.model_call_seconds.observe(self._clock.monotonic_s() - begun_s)

    async def check(self) -> str | None:
        return await self._inner.check()

    async def close(self) -> None:
        await self._inner.close()


class _Counting:
    """Events that count retries on their way."""

    def __init__(self, events: Events, metrics: Metrics) -> None:
        self.text = events.text
        self._events = events
        self._metrics = metrics

    def retry(self, attempt: int, kind: str, wait_ms: int) -> None:
        self._metrics.model_retries.labels(kind).inc()
        self._events.retry(attempt, kind, wait_ms)
