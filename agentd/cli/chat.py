"""`agentd chat`: one turn, or one after the other until /quit or the end of the input."""

import sys
from typing import Annotated

from cyclopts import Parameter

from agentd.cli.address import DEFAULT_AGENT, NOWHERE, Where
from agentd.cli.conversation import Conversation, hold
from agentd.cli.failure import DENIED, DONE, UNREACHABLE, USAGE, Failure, told
from agentd.cli.lines import Lines

TEXT_BYTES_MAX = 16 << 20  # the most that limits.chat_bytes can be set to
HELP = "/quit leaves, /new begins anew, /goal TEXT plans; Ctrl-C cancels what runs"

Session = Annotated[str | None, Parameter(help="The session. [default: the command line's own, cli]")]
Agent = Annotated[str, Parameter(help="The agent that a new session belongs to.")]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON instead of text.")]


def chat(
    text: Annotated[str | None, Parameter(help="What to say.")] = None,
    /,
    *,
    stdin: Annotated[bool, Parameter(negative="", help="Say what standard input holds, as one message.")] = False,
    wait: Annotated[bool, Parameter(help="Wait for the answer, or only until it is accepted.")] = True,
    session: Session = None,
    agent: Agent = DEFAULT_AGENT,
    json: Json = False,
    where: Where = NOWHERE,
) -> int:
    """Say something, or talk until /quit."""
    if text is not None and stdin:
        raise Failure("there are two texts to say", "Leave out the one, or --stdin.", code=USAGE)
    if text is None and not stdin:
        return hold(where, agent, session, _talk, json=json, all_runs=True)
    content = text if text is not None else _standard_input()
    if not content.strip():
        raise Failure("there is nothing to say", "Give a text, or leave it out to talk.", code=USAGE)

    async def once(conversation: Conversation) -> int:
        return await conversation.turn({"type": "chat.send", "content": content}, wait=wait)

    return hold(where, agent, session, once, json=json)


def _standard_input() -> str:
    data = sys.stdin.buffer.read(TEXT_BYTES_MAX + 1)
    if len(data) > TEXT_BYTES_MAX:
        raise Failure("standard input is too long for one message", f"At most {TEXT_BYTES_MAX} bytes.", code=USAGE)
    return data.decode(errors="replace")


async def _talk(conversation: Conversation) -> int:
    lines = Lines(sys.stdin.fileno())
    person = sys.stdin.isatty()
    if person:
        ack = conversation.client.ack
        conversation.screen.note(
            f"agentd {ack['server']['version']}, {ack['provider']['name']}, session {ack['session']}; {HELP}"
        )
    code = DONE
    while True:
        if person:
            print("> ", end="", file=sys.stderr, flush=True)
        line = await conversation.listen_until(lines.next())
        match line.strip() if line is not None else None:
            case None | "/quit" | "/exit":
                return code
            case "":
                continue
            case "/help":
                conversation.screen.note(HELP)
            case said:
                code = await _said(conversation, said)


async def _said(conversation: Conversation, text: str) -> int:
    """One turn. What is wrong with it alone is told, and the talk goes on."""
    try:
        return await conversation.turn({"type": "chat.send", "content": text}, wait=True)
    except Failure as failure:
        if failure.code in (UNREACHABLE, DENIED):
            raise
        return told(failure)
