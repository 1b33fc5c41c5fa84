"""What makes a plan valid, checked before anything runs; every problem at once, each with its path (T2).

A plan comes from a person, a file or a model; none of them is trusted. `problems` says what is wrong in words that a
model can repair from, `read_proposal` turns a model's JSON into tasks and gates without ever raising.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from agentd.core.outputs import schema_problem
from agentd.core.problem import Problem
from agentd.protocol.facts import FailPolicy, Invariant, Merge, PlanGate, PlanGroup, PlanTask, TaskKind

RESERVED = frozenset({"answer", "planning"})
ID_CHARS_MAX = 64
TEXT_CHARS_MAX = 8_192
DELAY_S_MAX = 86_400.0
INVARIANTS_MAX = 32


class Proposal(msgspec.Struct, frozen=True):
    """A plan as somebody proposes it."""

    tasks: tuple[PlanTask, ...]
    gates: tuple[PlanGate, ...] = ()
    groups: tuple[PlanGroup, ...] = ()
    fail_policy: FailPolicy = "stop_all"


# ---- what a model may say --------------------------------------------------------------------------------------


class ProposedTask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The part of a task that a model decides; effects, retries and permissions are not its to give."""

    id: str
    title: str
    prompt: str = ""
    kind: TaskKind = "model"
    depends_on: tuple[str, ...] = ()
    tool: str | None = None
    input: dict[str, Any] | None = None
    question: str | None = None
    delay_s: float | None = None
    need: int | None = None
    output: str | None = None
    merge: Merge | None = None
    schema: dict[str, Any] | None = None
    invariants: tuple[Invariant, ...] = ()


class ProposedGate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    title: str
    depends_on: tuple[str, ...] = ()


class ProposedPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tasks: tuple[ProposedTask, ...]
    gates: tuple[ProposedGate, ...] = ()


SCHEMA: dict[str, Any] = msgspec.json.schema(ProposedPlan)
_plans = msgspec.json.Decoder(ProposedPlan)


def read_proposal(text: str, tasks_max: int, tools: Iterable[str] = ()) -> tuple[Proposal | None, tuple[Problem, ...]]:
    """A model's words as a plan, or what is wrong with them. Prose around one JSON object is forgiven."""
    begin, end = text.find("{"), text.rfind("}")
    if begin < 0 or end < begin:
        return None, (Problem("$", "there is no JSON object"),)
    try:
        plan = _plans.decode(text[begin : end + 1])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        what, _, path = str(error).partition(" - at `")
        return None, (Problem(path.rstrip("`") or "$", what),)
    known = frozenset(tools)
    proposal = Proposal(
        tasks=tuple(_task(task, known) for task in plan.tasks),
        gates=tuple(
            PlanGate(id=gate.id, title=gate.title, depends_on=gate.depends_on, status="pending") for gate in plan.gates
        ),
    )
    found = problems(proposal, tasks_max, known)
    return (None, found) if found else (proposal, ())


def _task(task: ProposedTask, tools: frozenset[str]) -> PlanTask:
    return PlanTask(
        id=task.id,
        title=task.title,
        kind=task.kind,
        depends_on=task.depends_on,
        status="pending",
        prompt=task.prompt or None,
        tool=task.tool,
        tools=tuple(sorted(tools)) if task.kind == "model" else (),
        input=task.input,
        question=task.question,
        delay_s=task.delay_s,
        need=task.need,
        output=task.output,
        merge=task.merge,
        schema=task.schema,
        invariants=task.invariants,
    )


# ---- what makes a plan valid -------------------------------------------------------------------------------------


def problems(plan: Proposal, tasks_max: int, tools: frozenset[str] | None = None) -> tuple[Problem, ...]:
    """Everything that is wrong; empty for a valid plan. `tools`: those that may be named, None: any."""
    found: list[Problem] = []
    if not plan.tasks:
        found.append(Problem("$.tasks", "a plan has at least one task"))
    if len(plan.tasks) + len(plan.gates) > tasks_max:
        many = f"{len(plan.tasks)} tasks and {len(plan.gates)} gates are more than {tasks_max}"
        return (*found, Problem("$.tasks", many))
    found.extend(_ids(plan))
    found.extend(_edges(plan))
    for place, task in enumerate(plan.tasks):
        found.extend(_kind(task, f"$.tasks[{place}]", tools, plan))
    found.extend(_writers(plan))
    if not found:
        found.extend(_shape(plan))
    return tuple(found)


def _nodes(plan: Proposal) -> list[tuple[str, PlanTask | PlanGate]]:
    tasks: list[tuple[str, PlanTask | PlanGate]] = [(f"$.tasks[{n}]", task) for n, task in enumerate(plan.tasks)]
    return tasks + [(f"$.gates[{n}]", gate) for n, gate in enumerate(plan.gates)]


def _ids(plan: Proposal) -> list[Problem]:
    found, seen = [], set[str]()
    for path, node in _nodes(plan):
        if not node.id or len(node.id) > ID_CHARS_MAX or node.id in RESERVED:
            found.append(Problem(f"{path}.id", f"{node.id!r} is no id: 1 to {ID_CHARS_MAX} characters, not reserved"))
        elif node.id in seen:
            found.append(Problem(f"{path}.id", f"the id {node.id} is used twice"))
        seen.add(node.id)
        if not node.title or len(node.title) > TEXT_CHARS_MAX:
            found.append(Problem(f"{path}.title", f"a title has 1 to {TEXT_CHARS_MAX} characters"))
    return found


def _edges(plan: Proposal) -> list[Problem]:
    known = {node.id for _, node in _nodes(plan)}
    found = []
    for path, node in _nodes(plan):
        for dep in node.depends_on:
            if dep not in known:
                found.append(Problem(f"{path}.depends_on", f"there is no {dep}; there are {_listed(known)}"))
        if len(set(node.depends_on)) < len(node.depends_on):
            found.append(Problem(f"{path}.depends_on", "a dependency is named twice"))
    return found


def _kind(task: PlanTask, path: str, tools: frozenset[str] | None, plan: Proposal) -> list[Problem]:
    """What its kind needs, and what it may not have."""
    found: list[Problem] = []
    if task.kind == "tool" and (task.tool is None or (tools is not None and task.tool not in tools)):
        found.append(Problem(f"{path}.tool", f"there is no tool {task.tool}; there are {_listed(tools or ())}"))
    if task.kind == "delay" and not (task.delay_s is not None and 0 <= task.delay_s <= DELAY_S_MAX):
        found.append(Problem(f"{path}.delay_s", f"a delay has 0 to {DELAY_S_MAX:.0f} seconds"))
    if task.kind == "switch":
        found.extend(_cases(task, path, plan))
    if task.need is not None and (task.kind != "join" or not 0 <= task.need <= len(task.depends_on)):
        found.append(Problem(f"{path}.need", "`need` belongs to a join and is at most its dependencies"))
    if task.kind in ("join", "switch") and not task.depends_on:
        found.append(Problem(f"{path}.depends_on", f"a {task.kind} depends on something"))
    found.extend(_output(task, path))
    return found


def _output(task: PlanTask, path: str) -> list[Problem]:
    """A schema and invariants belong to what is written by a model or a person, and can be used."""
    found: list[Problem] = []
    if task.schema is not None:
        wrong = schema_problem(task.schema)
        if task.kind not in ("model", "question"):
            found.append(Problem(f"{path}.schema", f"a {task.kind} task has no schema: what it brings is given"))
        elif wrong is not None:
            found.append(Problem(f"{path}.schema", wrong))
    if task.invariants and task.kind != "model":
        found.append(Problem(f"{path}.invariants", "invariants belong to a model task"))
    if len(task.invariants) > INVARIANTS_MAX:
        found.append(Problem(f"{path}.invariants", f"at most {INVARIANTS_MAX} invariants"))
    return found


def _cases(task: PlanTask, path: str, plan: Proposal) -> list[Problem]:
    behind = {other.id for other in plan.tasks if task.id in other.depends_on}
    named = [name for case in task.cases for name in case.then] + list(task.otherwise)
    wrong = [name for name in named if name not in behind]
    found = [Problem(f"{path}.cases", f"{name} does not depend on the switch {task.id}") for name in wrong]
    return found if task.cases else [*found, Problem(f"{path}.cases", "a switch has at least one case")]


def _writers(plan: Proposal) -> list[Problem]:
    """Two tasks that write one key say how they are merged, or the order of ends would decide (L10)."""
    writers: dict[str, list[PlanTask]] = {}
    for task in plan.tasks:
        if task.output is not None:
            writers.setdefault(task.output, []).append(task)
    return [
        Problem("$.tasks", f"{_listed(task.id for task in tasks)} write {key} without a merge rule")
        for key, tasks in writers.items()
        if len(tasks) > 1 and any(task.merge is None for task in tasks)
    ]


def _shape(plan: Proposal) -> list[Problem]:
    """Cycles, named; ids and edges are known to be good."""
    edges = {node.id: node.depends_on for _, node in _nodes(plan)}
    sound = set(_layers(edges))
    if len(sound) == len(edges):
        return []
    cycle = _cycle({name: deps for name, deps in edges.items() if name not in sound})
    return [Problem("$.tasks", "these wait for each other: " + " -> ".join(cycle))]


def _layers(edges: Mapping[str, Sequence[str]]) -> Iterable[str]:
    """Names in an order in which each comes after what it depends on; those on a cycle never come."""
    left = {name: len(deps) for name, deps in edges.items()}
    behind: dict[str, list[str]] = {}
    for name, deps in edges.items():
        for dep in deps:
            behind.setdefault(dep, []).append(name)
    ready = [name for name, count in left.items() if not count]
    while ready:
        name = ready.pop()
        yield name
        for other in behind.get(name, ()):
            left[other] -= 1
            if not left[other]:
                ready.append(other)


def _cycle(edges: Mapping[str, Sequence[str]]) -> list[str]:
    """One cycle of a graph in which everything waits: follow dependencies until a name comes again."""
    path = [next(iter(edges))]
    while True:
        following = next(dep for dep in edges[path[-1]] if dep in edges)
        if following in path:
            return [*path[path.index(following) :], following]
        path.append(following)


def _listed(names: Iterable[str]) -> str:
    some = sorted(names)
    return ", ".join(some[:20]) + (" …" if len(some) > 20 else "") if some else "none"
