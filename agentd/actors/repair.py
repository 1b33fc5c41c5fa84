"""Output that a model was asked for in a form: read, and sent back with what is wrong with it when it does not hold.

The packet is data: the errors with their paths, the output they are about between marks, the schema. The planner and
the workers repair in the same way; how often is theirs to say.
"""

from typing import Any

import msgspec

from agentd.core.evidence import enclose
from agentd.core.outputs import read_output
from agentd.core.problem import Problem
from agentd.protocol import facts as f
from agentd.providers.provider import Message

PREVIOUS_CHARS_MAX = 8_000
PROBLEMS_SHOWN = 20


def structured(content: str, spec: f.PlanTask) -> tuple[Any, tuple[Problem, ...]]:
    """What a task brought, as the value that its plan asks for; free text where it asks for none."""
    if spec.schema is None and not spec.invariants:
        return content, ()
    return read_output(content, spec.schema, spec.invariants)


def asked_for(spec: f.PlanTask) -> str | None:
    """What a model is told of the form that its output has to have."""
    if spec.schema is None and not spec.invariants:
        return None
    schema = msgspec.json.encode(spec.schema if spec.schema is not None else {}).decode()
    rules = "; ".join(f"{rule.path} {rule.op} {_right(rule)}".rstrip() for rule in spec.invariants)
    return f"Answer with one JSON value of this schema and nothing else: {schema}" + (
        f"\nAlso: {rules}" if rules else ""
    )


def _right(rule: f.Invariant) -> str:
    if rule.op == "exists":
        return ""
    return rule.other if rule.other is not None else msgspec.json.encode(rule.value).decode()


def repair(previous: str, wrong: tuple[Problem, ...], allowed: str = "") -> tuple[Message, ...]:
    """The next message to a model whose output did not hold. `allowed`: ids that it may name, in a sentence."""
    errors = msgspec.json.encode([msgspec.structs.asdict(one) for one in wrong[:PROBLEMS_SHOWN]]).decode()
    quoted = enclose("previous output", previous[:PREVIOUS_CHARS_MAX])
    text = f"This does not hold. Errors: {errors}\n\n{quoted}\n\n{allowed}Answer again, in the form asked for above."
    return (Message(role="user", content=text),)


def shown(wrong: tuple[Problem, ...]) -> str:
    """The first problems in a line, for a warning."""
    return "; ".join(f"{one.path}: {one.message}" for one in wrong[:3])[:1_000]


def invalid_cause(spec: f.PlanTask, wrong: tuple[Problem, ...]) -> f.Cause:
    return f.Cause(
        code="output_invalid", kind="malformed_output", task=spec.id, message=f"no valid output: {shown(wrong)}",
        hint="Make the task's schema easier to meet, or its prompt clearer; the warnings show every try.",
    )  # fmt: skip
