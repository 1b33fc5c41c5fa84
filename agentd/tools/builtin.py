"""The tools that need nothing: arithmetic, text, JSON, and a look at the session's own past. None has an effect."""

import re
from collections.abc import Callable
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from agentd.core.arithmetic import evaluate
from agentd.protocol.facts import Effect
from agentd.tools.tool import TIMEOUT_S, Context, Tool, ToolError

TEXT_CHARS_MAX = 100_000
FOUND_MAX = 10
FOUND_CHARS = 500

G = TypeVar("G", bound=msgspec.Struct)
Text = Annotated[str, Meta(max_length=TEXT_CHARS_MAX)]


class Calculate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Work out an expression of numbers, + - * / % ** and parentheses, exactly."""

    expression: Annotated[str, Meta(min_length=1, max_length=120)]


class Transform(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Change or measure a text: upper, lower, trim, reverse, count characters, words or lines, sort or dedupe lines."""

    text: Text
    operation: Literal[
        "upper", "lower", "trim", "reverse", "count_chars", "count_words", "count_lines", "sort_lines", "unique_lines"
    ]


class Replace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Replace each occurrence of a text by another one."""

    text: Text
    find: Annotated[str, Meta(min_length=1, max_length=1_000)]
    by: Annotated[str, Meta(max_length=1_000)] = ""


class Pick(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Take a value out of JSON text by a JSON pointer such as /items/0/name."""

    json: Text
    pointer: Annotated[str, Meta(max_length=500)]


class LookUp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Find earlier entries of this conversation that hold all of the given words."""

    words: Annotated[str, Meta(min_length=1, max_length=200)]
    limit: Annotated[int, Meta(ge=1, le=FOUND_MAX)] = 5


class Builtin(Generic[G]):
    """A tool made of an input type and a function; the type's first line describes it, its schema checks it."""

    effect: Effect = "none"
    timeout_s = TIMEOUT_S

    def __init__(self, name: str, given: type[G], do: Callable[[G], Any]) -> None:
        self.name = name
        self.description = (given.__doc__ or "").strip()
        self.parameters: dict[str, Any] = _flat(given)
        self._decoder = msgspec.json.Decoder(given)
        self._do = do

    async def call(self, given: bytes, context: Context) -> Any:
        return self._do(decoded(self._decoder, given))


class Memory:
    """Look into the session's own past."""

    name = "look_up"
    description = (LookUp.__doc__ or "").strip()
    effect: Effect = "none"
    timeout_s = TIMEOUT_S

    def __init__(self) -> None:
        self.parameters = _flat(LookUp)
        self._decoder = msgspec.json.Decoder(LookUp)

    async def call(self, given: bytes, context: Context) -> Any:
        asked = decoded(self._decoder, given)
        found = await context.look_up(asked.words, asked.limit)
        return [{"id": one.id, "role": one.role, "content": one.content[:FOUND_CHARS]} for one in found]


def decoded(decoder: msgspec.json.Decoder[G], given: bytes) -> G:
    """The input of a call. Raises ToolError invalid_input with the place."""
    try:
        return decoder.decode(given)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ToolError(str(error), kind="invalid_input") from None


def _flat(given: type[msgspec.Struct]) -> dict[str, Any]:
    """The input's schema without references."""
    schema = msgspec.json.schema(given)
    found: dict[str, Any] = next(iter(schema["$defs"].values()))
    return found


def _calculate(given: Calculate) -> Any:
    try:
        value = evaluate(given.expression)
    except ValueError as error:
        raise ToolError(str(error), kind="invalid_input") from None
    return int(value) if value.denominator == 1 else float(value)


def _transform(given: Transform) -> Any:
    text = given.text
    lines = text.splitlines()
    match given.operation:
        case "upper":
            return text.upper()
        case "lower":
            return text.lower()
        case "trim":
            return text.strip()
        case "reverse":
            return text[::-1]
        case "count_chars":
            return len(text)
        case "count_words":
            return len(text.split())
        case "count_lines":
            return len(lines)
        case "sort_lines":
            return "\n".join(sorted(lines))
        case "unique_lines":
            return "\n".join(dict.fromkeys(lines))


def _replace(given: Replace) -> str:
    grown = len(given.text) + given.text.count(given.find) * (len(given.by) - len(given.find))
    if grown > TEXT_CHARS_MAX:
        raise ToolError(f"the result would have {grown} characters", kind="too_large")
    return given.text.replace(given.find, given.by)


def _pick(given: Pick) -> Any:
    """RFC 6901."""
    try:
        value = msgspec.json.decode(given.json.encode())
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ToolError(f"not JSON: {error}", kind="invalid_input") from None
    for step in given.pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and re.fullmatch(r"0|[1-9]\d{0,8}", name) and int(name) < len(value):
            value = value[int(name)]
        else:
            raise ToolError(f"there is nothing at {given.pointer}", kind="not_found")
    return value


BUILTIN: dict[str, Tool] = {
    tool.name: tool
    for tool in (
        Builtin("calculate", Calculate, _calculate),
        Builtin("text", Transform, _transform),
        Builtin("replace", Replace, _replace),
        Builtin("json_pick", Pick, _pick),
        Memory(),
    )
}
