"""Samples are valid for their schema, by another implementation's judgement."""

from typing import Any

import jsonschema
import pytest

from agentd.providers.schema_sample import sample

SCHEMAS: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "string", "minLength": 40, "maxLength": 50},
    {"type": "string", "maxLength": 3},
    {"type": "integer", "minimum": 3, "maximum": 9},
    {"type": "integer", "exclusiveMinimum": 3, "multipleOf": 5},
    {"type": "integer", "maximum": -4},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "number", "minimum": 0.25, "maximum": 0.75},
    {"type": "boolean"},
    {"type": ["null", "integer"]},
    {"type": "null"},
    {"enum": ["b", "a"]},
    {"const": {"x": 1}},
    {"type": "array", "items": {"type": "integer"}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "items": {"enum": ["x", "y", "z"]}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "items": {"type": "string", "maxLength": 5}, "minItems": 12, "uniqueItems": True},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "boolean"}], "minItems": 2},
    {"anyOf": [{"type": "integer"}, {"type": "string"}]},
    {"allOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]}, {"required": ["b"]}], "type": "object"},
    {"type": "object", "minProperties": 2, "properties": {"a": {"type": "integer"}}},
    {"type": "object", "minProperties": 3, "additionalProperties": {"type": "integer"}},
    {"type": "string", "format": "date-time"},
    {"required": ["a"], "properties": {"a": True}},
    {"items": {"minimum": 2}, "minItems": 1, "type": "array"},
    {"minimum": 2},
    {"properties": {"a": {"items": {"type": "string"}}}, "required": ["a"]},
    {"default": 3, "type": "integer"},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "uniqueItems": True},
    {
        "type": "object",
        "required": ["tasks", "kind"],
        "additionalProperties": False,
        "properties": {
            "kind": {"type": "string", "enum": ["plan"]},
            "tasks": {"type": "array", "minItems": 2, "items": {"$ref": "#/$defs/task"}},
            "note": {"type": "string"},
        },
        "$defs": {
            "task": {
                "type": "object",
                "required": ["id", "title", "cost"],
                "properties": {
                    "id": {"type": "string", "minLength": 1},
                    "title": {"type": "string"},
                    "cost": {"type": "number", "minimum": 0.5},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/task"}},
                },
            }
        },
    },
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_a_sample_is_valid_and_always_the_same(schema: dict[str, Any]) -> None:
    value = sample(schema, "some words to use")
    jsonschema.Draft202012Validator(schema).validate(value)
    assert sample(schema, "some words to use") == value


def test_strings_carry_the_text() -> None:
    assert sample({"type": "string"}, "hello") == "hello"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"$ref": "#/$defs/nothing"},
        {"$ref": "other.json"},
        {"$ref": "#"},
        {"type": "object", "required": ["self"], "properties": {"self": {"$ref": "#"}}},
        {"type": "object", "required": ["a"], "additionalProperties": False},
        {
            "type": "array",
            "minItems": 900,
            "items": {"type": "array", "minItems": 900, "items": {"type": "integer"}},
        },
    ],
    ids=str,
)
def test_what_allows_nothing_or_never_ends_is_an_error(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        sample(schema, "text")
