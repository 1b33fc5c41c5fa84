"""Chunks of chat completions, also as only some servers write them."""

import msgspec
import pytest

from agentd.providers.openai_wire import Dialect, Garbled, Incoming, encoded
from agentd.providers.provider import ToolCall
from tests.providers.recorded import asked


def taken(*deltas: object, bytes_max: int = 10_000) -> Incoming:
    incoming = Incoming(bytes_max)
    for delta in deltas:
        incoming.take(msgspec.json.encode({"choices": [{"delta": delta}]}))
    return incoming


def tool(index: int | None, arguments: str, name: str | None = None, id_: str | None = None) -> object:
    return {"tool_calls": [{"index": index, "id": id_, "function": {"name": name, "arguments": arguments}}]}


def test_tool_calls_without_an_index_come_whole() -> None:
    incoming = taken(tool(None, "{}", "a", "1"), tool(None, '{"x":', "b", "2"), tool(None, "2}"))
    assert incoming.tool_calls == (ToolCall("1", "a", "{}"), ToolCall("2", "b", '{"x":2}'))


def test_a_piece_of_no_call_is_garbled() -> None:
    with pytest.raises(Garbled):
        taken(tool(None, "{}"))


def test_tool_calls_without_an_id_get_one() -> None:
    assert taken(tool(0, "", "a")).tool_calls == (ToolCall("call_0", "a", "{}"),)


@pytest.mark.parametrize("index", [1, -1, 10**9])
def test_a_tool_call_out_of_order_is_garbled(index: int) -> None:
    with pytest.raises(Garbled):
        taken(tool(index, "", "a"))


def test_thoughts_are_a_token_but_not_shown() -> None:
    incoming = taken({"reasoning_content": "hm"})
    assert incoming.begun
    assert incoming.content == ""
    assert not taken({"role": "assistant", "content": ""}).begun


def test_only_the_first_choice_counts_and_missing_parts_are_fine() -> None:
    incoming = Incoming(100)
    for data in (b"{}", b'{"choices":[]}', b'{"choices":null}', b'{"choices":[{"index":1,"delta":{"content":"no"}}]}'):
        assert incoming.take(data) == ""
    assert incoming.take(b'{"choices":[{"delta":null,"finish_reason":"stop"}]}') == ""
    assert (incoming.content, incoming.finish_reason) == ("", "stop")


def test_nothing_counts_behind_the_end() -> None:
    incoming = Incoming(100)
    incoming.take(b"[DONE]")
    assert incoming.take(b"garbage") == ""


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"\xff", b'{"choices":[{"delta":{"content":"\\ud800"}}]}', b'{"choices":3}']
)
def test_what_is_no_chunk_is_garbled(data: bytes) -> None:
    with pytest.raises(Garbled):
        Incoming(100).take(data)


def test_the_bound_counts_bytes_and_cuts_on_a_code_point() -> None:
    incoming = taken({"content": "ab"}, {"content": "éé"}, {"content": "c"}, bytes_max=5)
    assert incoming.content == "abé"
    assert incoming.full


def test_a_dialect_leaves_out_what_was_named_until_nothing_is_left() -> None:
    request = msgspec.structs.replace(asked("hi"), schema={"type": "object"}, max_output_tokens=5)
    dialect: Dialect | None = Dialect()
    left: list[Dialect] = []
    while dialect is not None:
        left.append(dialect)
        dialect = dialect.without(
            "Unknown: stream_options, max_tokens, max_completion_tokens, response_format", request
        )
    assert len(left) == 6
    body = msgspec.json.decode(encoded(request, "m", left[-1]))
    assert body.keys() == {"model", "messages", "stream"}
    assert Dialect().without("no such model", request) is None
