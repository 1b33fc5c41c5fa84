"""Makes the smallest JSON value that a JSON Schema allows: what the offline provider says when a schema is asked for.

Understood: type, enum, const, default, required, properties, items, prefixItems, the bounds of numbers, strings,
arrays and objects, common formats, anyOf, oneOf, allOf, local $ref. Not understood: pattern (the given text is used as
it is), not, if/then, dependencies. Depth and size are bounded, because a schema may come from a client and refer to
itself.
"""

import math
from typing import Any

import msgspec

DEPTH_MAX = 32
ITEMS_MAX = 1_000
CHARS_MAX = 10_000
VALUES_MAX = 10_000

Schema = dict[str, Any]

_FORMATS = {
    "date": "2000-01-01",
    "time": "00:00:00Z",
    "date-time": "2000-01-01T00:00:00Z",
    "email": "nobody@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "hostname": "example.com",
}


def sample(schema: Schema, text: str) -> Any:
    """A value valid for `schema`; `text` is cut and padded wherever any string will do.

    Raises:
        ValueError: the schema allows nothing, goes deeper than `DEPTH_MAX` or refers to what it has not.
    """
    return _value(schema, _Given(schema, text), 0)


class _Given(msgspec.Struct):
    """What holds for one sample; `left` is how many values may still be made."""

    root: Schema
    text: str
    left: int = VALUES_MAX


def _value(schema: Schema | bool, given: _Given, depth: int) -> Any:
    if depth > DEPTH_MAX:
        raise ValueError(f"the schema asks for more than {DEPTH_MAX} levels")
    given.left -= 1
    if given.left < 0:
        raise ValueError(f"the schema asks for more than {VALUES_MAX} values")
    if isinstance(schema, bool):
        if not schema:
            raise ValueError("the schema allows nothing here")
        return None
    schema = _flat(schema, given.root)
    for known in ("const", "default"):
        if known in schema:
            return schema[known]
    if schema.get("enum"):
        return schema["enum"][0]
    match _kind(schema):
        case "object":
            return _object(schema, given, depth)
        case "array":
            return _array(schema, given, depth)
        case "string":
            return _string(schema, given.text)
        case "integer":
            return int(_number(schema, whole=True))
        case "number":
            return _number(schema, whole=False)
        case "boolean":
            return False
    return None


def _flat(schema: Schema, root: Schema) -> Schema:
    """The schema with its reference followed, its first alternative taken and its conjunction merged."""
    for _ in range(DEPTH_MAX):
        if "$ref" in schema:
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            schema = _merged(_target(schema["$ref"], root), rest)
        elif schema.get("allOf"):
            parts = schema["allOf"]
            schema = {key: value for key, value in schema.items() if key != "allOf"}
            for part in parts:
                schema = _merged(schema, _flat(part, root) if isinstance(part, dict) else {})
        elif alternatives := schema.get("anyOf") or schema.get("oneOf"):
            rest = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf")}
            schema = _merged(rest, alternatives[0])
        else:
            return schema
    raise ValueError("the schema's references run in a circle")


def _target(reference: str, root: Schema) -> Schema:
    node: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(node, dict) or step not in node:
            raise ValueError(f"the schema refers to {reference!r}, which it does not have")
        node = node[step]
    if not reference.startswith("#") or not isinstance(node, dict):
        raise ValueError(f"the schema refers to {reference!r}, which it does not have")
    return node


def _merged(first: Schema, second: Schema) -> Schema:
    merged = {**first, **second}
    if "properties" in first and "properties" in second:
        merged["properties"] = {**first["properties"], **second["properties"]}
    if "required" in first and "required" in second:
        merged["required"] = list(dict.fromkeys([*first["required"], *second["required"]]))
    return merged


def _kind(schema: Schema) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if isinstance(kind, str):
        return kind
    if "properties" in schema or "required" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    if any(key in schema for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")):
        return "number"
    return "string"


def _object(schema: Schema, given: _Given, depth: int) -> dict[str, Any]:
    properties: Schema = schema.get("properties", {})
    extra: Schema | bool = schema.get("additionalProperties", True)
    names = list(dict.fromkeys(schema.get("required", [])))
    names += [name for name in properties if name not in names][: max(0, schema.get("minProperties", 0) - len(names))]
    found = {name: _value(properties.get(name, extra), given, depth + 1) for name in names}
    while len(found) < min(schema.get("minProperties", 0), ITEMS_MAX):
        found[f"key{len(found) + 1}"] = _value(extra, given, depth + 1)
    return found


def _array(schema: Schema, given: _Given, depth: int) -> list[Any]:
    first: list[Schema | bool] = schema.get("prefixItems", [])
    length = min(max(schema.get("minItems", 0), 0), ITEMS_MAX)
    rest: Schema | bool = schema.get("items", True)
    kinds = [*first[:length], *([rest] * (length - len(first)))]
    found = [_value(kind, given, depth + 1) for kind in kinds]
    return _distinct(found, kinds) if schema.get("uniqueItems") else found


def _distinct(values: list[Any], kinds: list[Schema | bool]) -> list[Any]:
    """Values of one schema come out alike: count numbers up, number strings, walk through an enum."""
    for place, (value, schema) in enumerate(zip(values, kinds, strict=True)):
        bounds = schema if isinstance(schema, dict) else {}
        if options := bounds.get("enum"):
            values[place] = options[place % len(options)]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            values[place] = value + place * (bounds.get("multipleOf") or 1)
        elif isinstance(value, str):
            mark = f" {place + 1}"
            values[place] = value[: max(0, bounds.get("maxLength", CHARS_MAX) - len(mark))] + mark
    return values


def _string(schema: Schema, text: str) -> str:
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    shortest = min(max(schema.get("minLength", 0), 0), CHARS_MAX)
    return text[: schema.get("maxLength", CHARS_MAX)].ljust(shortest, ".")


def _number(schema: Schema, *, whole: bool) -> int | float:
    step = schema.get("multipleOf") or 1
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    value: int | float = 0
    if low is not None and value < low:
        value = math.ceil(low / step) * step
    if above is not None and value <= above:
        value = (math.floor(above / step) + 1) * step
    if high is not None and value > high:
        value = math.floor(high / step) * step
    if below is not None and value >= below:
        value = (math.ceil(below / step) - 1) * step
    if not whole and not _within(value, schema):
        ends = [end for end in (low, above, high, below) if end is not None]
        value = sum(ends) / len(ends)
    if not _within(value, schema):
        raise ValueError("the schema's bounds leave no number")
    return value


def _within(value: float, schema: Schema) -> bool:
    return (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
        and ("exclusiveMinimum" not in schema or schema["exclusiveMinimum"] < value)
        and ("exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"])
    )
