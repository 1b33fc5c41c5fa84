"""The tools that need nothing."""

from typing import Any

import msgspec
import pytest

from agentd.tools.builtin import BUILTIN
from agentd.tools.tool import Context, Found, ToolError


async def look_up(words: str, limit: int) -> list[Found]:
    return [Found(id="e1", role="user", content=words * 1_000)][:limit]


async def call(name: str, **given: Any) -> Any:
    return await BUILTIN[name].call(msgspec.json.encode(given), Context(look_up))


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("calculate", {"expression": "(1 + 2) * 4"}, 12),
        ("calculate", {"expression": "1 / 4"}, 0.25),
        ("text", {"text": "b\na\nb", "operation": "unique_lines"}, "b\na"),
        ("text", {"text": "one two", "operation": "count_words"}, 2),
        ("text", {"text": "abc", "operation": "reverse"}, "cba"),
        ("replace", {"text": "a-b", "find": "-", "by": "+"}, "a+b"),
        ("json_pick", {"json": '{"a": [{"b/c": 5}]}', "pointer": "/a/0/b~1c"}, 5),
    ],
)
async def test_a_tool_does_what_it_says(name: str, given: dict[str, Any], expected: object) -> None:
    assert await call(name, **given) == expected


@pytest.mark.parametrize(
    ("name", "given", "kind"),
    [
        ("calculate", {"expression": "__import__('os')"}, "invalid_input"),
        ("calculate", {"expression": "1", "more": 1}, "invalid_input"),
        ("text", {"text": "x", "operation": "exec"}, "invalid_input"),
        ("replace", {"text": "a" * 100_000, "find": "a", "by": "b" * 1_000}, "too_large"),
        ("json_pick", {"json": "{", "pointer": "/a"}, "invalid_input"),
        ("json_pick", {"json": "[]", "pointer": "/0"}, "not_found"),
    ],
)
async def test_bad_input_is_a_typed_error(name: str, given: dict[str, Any], kind: str) -> None:
    with pytest.raises(ToolError) as failed:
        await call(name, **given)
    assert failed.value.kind == kind


async def test_what_is_looked_up_is_bounded() -> None:
    found = await call("look_up", words="words", limit=3)
    assert len(found) == 1
    assert len(found[0]["content"]) == 500


def test_every_tool_tells_a_model_what_it_takes() -> None:
    for name, tool in BUILTIN.items():
        assert tool.name == name
        assert tool.description
        assert tool.parameters["type"] == "object"
        assert tool.effect == "none"
