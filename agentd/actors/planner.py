"""The primary brain: a goal in words becomes a plan, proposed to the session as a command. It keeps nothing."""

import structlog

from agentd.actors.shared import Shared
from agentd.core import intents as i
from agentd.core.planning import split_goal
from agentd.core.state import Run
from agentd.protocol import facts as f

log = structlog.get_logger(__name__)


async def propose(shared: Shared, run: Run, attempt: int, by: f.By) -> i.PlanProposed:
    """A plan for the run's goal, by rules: a task for each part that a person would name."""
    goal = i.goal_of(run.content)
    draft = split_goal(goal, shared.caps.tasks_per_plan)
    tasks = tuple(
        f.PlanTask(
            id=f"t{number}", title=part.title, kind="model", prompt=part.prompt, status="pending",
            depends_on=tuple(f"t{other + 1}" for other in part.depends_on),
        )
        for number, part in enumerate(draft.tasks, 1)
    )  # fmt: skip
    return i.PlanProposed(by=by, run=run.id, attempt=attempt, goal=goal, tasks=tasks, told=draft.told)
