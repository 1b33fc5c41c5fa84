"""What makes a plan valid: every problem at once, each with its path (T2)."""

from typing import Any

import msgspec
import pytest

from agentd.core.plan import TEXT_CHARS_MAX, Proposal, problems, read_proposal
from agentd.protocol import facts as f
from tests.core.shell import gate, model, task

TOOLS = frozenset({"text"})
BAD: list[tuple[Proposal, str, str]] = [
    (Proposal(tasks=()), "$.tasks", "at least one task"),
    (Proposal(tasks=(model("a"), model("a"))), "$.tasks[1].id", "used twice"),
    (Proposal(tasks=(model("answer"),)), "$.tasks[0].id", "no id"),
    (Proposal(tasks=(model(""),)), "$.tasks[0].id", "no id"),
    (Proposal(tasks=(model("a" * 65),)), "$.tasks[0].id", "no id"),
    (Proposal(tasks=(model("a"),), gates=(gate("a"),)), "$.gates[0].id", "used twice"),
    (Proposal(tasks=(f.PlanTask(id="a", title="", kind="model", depends_on=(), status="pending"),)), "$.tasks[0].title",
     f"1 to {TEXT_CHARS_MAX}"),
    (Proposal(tasks=(model("a", "z"),)), "$.tasks[0].depends_on", "there is no z"),
    (Proposal(tasks=(model("a"), model("b", "a", "a"))), "$.tasks[1].depends_on", "named twice"),
    (Proposal(tasks=(task("tool", "a", tool="rm"),)), "$.tasks[0].tool", "there is no tool rm"),
    (Proposal(tasks=(task("tool", "a"),)), "$.tasks[0].tool", "there is no tool None"),
    (Proposal(tasks=(task("delay", "a"),)), "$.tasks[0].delay_s", "0 to 86400"),
    (Proposal(tasks=(task("delay", "a", delay_s=-1.0),)), "$.tasks[0].delay_s", "0 to 86400"),
    (Proposal(tasks=(model("a"), task("join", "j", "a", need=2))), "$.tasks[1].need", "at most its dependencies"),
    (Proposal(tasks=(model("a", need=1),)), "$.tasks[0].need", "belongs to a join"),
    (Proposal(tasks=(task("join", "j"),)), "$.tasks[0].depends_on", "a join depends on something"),
    (Proposal(tasks=(model("a"), task("switch", "s", "a"))), "$.tasks[1].cases", "at least one case"),
    (Proposal(tasks=(model("a"), task("switch", "s", "a", cases=(f.Case(match="x", then=("a",)),)))),
     "$.tasks[1].cases", "a does not depend on the switch s"),
    (Proposal(tasks=(model("a", "b"), model("b", "a"))), "$.tasks", "wait for each other"),
    (Proposal(tasks=(model("a", "g"),), gates=(gate("g", "a"),)), "$.tasks", "wait for each other"),
    (Proposal(tasks=(model("a", output="k"), model("b", output="k"))), "$.tasks", "without a merge rule"),
    (Proposal(tasks=(task("tool", "a", tool="text", schema={}),)), "$.tasks[0].schema", "has no schema"),
    (Proposal(tasks=(model("a", schema={"type": 7}),)), "$.tasks[0].schema", "no JSON Schema"),
    (Proposal(tasks=(task("tool", "a", tool="text", schema={"type": 7}),)), "$.tasks[0].schema", "has no schema"),
    (Proposal(tasks=(task("delay", "a", delay_s=1.0, invariants=(f.Invariant(path="$.x", op="exists"),)),)),
     "$.tasks[0].invariants", "belong to a model task"),
    (Proposal(tasks=(model("a", invariants=(f.Invariant(path="$.x", op="exists"),) * 40),)), "$.tasks[0].invariants",
     "at most 32"),
]  # fmt: skip


@pytest.mark.parametrize(("plan", "path", "message"), BAD, ids=[f"{path} {message}" for _, path, message in BAD])
def test_what_is_wrong_is_told_with_its_path(plan: Proposal, path: str, message: str) -> None:
    found = problems(plan, 10, TOOLS)
    assert [one.path for one in found if message in one.message] == [path], found


def test_every_problem_is_told_at_once() -> None:
    plan = Proposal(tasks=(model("a", "z"), task("delay", "b"), model("b")))
    assert len(problems(plan, 10)) == 3


def test_a_cycle_is_named() -> None:
    plan = Proposal(tasks=(model("start"), model("a", "start", "c"), model("b", "a"), model("c", "b")))
    (found,) = problems(plan, 10)
    assert found.message.count("->") == 3


def test_a_plan_over_the_limit_is_told_with_its_figures() -> None:
    plan = Proposal(tasks=tuple(model(f"t{n}") for n in range(11)))
    assert [one.message for one in problems(plan, 10)] == ["11 tasks and 0 gates are more than 10"]


def test_a_good_plan_has_no_problem() -> None:
    way = (f.Case(match="x", then=("c",)),)
    plan = Proposal(tasks=(model("a"), task("switch", "s", "a", cases=way), model("c", "s"), model("d", "g")),
                    gates=(gate("g", "a"),))  # fmt: skip
    assert not problems(plan, 10)


@pytest.mark.parametrize("text", ["", "no", "}{", '{"tasks": 7}', '{"tasks": [{}]}', "[" * 5_000, '{"tasks": [}'])
def test_a_model_s_words_never_raise(text: Any) -> None:
    plan, found = read_proposal(text, 10)
    assert plan is None
    assert found


GOOD = {
    "tasks": [
        {"id": "a", "title": "A", "prompt": "do a", "output": "k", "schema": {"type": "object"},
         "invariants": [{"path": "$.x", "op": "exists"}]},
        {"id": "t", "title": "T", "kind": "tool", "tool": "text", "input": {"x": 1}, "depends_on": ["a", "g"]},
        {"id": "q", "title": "Q", "kind": "question", "question": "sure?", "schema": {"type": "boolean"}},
        {"id": "j", "title": "J", "kind": "join", "depends_on": ["t", "q"], "need": 1},
        {"id": "d", "title": "D", "kind": "delay", "delay_s": 2.5, "depends_on": ["j"]},
    ],
    "gates": [{"id": "g", "title": "G", "depends_on": ["a"]}],
}  # fmt: skip


def test_a_model_s_json_is_a_plan_also_with_prose_around_it() -> None:
    """What a task may have from a model is taken; every model task may use the tools there are, and only those."""
    text = "Here is the plan:\n```json\n" + msgspec.json.encode(GOOD).decode() + "\n```\nShall I start?"
    plan, found = read_proposal(text, 10, TOOLS)
    assert found == ()
    assert plan is not None
    assert not problems(plan, 10, TOOLS)
    a, t, q, j, d = plan.tasks
    assert (a.kind, a.prompt, a.output, a.tools, a.schema) == ("model", "do a", "k", ("text",), {"type": "object"})
    assert a.invariants == (f.Invariant(path="$.x", op="exists"),)
    assert (t.tool, t.input, t.depends_on, t.tools, t.prompt) == ("text", {"x": 1}, ("a", "g"), (), None)
    assert (q.question, j.need, d.delay_s) == ("sure?", 1, 2.5)
    assert plan.gates == (f.PlanGate(id="g", title="G", depends_on=("a",), status="pending"),)
    assert {one.status for one in plan.tasks} == {"pending"}
    assert (plan.fail_policy, plan.groups) == ("stop_all", ())


@pytest.mark.parametrize(
    ("change", "path", "message"),
    [
        ({"tasks": [{"id": "a", "title": "A", "effect": "none"}]}, "$.tasks[0]", "unknown field"),
        ({"tasks": [{"id": "a", "title": "A", "retry": {"attempts": 99}}]}, "$.tasks[0]", "unknown field"),
        ({"tasks": [{"id": "a", "title": "A", "kind": "shell"}]}, "$.tasks[0].kind", "Invalid enum value"),
        ({"tasks": [{"id": "a", "title": "A", "input": "x"}]}, "$.tasks[0].input", "Expected `object | null`"),
        ({"tasks": []}, "$.tasks", "at least one task"),
        ({"tasks": [{"id": "t", "title": "T", "kind": "tool", "tool": "rm"}]}, "$.tasks[0].tool", "no tool rm"),
    ],
)  # fmt: skip
def test_what_a_model_may_not_say_is_told_with_its_place(change: Any, path: str, message: str) -> None:
    """Effects, retries and permissions are not a model's to give (L13)."""
    plan, (found,) = read_proposal(msgspec.json.encode(change).decode(), 10, TOOLS)
    assert plan is None
    assert found.path == path
    assert message in found.message
