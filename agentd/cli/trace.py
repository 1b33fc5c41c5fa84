"""`agentd trace`: the facts of one run as they stand in the log, byte for byte, one a line."""

import sys
from typing import Annotated

import msgspec
from cyclopts import Parameter

from agentd.cli.address import DEFAULT_AGENT, NOWHERE, Where
from agentd.cli.chat import Agent
from agentd.cli.client import Client, Frame
from agentd.cli.connection import ask_server
from agentd.cli.failure import DONE
from agentd.cli.screen import one_line


class _Page(msgspec.Struct):
    events: tuple[msgspec.Raw, ...]


_pages = msgspec.json.Decoder(_Page)


def trace(
    run: Annotated[str, Parameter(help="The run.")],
    /,
    *,
    session: Annotated[str | None, Parameter(help="Its session; needed with a token that is no operator's.")] = None,
    agent: Agent = DEFAULT_AGENT,
    where: Where = NOWHERE,
) -> int:
    """Write the facts of a run to stdout, one JSON object a line, as the log holds them."""

    async def work(client: Client) -> Frame:
        request = await client.send({"type": "trace.get", "run": run})
        while True:
            frame = await client.reply_to(request)
            if frame.type == "trace.end":
                return frame
            for body in _pages.decode(frame.raw).events:
                sys.stdout.buffer.write(bytes(body) + b"\n")

    end = ask_server(where, work, agent=agent, session=session)
    sys.stdout.buffer.flush()
    for problem in end["problems"]:
        print(f"not well formed: {one_line(problem)}", file=sys.stderr)
    return DONE
