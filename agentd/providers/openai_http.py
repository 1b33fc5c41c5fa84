"""The openai package, asked for raw bytes; only to be imported lazily: it costs 0.3 to 0.6 s and 30 MiB.

Of the package we use the client (addresses, credentials, headers, proxies, the transport with its pool) and not its
typed responses, retries or errors: those cost most of a streamed call. A refusal is caught in a hook of the transport,
where its body can be read up to a bound. Nothing raised here has an error of the package as its context, because those
hold the request with its key.
"""

import importlib.util
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx2
import openai

from agentd.providers.faults import BODY_BYTES_MAX, Refused, Unreachable

try:
    from aiohttp import ClientError  # of the aiohttp transport, which lets some of them through as they are
except ImportError:
    ClientError = OSError  # type: ignore[assignment,misc]

POOL_MAX = 1_000
POOL_IDLE_MAX = 100

_BROKEN = (openai.APIConnectionError, httpx2.HTTPError, ClientError, OSError)
_HEADERS = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "Content-Type": "application/json"}


class Http:
    """One pool of connections to one server."""

    def __init__(self, *, key: str, base_url: str, connect_s: float, fast: bool | None = None) -> None:
        """`fast` None: the aiohttp transport when it can be imported."""
        self.fast = importlib.util.find_spec("aiohttp") is not None if fast is None else fast
        # Only connecting is timed here; waiting for bytes is, more cheaply, by `Patience`.
        timeout = httpx2.Timeout(None, connect=connect_s, pool=connect_s)
        limits = httpx2.Limits(max_connections=POOL_MAX, max_keepalive_connections=POOL_IDLE_MAX)
        kind = openai.DefaultAioHttpClient if self.fast else openai.DefaultAsyncHttpxClient
        transport = kind(timeout=timeout, limits=limits, event_hooks={"response": [_stop_at_refusal]})
        self._client = openai.AsyncOpenAI(
            api_key=key, base_url=base_url, max_retries=0, timeout=timeout, http_client=transport
        )

    async def ask(self, body: bytes) -> "Answer":
        """POST a chat completion; returns when its headers are there.

        Raises:
            Refused, Unreachable
        """
        try:
            answer: object = await self._client.post(
                "/chat/completions",
                content=body,
                cast_to=httpx2.Response,
                stream=True,
                stream_cls=openai.AsyncStream[Any],
                options={"headers": _HEADERS},
            )
        except _BROKEN as error:
            fault = _fault(error)
        else:
            return Answer(_raw(answer))
        raise fault

    async def models(self) -> None:
        """GET the list of models, for its status only.

        Raises:
            Refused, Unreachable
        """
        try:
            answer: object = await self._client.get(
                "/models", cast_to=httpx2.Response, stream=True, stream_cls=openai.AsyncStream[Any]
            )
        except _BROKEN as error:
            fault = _fault(error)
        else:
            await _raw(answer).aclose()
            return
        raise fault

    async def close(self) -> None:
        await self._client.close()


class Answer:
    """An open answer; `close` gives its connection back, or ends it when not all was read."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response

    @property
    def content_type(self) -> str:
        return self._response.headers.get("content-type", "")

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives.

        Raises:
            Unreachable: the connection broke.
        """
        response = self._response
        plain = response.headers.get("content-encoding", "identity") == "identity"
        fault: Unreachable | None = None
        async with aclosing(response.aiter_raw() if plain else response.aiter_bytes()) as body:
            try:
                async for chunk in body:
                    yield chunk
            except _BROKEN as error:
                fault = _fault(error)
        if fault is not None:
            raise fault

    async def close(self) -> None:
        await self._response.aclose()


async def _stop_at_refusal(response: httpx2.Response) -> None:
    if response.status_code < 400:
        return
    body = b""
    async with aclosing(response.aiter_bytes()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > BODY_BYTES_MAX:
                break
    await response.aclose()
    raise Refused(response.status_code, dict(response.headers), body[:BODY_BYTES_MAX])


def _raw(answer: object) -> httpx2.Response:
    """With `cast_to=httpx2.Response` the package gives the response itself, which its types do not say."""
    if not isinstance(answer, httpx2.Response):
        raise TypeError(f"the openai package gave a {type(answer).__name__} instead of a response")
    return answer


def _fault(error: BaseException) -> Unreachable:
    """Names of classes only: the texts hold addresses, and the objects the request."""
    innermost = error
    while innermost.__cause__ is not None:
        innermost = innermost.__cause__
    return Unreachable(type(innermost).__name__)
