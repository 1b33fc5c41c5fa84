"""Bytes to commands and values to bytes: one decoder and one encoder for each direction, reused (measured.md).

A good frame is read once. A bad one is read a second time, leniently, only to rescue its `id` and to say what is wrong
with it in the words of protocol.md, 3 (rulings 45).
"""

import json
import re
from typing import Any

import msgspec

from agentd.protocol.commands import AnyCommand
from agentd.protocol.errors import AgentdError, InvalidFrame, InvalidPayload, UnknownType
from agentd.protocol.facts import AnyFact, Fact

_commands: msgspec.json.Decoder[AnyCommand] = msgspec.json.Decoder(AnyCommand)
_facts: msgspec.json.Decoder[AnyFact] = msgspec.json.Decoder(AnyFact)
_encoder = msgspec.json.Encoder()
_AT = re.compile(r"^(?P<what>.*) - at `(?P<path>[^`]*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]*)`")
_TYPES = {str(kind.__struct_config__.tag) for kind in AnyCommand.__args__}

encode = _encoder.encode
"""Any frame, fact or value to JSON bytes."""


class BadFrame(Exception):
    """A frame that was not understood: the error to answer, and the request id where one could be rescued."""

    def __init__(self, error: AgentdError, request: str | None) -> None:
        super().__init__(error.message)
        self.error = error
        self.request = request


def decode_command(text: bytes) -> AnyCommand:
    """One client frame.

    Raises:
        BadFrame: with `invalid_frame`, `unknown_type` or `invalid_payload` (whose `details.path` says where).
    """
    try:
        return _commands.decode(text)
    except (ValueError, RecursionError) as error:
        raise _diagnosed(text, error) from None


def decode_fact(body: bytes) -> AnyFact:
    """A stored fact; bodies come from our own log, so a failure here is damage, not input.

    Raises:
        msgspec.DecodeError: it is no fact, or no text at all.
    """
    try:
        return _facts.decode(body)
    except UnicodeDecodeError as error:  # of a string in it; who catches damage has one thing to catch
        raise msgspec.DecodeError(f"no UTF-8: {error.reason}") from error


def with_request(body: bytes, request: str | None) -> bytes:
    """The stored bytes of a fact with `request` added, for the one socket whose request it answers."""
    if request is None:
        return body
    return body[:-1] + b',"request":' + _encoder.encode(request) + b"}"


def _diagnosed(text: bytes, error: Exception) -> BadFrame:
    try:
        value = json.loads(text)
    except RecursionError:
        return BadFrame(InvalidFrame("the frame is nested too deeply", hint="Send one flat JSON object."), None)
    except ValueError as bad:
        return BadFrame(InvalidFrame(f"not JSON: {bad}", hint="Send one JSON object per text frame."), None)
    if not isinstance(value, dict):
        return BadFrame(InvalidFrame("not a JSON object", hint='Send an object such as {"type": "ping"}.'), None)
    request = _request_id(value)
    name = value.get("type")
    if not isinstance(name, str):
        return BadFrame(
            InvalidFrame("no string `type`", hint='Every frame has a "type", such as "chat.send".'), request
        )
    if name not in _TYPES:
        return BadFrame(
            UnknownType(f"unknown type {_shown(name)}", hint="See docs/protocol.md for the types."), request
        )
    try:
        path = _surrogate(value, "$")
    except RecursionError:  # newer Pythons let `json` go deeper than their own functions
        return BadFrame(InvalidFrame("the frame is nested too deeply", hint="Send one flat JSON object."), request)
    if path is not None:
        return BadFrame(
            InvalidPayload("text holds a lone surrogate, which no UTF-8 can carry", path=path,
                           hint="Encode the text as UTF-8 before it is put into JSON."),
            request,
        )  # fmt: skip
    return BadFrame(_payload_error(str(error)), request)


def _payload_error(said: str) -> InvalidPayload:
    match = _AT.match(said)
    what, path = (match["what"], match["path"]) if match else (said, "$")
    missing = _MISSING.match(what)
    if missing:
        path = f"{path}.{missing['field']}"
        what = f"`{missing['field']}` is missing"
    return InvalidPayload(what, path=path, hint="See docs/protocol.md for the fields of this type.")


def _request_id(value: dict[str, Any]) -> str | None:
    found = value.get("id")
    if isinstance(found, str) and 1 <= len(found) <= 128 and _surrogate(found, "$") is None:
        return found
    return None


def _shown(name: str) -> str:
    short = name if len(name) <= 64 else name[:63] + "…"
    return repr(short.encode("utf-8", "replace").decode())


def _surrogate(value: Any, path: str) -> str | None:
    """Where the first text with a lone surrogate is.

    Raises:
        RecursionError: it is nested too deeply.
    """
    if isinstance(value, str):
        return path if any("\ud800" <= char <= "\udfff" for char in value) else None
    if isinstance(value, dict):
        for key, inner in value.items():
            found = _surrogate(key, path) or _surrogate(inner, f"{path}.{key}")
            if found is not None:
                return found.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        for index, inner in enumerate(value):
            found = _surrogate(inner, f"{path}[{index}]")
            if found is not None:
                return found
    return None


__all__ = ["AnyFact", "BadFrame", "Fact", "decode_command", "decode_fact", "encode", "with_request"]
