"""What a task has to bring: schemas, rules across fields, and words that are not what was asked for (L9)."""

from typing import Any

import pytest

from agentd.core.outputs import (
    PROBLEMS_MAX,
    SCHEMA_BYTES_MAX,
    SCHEMA_DEPTH_MAX,
    output_problems,
    read_output,
    schema_problem,
)
from agentd.protocol.facts import Invariant

SUM = {
    "type": "object",
    "properties": {"total": {"type": "integer"}, "parts": {"type": "array", "items": {"type": "integer"}}},
    "required": ["total", "parts"],
}


@pytest.mark.parametrize(
    "text",
    ['{"total": 3, "parts": [1, 2]}', 'Here it is:\n```json\n{"total": 3, "parts": [1, 2]}\n```\nGood luck!'],
)
def test_a_fence_and_prose_around_the_json_are_forgiven(text: str) -> None:
    assert read_output(text, SUM, ()) == ({"total": 3, "parts": [1, 2]}, ())


@pytest.mark.parametrize("text", ["", "I would rather not.", '{"total": 3, "parts": [1, 2', "{" * 5_000, "\x00", "}{"])
def test_what_is_no_json_is_told_as_such(text: str) -> None:
    value, wrong = read_output(text, SUM, ())
    assert value is None
    assert [(one.path, one.message) for one in wrong] == [("$", "this is not one JSON value")]


def test_every_error_has_its_path() -> None:
    _, wrong = read_output('{"parts": [1, "two"]}', SUM, ())
    assert {one.path for one in wrong} == {"$", "$.parts[1]"}
    assert any("total" in one.message for one in wrong)


def test_problems_are_bounded() -> None:
    assert len(output_problems({"total": 1, "parts": ["x"] * 500}, SUM)) == PROBLEMS_MAX


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        (Invariant(path="$.total", op="exists"), True),
        (Invariant(path="$.missing", op="exists"), False),
        (Invariant(path="$.total", op="==", other="$.parts[2]"), True),
        (Invariant(path="$.total", op="==", other="$.parts[9]"), False),
        (Invariant(path="$.total", op=">", other="$.parts[0]"), True),
        (Invariant(path="$.total", op=">=", value=4), False),
        (Invariant(path="$.total", op="<", value=4), True),
        (Invariant(path="$.total", op="<=", value=2), False),
        (Invariant(path="$.total", op="!=", value=3), False),
        (Invariant(path="$.total", op="in", other="$.parts"), True),
        (Invariant(path="$.parts#", op="==", value=3), True),
        (Invariant(path="$.total#", op="==", value=3), False),
        (Invariant(path="$.total", op="<", value="four"), False),
        (Invariant(path="$.name", op="in", value=["a", "b"]), True),
    ],
)
def test_rules_across_fields(rule: Invariant, holds: bool) -> None:
    wrong = output_problems({"total": 3, "parts": [1, 2, 3], "name": "a"}, None, (rule,))
    assert (not wrong) == holds


def test_invariants_alone_ask_for_json() -> None:
    assert read_output("three", None, (Invariant(path="$.total", op="exists"),))[1]


def _deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "objekt"}, "no JSON Schema"),
        ({"$ref": "http://127.0.0.1:1/schema.json"}, "leaves the schema"),
        ({"items": [{"$ref": "other.json#/a"}]}, "leaves the schema"),
        ({"$ref": "#/$defs/missing"}, "no JSON Schema"),
        ({"description": "x" * SCHEMA_BYTES_MAX}, "bytes"),
        (_deep(SCHEMA_DEPTH_MAX + 1), "levels"),
        ({"type": "string", "pattern": "("}, "no JSON Schema"),
    ],
)
def test_a_schema_that_cannot_be_used_is_told_before_the_plan_runs(schema: dict[str, Any], why: str) -> None:
    assert why in (schema_problem(schema) or "")


def test_a_good_schema_has_no_problem() -> None:
    assert schema_problem(SUM) is None
    assert schema_problem({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}) is None
