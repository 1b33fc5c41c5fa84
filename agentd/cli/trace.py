"""`agentd trace`: the facts of one run as they stand in the log, byte for byte, one a line; live; or checked.

A check reads line by line and keeps only what is open, so a file may be of any size. It judges here, with the rules of
this version, what a file or the server's log says.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import msgspec
from cyclopts import Parameter

from agentd.cli.address import DEFAULT_AGENT, NOWHERE, Where, find
from agentd.cli.chat import Agent
from agentd.cli.client import Client, Frame
from agentd.cli.connection import ask_server
from agentd.cli.download import BrokenOff, opened
from agentd.cli.failure import DONE, FAILED, USAGE, Failure
from agentd.cli.following import follow as followed
from agentd.cli.screen import one_line
from agentd.core.export import LINE_BYTES_MAX
from agentd.core.trace_lines import Finding, LineChecker

Readline = Callable[[int], bytes]


class _Page(msgspec.Struct):
    events: tuple[msgspec.Raw, ...]


_pages = msgspec.json.Decoder(_Page)


def trace(
    run: Annotated[str, Parameter(help="The run; with --check also a file, such as /dev/stdin.")],
    /,
    *,
    check: Annotated[
        bool, Parameter(negative="", help="Say whether it is well formed; exit 1 when it is not.")
    ] = False,
    follow: Annotated[bool, Parameter(negative="", help="Go on with what happens, until the run has ended.")] = False,
    session: Annotated[str | None, Parameter(help="Its session; needed with a token that is no operator's.")] = None,
    agent: Agent = DEFAULT_AGENT,
    where: Where = NOWHERE,
) -> int:
    """Write the facts of a run to stdout, one JSON object a line, as the log holds them."""
    if check and follow:
        raise Failure("--check and --follow do not go together", "Check the run when it has ended.", code=USAGE)
    if check:
        return _checked(run, where)
    if follow:
        return _followed(run, where)

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


def _followed(run: str, where: Where) -> int:
    for event in followed(lambda: find(where, os.environ), f"/v1/runs/{quote(run, safe='')}/events"):
        if event.id is not None:
            sys.stdout.buffer.write(event.data + b"\n")
            sys.stdout.buffer.flush()
        elif event.type == "stream.opened" and b'"reset"' in event.data:
            print("the server began the trace anew; what came before is not part of it", file=sys.stderr)
    return DONE


def _checked(name: str, where: Where) -> int:
    """A file of that name, else the run."""
    path = Path(name)
    checker = LineChecker()
    try:
        if path.exists() and not path.is_dir():  # a pipe too, such as /dev/stdin
            with path.open("rb") as file:
                found = _judged(checker, _lines_of(file.readline))
        else:
            checker = LineChecker(name)
            with opened(find(where, os.environ), f"/v1/runs/{quote(name, safe='')}/trace") as response:
                found = _judged(checker, _lines_of(response.readline))
    except BrokenOff as error:
        raise Failure(f"the trace broke off: {error}", "Ask again.") from error
    except OSError as error:
        raise Failure(f"{name} can't be read: {error.strerror}", "Name a file, or a run.", code=USAGE) from error
    if found:
        return FAILED
    print(_summary(checker))
    return DONE


def _judged(checker: LineChecker, lines: Iterator[bytes]) -> int:
    """How many findings there were; each is told as it is found."""
    count = 0
    for line in lines:
        count += _told(checker.feed(line))
        if checker.full:
            print("looked no further", file=sys.stderr)
            break
    return count + _told(checker.finish())


def _told(found: list[Finding]) -> int:
    for finding in found:
        print(f"not well formed: {one_line(finding)}", file=sys.stderr)
    return len(found)


def _lines_of(readline: Readline) -> Iterator[bytes]:
    """Lines, of which none is longer than one byte more than may be."""
    while line := readline(LINE_BYTES_MAX + 1):
        yield line


def _summary(checker: LineChecker) -> str:
    ends = ", ".join(f"{count} {state}" for state, count in checker.runs.items())
    if checker.run is not None:
        return f"well formed: {checker.facts} facts of {checker.run}, {next(iter(checker.runs))}"
    going = f", {checker.unfinished} going on" if checker.unfinished else ""
    return f"well formed: {checker.facts} facts, runs: {ends or 'none'}{going}"
