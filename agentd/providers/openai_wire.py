"""Chat completions as bytes: the request as a server understands it, and the reply out of its stream of events.

Only the fields that matter are decoded, straight into structs. Servers differ in the optional fields they take;
`Dialect` says which are sent, and what to leave out after a server refused one.
"""

from typing import Any

import msgspec

from agentd.providers.provider import Message, ModelRequest, ToolCall

SCHEMA_NAME = "reply"
TOOL_CALLS_MAX = 128

_SCHEMA_WAYS = ("json_schema", "json_object", "prompt")


class Dialect(msgspec.Struct, frozen=True):
    """What a server takes. `tokens`: the names of the output limit, the first one is sent; empty: none."""

    usage: bool = True
    schema: int = 0  # into _SCHEMA_WAYS
    tokens: tuple[str, ...] = ("max_tokens", "max_completion_tokens")

    def without(self, refusal: str, request: ModelRequest) -> "Dialect | None":
        """The dialect to try after a refusal with these words; None when they name no field that can be left out."""
        said = refusal.lower()
        if self.usage and ("stream_options" in said or "include_usage" in said):
            return msgspec.structs.replace(self, usage=False)
        if request.max_output_tokens and self.tokens and self.tokens[0] in said:
            return msgspec.structs.replace(self, tokens=self.tokens[1:])
        named = any(word in said for word in ("response_format", "json_schema", "json_object"))
        if request.schema is not None and named and self.schema + 1 < len(_SCHEMA_WAYS):
            return msgspec.structs.replace(self, schema=self.schema + 1)
        return None


def encoded(request: ModelRequest, model: str, dialect: Dialect) -> bytes:
    """The body of a streamed chat completion."""
    messages = [_message(message) for message in request.messages]
    body: dict[str, Any] = {"model": model, "messages": messages, "stream": True}
    if dialect.usage:
        body["stream_options"] = {"include_usage": True}
    if request.tools:
        body["tools"] = [{"type": "function", "function": msgspec.structs.asdict(tool)} for tool in request.tools]
    if request.max_output_tokens and dialect.tokens:
        body[dialect.tokens[0]] = request.max_output_tokens
    if request.schema is not None:
        _ask_for_json(body, request.schema, _SCHEMA_WAYS[dialect.schema])
    return msgspec.json.encode(body)


def _message(message: Message) -> dict[str, Any]:
    told: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        told["content"] = message.content or None
        told["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        told["tool_call_id"] = message.tool_call_id
    return told


def _ask_for_json(body: dict[str, Any], schema: dict[str, Any], way: str) -> None:
    if way == "json_schema":
        body["response_format"] = {"type": way, "json_schema": {"name": SCHEMA_NAME, "schema": schema}}
        return
    if way == "json_object":
        body["response_format"] = {"type": way}
    told = msgspec.json.encode(schema).decode()
    rule = f"Reply with one JSON document of this JSON Schema and nothing else:\n{told}"
    body["messages"].append({"role": "system", "content": rule})


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolPart(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolPart] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Chunk(msgspec.Struct, gc=False):
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


class Garbled(Exception):
    """An event is not what chat completions consist of."""


class Incoming:
    """A reply that is arriving. `take` gives the text to show; the attributes say how far it is."""

    def __init__(self, bytes_max: int) -> None:
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.done = False  # the marker of the end came
        self.begun = False  # a token came: text, a tool, a refusal, or thoughts that are not shown
        self.full = False  # the reply is longer than its bound and was cut there
        self.refusal = ""
        self.error: Any = None
        self.tokens: tuple[int, int] | None = None  # in, out
        self._texts: list[str] = []
        self._parts: list[_Tool] = []
        self._left = bytes_max

    @property
    def content(self) -> str:
        return "".join(self._texts)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(
            ToolCall(part.id or f"call_{place}", part.name, "".join(part.arguments) or "{}")
            for place, part in enumerate(self._parts)
        )

    def take(self, data: bytes) -> str:
        """The text that the event with this data adds to the reply, often none.

        Raises:
            Garbled: it is not an event of a chat completion.
        """
        if self.done or self.error is not None:
            return ""  # one network chunk may hold more behind the end
        if data == b"[DONE]":
            self.done = True
            return ""
        try:
            chunk = _decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise Garbled from None
        if chunk.error is not None:
            self.error = chunk.error
        if chunk.model and self.model is None:
            self.model = chunk.model
        if chunk.usage is not None:
            self.tokens = (chunk.usage.prompt_tokens or 0, chunk.usage.completion_tokens or 0)
        if not chunk.choices or chunk.choices[0].index != 0:
            return ""
        choice = chunk.choices[0]
        if choice.finish_reason:
            self.finish_reason = choice.finish_reason
        return "" if choice.delta is None else self._added(choice.delta)

    def _added(self, delta: _Delta) -> str:
        if delta.reasoning or delta.reasoning_content:
            self.begun = True
        if delta.refusal:
            self.begun = True
            self.refusal += self._within(delta.refusal)
        if delta.tool_calls:
            self.begun = True
            for part in delta.tool_calls:
                self._add_tool(part)
        if not delta.content:
            return ""
        self.begun = True
        text = self._within(delta.content)
        if text:
            self._texts.append(text)
        return text

    def _add_tool(self, part: _ToolPart) -> None:
        """Pieces belong to the call with their index; servers that give none send each call whole."""
        function = part.function or _Function()
        place = part.index
        if place is None:
            place = len(self._parts) if part.id or function.name else len(self._parts) - 1
        if not 0 <= place <= min(len(self._parts), TOOL_CALLS_MAX - 1):
            raise Garbled
        if place == len(self._parts):
            self._parts.append(_Tool())
        call = self._parts[place]
        call.id = call.id or part.id
        call.name = call.name or function.name or ""
        if function.arguments:
            call.arguments.append(self._within(function.arguments))

    def _within(self, text: str) -> str:
        """As much of `text` as the bound leaves, cut on a code point."""
        size = len(text) if text.isascii() else len(text.encode())
        if size <= self._left:
            self._left -= size
            return text
        self.full = True
        kept, self._left = text.encode()[: self._left].decode(errors="ignore"), 0
        return kept


class _Tool(msgspec.Struct):
    id: str | None = None
    name: str = ""
    arguments: list[str] = msgspec.field(default_factory=list)
