"""A small, fast server that behaves like an OpenAI-compatible one, well or badly; for tests and for the bench.

    python tests/fake_openai.py --port 0        prints the port, serves until it is ended

How it behaves stands in the model's name or, before that, in the header `x-fake`: `NAME:key=value,key=value`, such as
`fake:chunks=50,pace_ms=5` or `fake:status=429,retry_after=1,times=2`.

    chunks=20 pace_ms=0      a normal reply of so many chunks; with a pace each is a write of its own, else they are one
    split=1                  each chunk is a write of its own, without a wait
    status=500 times=N       this status with an error body, for the first N asks (always, without times)
    error=CODE               the error's code: context_length_exceeded, insufficient_quota, content_filter, ...
    retry_after=TEXT         the header of that answer; `_` stands for a space and `;` for a comma
    wordy=N                  the error's message is 10 * N characters longer
    echo_key=1               the error's message holds the key that was sent
    hang=headers|stream|done nothing before the headers, after half of the chunks, or after the last event
    stops=N                  the reply ends after N events, in good order but without its end
    cut=N how=reset          the connection ends after N chunks, in good order or not
    garbage=N                after N chunks an event that is no JSON;   fault=N: after N chunks an error event
    tool=NAME                asks for a tool (arguments in pieces);     refusal=1, filter=1: refuses, filters
    reject=FIELD             400 when the request has that field;   reject_format=TYPE: that response_format
    nousage=1 nodone=1 unended=1 crlf=1 comments=1 html=1 huge=BYTES finish=REASON badhttp=1

A request with a `response_format` is answered with JSON text. Every request is kept in `Fake.requests`.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

MODEL = "fake-1-2026"
TEXT = "word"
USAGE = {"prompt_tokens": 7, "completion_tokens": 20, "total_tokens": 27}
STATUS_OF = {"context_length_exceeded": 400, "insufficient_quota": 429, "content_filter": 400, "model_not_found": 404}


@dataclass
class Fake:
    """The server's memory; `closed` counts requests whose client went away before the reply was complete."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    connections: int = 0
    closed: int = 0
    asks: dict[str, int] = field(default_factory=dict)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    streaming: asyncio.Event = field(default_factory=asyncio.Event)
    keep: bool = True
    models_status: int = 200  # 0: no answer
    behaviour: str = ""  # when set, it counts instead of the model's name
    json: str = ""  # when set, what is answered to a request with a `response_format`
    bodies: dict[tuple[str, bool], list[bytes]] = field(default_factory=dict)

    live: "set[_Connection]" = field(default_factory=set)

    def end(self) -> None:
        """Break every connection."""
        for connection in list(self.live):
            connection.transport.abort()

    async def serve(self, port: int = 0) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(lambda: _Connection(self), "127.0.0.1", port)


def options_of(text: str) -> dict[str, str]:
    _, _, options = text.partition(":")
    return dict(part.partition("=")[::2] for part in options.split(",") if part)


class _Connection(asyncio.Protocol):
    def __init__(self, fake: Fake) -> None:
        self.fake = fake
        self.buffer = b""
        self.work: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.fake.connections += 1
        self.fake.live.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.fake.live.discard(self)
        if self.work is not None and not self.work.done():
            self.work.cancel()
            self.fake.closed += 1
            self.fake.gone.set()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            lines = self.buffer[:end].decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            length = int(headers.get("content-length", "0"))
            if len(self.buffer) < end + 4 + length:
                return
            body = self.buffer[end + 4 : end + 4 + length]
            self.buffer = self.buffer[end + 4 + length :]
            self.asked(lines[0].split(" ")[1], headers, body)

    def asked(self, path: str, headers: dict[str, str], body: bytes) -> None:
        request = json.loads(body) if body else {}
        fake = self.fake
        if fake.keep:
            fake.requests.append(request)
            fake.headers.append(headers)
            fake.paths.append(path)
        source = fake.behaviour or headers.get("x-fake") or str(request.get("model", ""))
        options = options_of(source)
        if fake.json and "response_format" in request:
            options["json"] = fake.json
        number = fake.asks[source] = fake.asks.get(source, 0) + 1
        if number > int(options.get("times", "1000000")):
            options = {key: value for key, value in options.items() if key not in ("status", "error", "hang", "cut")}
        if answer := refusal_of(options, request, headers, path):
            self.transport.write(answer)
        elif path.endswith("/models"):
            listed = {"object": "list", "data": [{"id": MODEL, "object": "model"}]}
            if fake.models_status:
                self.transport.write(whole(fake.models_status, listed))
        elif not options.keys() - {"chunks", "times", "nousage"}:
            key = (source, "stream_options" in request)
            if "response_format" in request or key not in fake.bodies:
                fake.bodies[key] = [HEAD, *map(chunked, events(options, request)), LAST]
            self.transport.write(b"".join(fake.bodies[key]))
            if "response_format" in request:
                del fake.bodies[key]
        else:
            self.work = asyncio.get_running_loop().create_task(self.slowly(options, request))

    async def slowly(self, options: dict[str, str], request: dict[str, Any]) -> None:
        if options.get("hang") == "headers":
            self.fake.streaming.set()
            await asyncio.Event().wait()
        self.transport.write(HEAD.replace(b"text/event-stream", b"text/html") if "html" in options else HEAD)
        pace_s = int(options.get("pace_ms", "0")) / 1000
        stop = int(options["cut"]) + 1 if "cut" in options else -1
        half = int(options.get("chunks", "20")) // 2 if options.get("hang") == "stream" else -1
        for place, event in enumerate(events(options, request)):
            if place == stop:
                self.transport.abort() if options.get("how") == "reset" else self.transport.close()
                return
            if options.get("stops") == str(place):
                break
            if place == half:
                self.fake.streaming.set()
                await asyncio.Event().wait()
            if pace_s:
                await asyncio.sleep(pace_s)
            else:
                await asyncio.sleep(0)
            self.transport.write(chunked(event.replace(b"\n", b"\r\n") if "crlf" in options else event))
        if options.get("hang") == "done":
            await asyncio.Event().wait()
        self.transport.write(LAST)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(status: int, body: object, more: str = "") -> bytes:
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n{more}\r\n"
    return head.encode() + data


def refusal_of(options: dict[str, str], request: dict[str, Any], headers: dict[str, str], path: str) -> bytes | None:
    """The bytes of an error answer, when one is due."""
    message, code = "the fake refuses", options.get("error")
    status = int(options.get("status", STATUS_OF.get(code or "", 0)))
    if (rejected := options.get("reject")) and rejected in request:
        status, message, code = 400, f"Unrecognized request argument supplied: {rejected}", "unknown_parameter"
    if (kind := options.get("reject_format")) and request.get("response_format", {}).get("type") == kind:
        status, words = 400, options.get("words", f"{kind}_is_not_supported")
        message = f"response_format: {words.replace('_', ' ')}"
    if "badhttp" in options:
        return b"HTTP/1.1 0 what\r\n\r\n"
    if not status:
        return None
    if code == "context_length_exceeded":
        message = "This model's maximum context length is 8 tokens."
    if "echo_key" in options:
        message = f"Incorrect API key provided: {headers.get('authorization', '')}."
    message += " and so on" * int(options.get("wordy", "0"))
    after = options.get("retry_after", "").replace("_", " ").replace(";", ",")
    more = f"retry-after: {after}\r\n" if after else ""
    return whole(status, {"error": {"message": message, "type": "fake", "code": code}}, more)


def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]}
    return b"data: %b\n\n" % json.dumps(frame).encode()


def events(options: dict[str, str], request: dict[str, Any]) -> Iterator[bytes]:
    """The events of a reply, the marker of its end included."""
    if "comments" in options:
        yield b": a comment\n\nevent: ping\nid: 3\n\n"
    yield event({"role": "assistant", "content": ""})
    finish = "stop"
    if "tool" in options:
        finish = "tool_calls"
        yield from tool_events(options["tool"])
    elif "refusal" in options:
        yield event({"refusal": "I can't "})
        yield event({"refusal": "help with that."})
    else:
        yield from text_events(options, request)
    yield event({}, "content_filter" if "filter" in options else options.get("finish", finish))
    if "nousage" not in options and request.get("stream_options", {}).get("include_usage"):
        yield b"data: %b\n\n" % json.dumps({"model": MODEL, "choices": [], "usage": USAGE}).encode()
    if "nodone" not in options:
        yield b"data: [DONE]" if "unended" in options else b"data: [DONE]\n\n"


def text_events(options: dict[str, str], request: dict[str, Any]) -> Iterator[bytes]:
    if "huge" in options:
        piece = "é" * 5_000
        for _ in range(int(options["huge"]) // 10_000 + 1):
            yield event({"content": piece})
        return
    count = int(options.get("chunks", "20"))
    pieces = [TEXT if place == 0 else f" {TEXT}" for place in range(count)]
    if "response_format" in request:
        pieces = [options["json"]] if "json" in options else ['{"an', 'swer"', ': "fo', "rty-", 'two"}']
    for place, piece in enumerate(pieces):
        if options.get("garbage") == str(place):
            yield b"data: {this is no json\n\n"
        if options.get("fault") == str(place):
            yield b'data: {"error": {"message": "the model fell over", "code": 502}}\n\n'
        yield event({"content": piece})


def tool_events(name: str) -> Iterator[bytes]:
    first = {"index": 0, "id": "call_a", "type": "function", "function": {"name": name, "arguments": ""}}
    yield event({"content": None, "tool_calls": [first]})
    for part in ('{"x"', ": 1}"):
        yield event({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
    second = {"index": 1, "id": "call_b", "type": "function", "function": {"name": name, "arguments": "{}"}}
    yield event({"tool_calls": [second]})


async def main(port: int) -> None:
    fake = Fake(keep=False)
    server = await fake.serve(port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    try:
        asyncio.run(main(parser.parse_args().port))
    except KeyboardInterrupt:
        sys.exit(0)
