"""`agentd goal`: a planned run, with its plan, its tasks as they happen, and the answer."""

from typing import Annotated, Literal

from cyclopts import Parameter

from agentd.cli.address import DEFAULT_AGENT, NOWHERE, Where
from agentd.cli.chat import Agent, Json, Session
from agentd.cli.conversation import Conversation, hold
from agentd.cli.failure import USAGE, Failure


def goal(
    text: Annotated[str, Parameter(help="The goal, in words.")],
    /,
    *,
    wait: Annotated[bool, Parameter(help="Wait for the answer, or only until it is accepted.")] = True,
    overflow: Annotated[
        Literal["defer", "drop"] | None,
        Parameter(help="What becomes of tasks beyond the dispatch cap. [default: the server's]"),
    ] = None,
    session: Session = None,
    agent: Agent = DEFAULT_AGENT,
    json: Json = False,
    where: Where = NOWHERE,
) -> int:
    """Have a goal planned, worked on and answered."""
    if not text.strip():
        raise Failure("there is no goal", 'Say what is wanted: agentd goal "..."', code=USAGE)
    frame = {"type": "agent.control", "action": "goal", "goal": text}
    if overflow is not None:
        frame["overflow"] = overflow

    async def once(conversation: Conversation) -> int:
        return await conversation.turn(frame, wait=wait)

    return hold(where, agent, session, once, json=json)
