"""What a task has to bring: a JSON Schema, and rules across fields; every problem at once, each with its path (L9).

A schema comes from a plan, so from a person or a model: it is checked before the plan runs, it may refer only to
itself (a reference is never fetched), and it is bounded. Problems are words that a model can repair from.
"""

import operator
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import msgspec

from agentd.core.problem import Problem
from agentd.protocol.facts import Invariant

SCHEMA_BYTES_MAX = 16 * 1024
SCHEMA_DEPTH_MAX = 32
PROBLEMS_MAX = 20
MESSAGE_CHARS_MAX = 300
_ABSENT = object()

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda one, other: one in other,
}


def schema_problem(schema: dict[str, Any]) -> str | None:
    """Why this schema can't be used, in a sentence; None when it can."""
    if len(msgspec.json.encode(schema)) > SCHEMA_BYTES_MAX:
        return f"the schema has more than {SCHEMA_BYTES_MAX} bytes"
    walked = _walked(schema, 0)
    if walked is not None:
        return walked
    try:
        jsonschema_rs.validator_for(schema)
    except (jsonschema_rs.ValidationError, ValueError) as error:
        return f"this is no JSON Schema: {str(error).splitlines()[0][:MESSAGE_CHARS_MAX]}"
    return None


def _walked(value: Any, depth: int) -> str | None:
    if depth > SCHEMA_DEPTH_MAX:
        return f"the schema has more than {SCHEMA_DEPTH_MAX} levels"
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("$ref", "$dynamicRef") and isinstance(inner, str) and not inner.startswith("#"):
                return f"{key} {inner[:100]} leaves the schema; only references that begin with # are followed"
            found = _walked(inner, depth + 1)
            if found is not None:
                return found
    elif isinstance(value, list):
        return next((found for inner in value if (found := _walked(inner, depth + 1)) is not None), None)
    return None


def read_output(
    text: str, schema: dict[str, Any] | None, invariants: tuple[Invariant, ...]
) -> tuple[Any, tuple[Problem, ...]]:
    """A model's words as the value that was asked for, or what is wrong with them. A fence around the JSON and prose
    before and after it are forgiven."""
    value = _parsed(text)
    if value is _ABSENT:
        return None, (Problem("$", "this is not one JSON value"),)
    return value, output_problems(value, schema, invariants)


def _parsed(text: str) -> Any:
    """The JSON value that the text is, else the one that it holds between its outermost brackets."""
    places = [place for place in (text.find("{"), text.find("[")) if place >= 0]
    begin, end = min(places, default=0), max(text.rfind("}"), text.rfind("]")) + 1
    for some in (text, text[begin:end]):
        try:
            return msgspec.json.decode(some)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            continue
    return _ABSENT


def output_problems(
    value: Any, schema: dict[str, Any] | None, invariants: tuple[Invariant, ...] = ()
) -> tuple[Problem, ...]:
    """Everything that is wrong with `value`, at most `PROBLEMS_MAX`; empty when it holds."""
    found: list[Problem] = []
    if schema is not None:
        for error in jsonschema_rs.validator_for(schema).iter_errors(value):
            path = "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path)
            found.append(Problem(path, error.message[:MESSAGE_CHARS_MAX]))
            if len(found) == PROBLEMS_MAX:
                return tuple(found)
    found.extend(problem for rule in invariants if (problem := _broken(value, rule)) is not None)
    return tuple(found[:PROBLEMS_MAX])


def _broken(value: Any, rule: Invariant) -> Problem | None:
    left = _at(value, rule.path)
    if left is _ABSENT:
        return Problem(rule.path, "there is no such field, and the task has to bring it")
    if rule.op == "exists":
        return None
    right = rule.value if rule.other is None else _at(value, rule.other)
    said = msgspec.json.encode(rule.value).decode() if rule.other is None else rule.other
    if right is _ABSENT:
        return Problem(str(rule.other), f"there is no such field, and {rule.path} is compared with it")
    try:
        holds = bool(_COMPARE[rule.op](left, right))
    except TypeError:
        return Problem(rule.path, f"{rule.path} {rule.op} {said} compares what can't be compared")
    return None if holds else Problem(rule.path, f"{rule.path} {rule.op} {said} does not hold"[:MESSAGE_CHARS_MAX])


def _at(value: Any, path: str) -> Any:
    """The part of `value` that a path like `$.a.b[2]` names; `#` at its end is the length of a list, text or object."""
    counted = path.endswith("#")
    for part in path.removesuffix("#").removeprefix("$").replace("[", ".").replace("]", "").split("."):
        if part == "":
            continue
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return _ABSENT
    if counted:
        return len(value) if isinstance(value, str | list | dict) else _ABSENT
    return value
