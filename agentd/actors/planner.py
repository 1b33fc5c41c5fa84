"""The primary brain: a goal in words becomes a plan, proposed to the session as a command. It keeps nothing.

With a model the plan is asked for against a schema; what does not hold is sent back with its errors, at most
`ASKS_MAX` times in all, each answer checked again. When none holds, or there is no model, the rules make the plan, and
say so.
"""

import msgspec
import structlog

from agentd.actors.repair import repair, shown
from agentd.actors.shared import Shared
from agentd.core import intents as i
from agentd.core.evidence import enclose
from agentd.core.graph import added
from agentd.core.plan import SCHEMA, Proposal, read_proposal
from agentd.core.planning import split_goal
from agentd.core.state import Run
from agentd.protocol import facts as f
from agentd.protocol.errors import ProviderError
from agentd.providers.provider import Events, Message, ModelRequest
from agentd.tools.builtin import BUILTIN

ASKS_MAX = 3
# Kinds of failure that another provider call would meet again: planning on would only hide them.
HARD = frozenset({"auth", "network", "unavailable", "rate_limit", "timeout"})

ASK = (
    "Make a plan for the goal below: tasks that can be done by a worker that sees the goal, its own prompt and the "
    "results of the tasks it depends on. Tasks without dependencies run at the same time. Answer with one JSON object "
    "of this schema and nothing else:\n"
)

log = structlog.get_logger(__name__)


async def propose(shared: Shared, run: Run, attempt: int, by: f.By, events: Events) -> i.PlanProposed:
    """A plan for the run's goal. Raises ProviderError only by way of a failure in the proposal."""
    goal = i.goal_of(run.content)
    told: list[tuple[str, str]] = []
    usage = None
    if not shared.provider.offline:
        try:
            plan, usage = await _asked(shared, goal, events, told)
        except ProviderError as error:
            if error.kind in HARD:
                cause = f.Cause(code="provider_error", kind=error.kind, message=error.message, hint=error.hint)
                return i.PlanProposed(by=by, run=run.id, attempt=attempt, failure=cause, told=tuple(told))
            plan = None
            told.append(("planner_fallback", f"the model refused to plan ({error.kind}); the rules made the plan"))
        if plan is not None:
            return i.PlanProposed(
                by=by, run=run.id, attempt=attempt, goal=goal, tasks=plan.tasks, gates=plan.gates, groups=plan.groups,
                fail_policy=plan.fail_policy, told=tuple(told), usage=usage,
            )  # fmt: skip
    tasks, cut = by_rules(goal, shared.caps.tasks_per_plan)
    told.extend(("plan_cut", text) for text in cut)
    return i.PlanProposed(by=by, run=run.id, attempt=attempt, goal=goal, tasks=tasks, told=tuple(told), usage=usage)


def by_rules(goal: str, tasks_max: int) -> tuple[tuple[f.PlanTask, ...], tuple[str, ...]]:
    """A task for each part that a person would name; what did not fit as it stood is told."""
    draft = split_goal(goal, tasks_max)
    tasks = tuple(
        f.PlanTask(
            id=f"t{number}",
            title=part.title,
            kind="model",
            prompt=part.prompt,
            status="pending",
            depends_on=tuple(f"t{other + 1}" for other in part.depends_on),
            tools=tuple(sorted(BUILTIN)),
        )
        for number, part in enumerate(draft.tasks, 1)
    )
    return tasks, draft.told


async def _asked(
    shared: Shared, goal: str, events: Events, told: list[tuple[str, str]]
) -> tuple[Proposal | None, f.Usage]:
    """Ask, check, repair."""
    first = Message(role="user", content=ASK + msgspec.json.encode(SCHEMA).decode() + "\n\n" + enclose("goal", goal))
    messages: tuple[Message, ...] = (first,)
    usage = f.Usage()
    for ask in range(1, ASKS_MAX + 1):
        request = ModelRequest(messages=messages, purpose="planning", schema=SCHEMA)
        reply = await shared.provider.complete(request, events)
        usage = added(usage, reply.usage)
        plan, found = read_proposal(reply.content, shared.caps.tasks_per_plan, BUILTIN)
        if plan is not None:
            return plan, usage
        told.append(("output_invalid", f"plan {ask} of at most {ASKS_MAX}: {shown(found)}"))
        messages = (first, *repair(reply.content, found, f"Tools that may be named: {', '.join(sorted(BUILTIN))}. "))
    told.append(("planner_fallback", f"no valid plan in {ASKS_MAX} asks; the rules made the plan"))
    return None, usage
