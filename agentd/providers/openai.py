"""Any OpenAI-compatible server, through the openai package's transport with our own reading of the stream.

What always holds: at most `ASKS_MAX` asks to a call, never another one after a text was shown; each retry is told
before it is waited for; every wait has a deadline; the key is in no message, no repr and no exception's context.
Cancelling closes the connection.

The package is imported in a worker thread by the first call or `check`, whichever comes first, so the server starts
without it and the loop goes on meanwhile (`docs/decisions/031`). tenacity decides about retries, the package none.
"""

import asyncio
import importlib
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from agentd.clock import Clock
from agentd.protocol.errors import ProviderError
from agentd.providers.faults import (
    ASKED_AGAIN,
    RETRY_AFTER_MAX_S,
    ErrorBody,
    Refused,
    Scrub,
    Unreachable,
    failure,
    of_error,
    of_refusal,
)
from agentd.providers.openai_wire import Dialect, Garbled, Incoming, encoded
from agentd.providers.patience import Patience
from agentd.providers.provider import Events, ModelReply, ModelRequest, Usage
from agentd.providers.sse import EventSplitter, EventTooLong
from agentd.providers.usage import estimated_usage

if TYPE_CHECKING:
    from agentd.providers import openai_http

ASKS_MAX = 4
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 8.0
CHECK_S = 3.0
END_S = 0.25  # after the last event, for the end of the body, without which the connection can't be used again
_FIELD_STATUSES = (400, 415, 422, 501)


class Waits(msgspec.Struct, frozen=True):
    """How long a call waits for what, in seconds, and how long its reply may be."""

    connect_s: float = 5.0
    first_token_s: float = 60.0
    between_chunks_s: float = 30.0
    whole_call_s: float = 600.0
    reply_bytes_max: int = 1_048_576


class OpenAIProvider:
    """One server, one key, one model. Safe for any number of calls at once."""

    name = "openai"
    offline = False

    def __init__(
        self,
        clock: Clock,
        *,
        key: str,
        model: str,
        base_url: str,
        waits: Waits | None = None,
        fast: bool | None = None,
    ) -> None:
        """`fast`: use the aiohttp transport; None: when it is installed."""
        self.model: str | None = model
        self.base_url = base_url
        self._named = model
        self._clock = clock
        self._key = key
        self._scrub = Scrub(key)
        self._waits = waits or Waits()
        self._fast = fast
        self._dialect = Dialect()
        self._http: openai_http.Http | None = None
        self._opening = asyncio.Lock()
        self._closed = False

    def __repr__(self) -> str:
        return f"OpenAIProvider(model={self._named!r}, base_url={self.base_url!r})"

    async def complete(self, request: ModelRequest, events: Events) -> ModelReply:
        """See `Provider.complete`."""
        call = _Call(request, events, self._clock, self._clock.monotonic_s() + self._waits.whole_call_s)
        retrying = AsyncRetrying(
            sleep=self._clock.sleep,
            stop=stop_after_attempt(ASKS_MAX),
            wait=call.wait_s,
            retry=retry_if_exception(call.may_ask_again),
            before_sleep=call.tell_retry,
            reraise=True,
        )
        reply: ModelReply = await retrying(self._ask, call)
        return reply

    async def check(self) -> str | None:
        """See `Provider.check`. A server that answers but knows no list of models is fine."""
        try:
            async with asyncio.timeout(CHECK_S):
                http = await self._opened()
                await http.models()
        except TimeoutError:
            return f"{self.base_url} did not answer within {CHECK_S:g} s; check OPENAI_BASE_URL."
        except Unreachable as error:
            return f"{self.base_url} can't be reached ({error}); check OPENAI_BASE_URL."
        except Refused as error:
            return self._complaint(error.status)
        return None

    async def close(self) -> None:
        """End all connections; calls that run end with kind `network`."""
        self._closed = True
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    def _complaint(self, status: int) -> str | None:
        if status in (401, 403):
            return f"{self.base_url} refuses the key (HTTP {status}); set OPENAI_API_KEY to one that it accepts."
        return None if status < 500 else f"{self.base_url} answers with HTTP {status}; try again later."

    async def _ask(self, call: "_Call") -> ModelReply:
        """One ask: send, read, judge. Failures are raised outside of `except`, so that they have no context."""
        call.begun_s = self._clock.monotonic_s()
        call.first_s = None
        dialect = call.dialect or self._dialect
        incoming = Incoming(self._waits.reply_bytes_max)
        fault: ProviderError | None = None
        try:
            await self._streamed(call, dialect, incoming)
        except Refused as refused:
            fault = self._refused(refused, call, dialect)
        except Unreachable as error:
            fault = failure("network", f"The connection to the model server failed ({error}).")
        except (Garbled, EventTooLong):
            fault = failure("malformed_output", "The model server sent something that is no chat completion.")
        except TimeoutError:
            fault = failure("timeout", f"The model server sent no {_missing(incoming)} in time.")
        if fault is None or incoming.done:  # what goes wrong behind the last event harms nobody
            fault = self._flaw(incoming)
        if fault is not None:
            raise fault
        return self._reply(call, incoming)

    async def _streamed(self, call: "_Call", dialect: Dialect, incoming: Incoming) -> None:
        http = await self._opened()
        async with Patience(self._clock, self._waits.first_token_s, call.ends_s) as patience:
            answer = await http.ask(encoded(call.request, self._named, dialect))
            try:
                if not answer.content_type.startswith(("text/html", "application/json")):
                    return await self._read(answer, call, incoming, patience)
            finally:
                await answer.close()
        raise Garbled

    async def _read(self, answer: "openai_http.Answer", call: "_Call", incoming: Incoming, patience: Patience) -> None:
        splitter = EventSplitter()
        async with aclosing(answer.chunks()) as chunks:
            async for chunk in chunks:
                for data in splitter.feed(chunk):
                    self._take(data, call, incoming)
                if incoming.full or incoming.error is not None:
                    return
                if incoming.done:
                    patience.allow(END_S)
                elif incoming.begun:
                    patience.allow(self._waits.between_chunks_s)
        for data in splitter.end():
            self._take(data, call, incoming)

    def _take(self, data: bytes, call: "_Call", incoming: Incoming) -> None:
        text = incoming.take(data)
        if incoming.begun and call.first_s is None:
            call.first_s = self._clock.monotonic_s()
        if text:
            call.shown = True
            call.events.text(text)

    def _refused(self, refused: Refused, call: "_Call", dialect: Dialect) -> ProviderError:
        """The failure; when a field can be left out, `call` is set to ask again without it."""
        said = refused.body.decode(errors="replace")
        less = dialect.without(said, call.request) if refused.status in _FIELD_STATUSES else None
        if less is not None:
            call.dialect = less
            call.fewer_fields = True
            if "invalid schema" not in said.lower():  # that is one schema's fault, not a field the server does not know
                self._dialect = less
        return of_refusal(refused, model=self._named, scrub=self._scrub, now_ms=self._clock.now_ms())

    def _flaw(self, incoming: Incoming) -> ProviderError | None:
        """What makes the reply that came unusable."""
        if incoming.error is not None:
            said, code, type_ = ErrorBody(error=incoming.error).parts()
            status = int(code) if code.isdecimal() and len(code) == 3 else 0
            return of_error(said, code=code, type_=type_, status=status, model=self._named, scrub=self._scrub)
        if incoming.refusal:
            return failure("refused", self._scrub(f"The model refused: {incoming.refusal}"))
        if incoming.finish_reason == "content_filter":
            return failure("refused", "The model server's content filter stopped the reply.")
        if incoming.full and incoming.tool_calls:
            return failure("malformed_output", "The arguments of a tool call are longer than a reply may be.")
        if not (incoming.done or incoming.full or incoming.finish_reason):
            return failure("network", "The connection ended before the reply was complete.")
        return None

    def _reply(self, call: "_Call", incoming: Incoming) -> ModelReply:
        content, calls = incoming.content, incoming.tool_calls
        ttft_ms = None if call.first_s is None else round((call.first_s - call.begun_s) * 1000)
        model = incoming.model or self._named
        if incoming.tokens is None:
            usage = estimated_usage(call.request, content, calls, model=model, ttft_ms=ttft_ms)
        else:
            usage = Usage(model, *incoming.tokens, ttft_ms=ttft_ms, calls=1)
        finish = "length" if incoming.full else incoming.finish_reason or "stop"
        return ModelReply(content, usage, finish, calls)

    async def _opened(self) -> "openai_http.Http":
        """The connection pool; the first time in a thread: the import, and the certificates that a client loads."""
        if self._http is None:
            async with self._opening:
                if self._closed:
                    raise Unreachable("this provider is closed")
                if self._http is None:
                    self._http = await asyncio.to_thread(self._open)
        return self._http

    def _open(self) -> "openai_http.Http":
        try:
            module = importlib.import_module("agentd.providers.openai_http")
            http: openai_http.Http = module.Http(
                key=self._key, base_url=self.base_url, connect_s=self._waits.connect_s, fast=self._fast
            )
        except (ImportError, OSError) as error:  # a broken installation, certificates that can't be read
            raise Unreachable(f"its client can't be made: {type(error).__name__}") from None
        return http


class _Call:
    """What one call remembers over its asks; tenacity asks it whether, after how long, and lets it tell."""

    def __init__(self, request: ModelRequest, events: Events, clock: Clock, ends_s: float) -> None:
        self.request = request
        self.events = events
        self.ends_s = ends_s
        self.begun_s = clock.monotonic_s()  # of the current ask
        self.first_s: float | None = None  # when its first token came
        self.shown = False
        self.dialect: Dialect | None = None
        self.fewer_fields = False  # the next ask differs from the last one: no retry, nothing to wait for
        self._clock = clock
        self._asks = 0
        self._wait_s = 0.0

    def may_ask_again(self, error: BaseException) -> bool:
        self._asks += 1
        if not isinstance(error, ProviderError) or self.shown:
            return False
        if self.fewer_fields:
            self._wait_s = 0.0
            return True
        after_s = (error.retry_after_ms or 0) / 1000
        backoff_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** (self._asks - 1)) * self._clock.random()
        self._wait_s = max(after_s, backoff_s)
        in_time = self._clock.monotonic_s() + self._wait_s < self.ends_s
        return error.kind in ASKED_AGAIN and error.may_retry and after_s <= RETRY_AFTER_MAX_S and in_time

    def wait_s(self, _: RetryCallState) -> float:
        return self._wait_s

    def tell_retry(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if not self.fewer_fields and isinstance(error, ProviderError):
            self.events.retry(self._asks, error.kind, round(self._wait_s * 1000))
        self.fewer_fields = False


def _missing(incoming: Incoming) -> str:
    return "further text" if incoming.begun else "first token"
