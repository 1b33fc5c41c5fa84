"""`agentd sessions`: what sessions there are, the tree of one, a branch of it, another leaf to go on from."""

import os
import sys
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import App, Parameter
from rich import box
from rich.console import Console
from rich.table import Table

from agentd.cli import address
from agentd.cli.address import DEFAULT_AGENT, NOWHERE, Where
from agentd.cli.chat import Agent, Json, Session
from agentd.cli.client import Client, Fields, Frame
from agentd.cli.connection import ask_about, ask_server, is_operator
from agentd.cli.failure import DONE
from agentd.cli.screen import one_line, print_json

PAGE = 500  # the most that one request gives
LIMIT_MAX = 100_000
SNIPPET_CHARS = 60

app = App(
    name="sessions",
    help="List the sessions; show the tree of one, branch from an entry, go on from another one.",
    help_epilogue="Examples:\n\n    agentd sessions\n    agentd sessions list --limit 20 --json\n"
    "    agentd sessions tree --session work\n    agentd sessions branch ENTRY try-again\n"
    "    agentd sessions checkout ENTRY",
)


@app.default
@app.command(name="list")
def list_sessions(
    *,
    limit: Annotated[int, Parameter(help=f"How many at most, up to {LIMIT_MAX}.")] = 100,
    json: Json = False,
    where: Where = NOWHERE,
) -> int:
    """List the sessions, by key."""
    wanted = max(1, min(limit, LIMIT_MAX))

    async def work(client: Client) -> tuple[list[Fields], bool]:
        return await listed(client, wanted)

    found, more = ask_server(where, work, json=json)
    if json:
        print_json({"sessions": found, "more": more})
        return DONE
    _show(found)
    if more:
        print(f"there are more; see --limit (now {wanted})", file=sys.stderr)
    return DONE


@app.command
def tree(
    *,
    session: Session = None,
    limit: Annotated[int, Parameter(help="How many entries at most, the newest.")] = 200,
    agent: Agent = DEFAULT_AGENT,
    json: Json = False,
    where: Where = NOWHERE,
) -> int:
    """Show the entries of a session and where they branch; the active leaf is marked with *."""
    reply = _ask({"type": "session.tree", "limit": max(1, min(limit, PAGE))}, session, agent, where, json)
    if json:
        print_json(reply.fields)
        return DONE
    for depth, node in _drawn(reply["nodes"]):
        mark = "*" if node["id"] == reply["leaf"] else " "
        said = one_line(node["snippet"])[:SNIPPET_CHARS]
        print(f"{mark} {'  ' * depth}{node['id']}  {node['role']}: {said}")
    if reply.get("next"):
        print("there are older ones; see --limit", file=sys.stderr)
    return DONE


@app.command
def branch(
    entry: Annotated[str, Parameter(help="The entry to branch from, as tree prints it.")],
    key: Annotated[str, Parameter(help="The new session's key.")],
    /,
    *,
    session: Session = None,
    agent: Agent = DEFAULT_AGENT,
    json: Json = False,
    where: Where = NOWHERE,
) -> int:
    """Begin a new session that shares the history up to an entry; nothing is copied."""
    reply = _ask({"type": "session.branch", "leaf_id": entry, "new_session": key}, session, agent, where, json)
    print_json(reply.fields) if json else print(f"{reply['new_session']} goes on from {reply['leaf']}")
    return DONE


@app.command
def checkout(
    entry: Annotated[str, Parameter(help="The entry to go on from.")],
    /,
    *,
    session: Session = None,
    agent: Agent = DEFAULT_AGENT,
    json: Json = False,
    where: Where = NOWHERE,
) -> int:
    """Make an entry the active leaf: the next turn goes on from there."""
    reply = _ask({"type": "session.set_leaf", "leaf_id": entry}, session, agent, where, json)
    print_json(reply.fields) if json else print(f"goes on from {reply['leaf']}")
    return DONE


def _ask(frame: Fields, session: str | None, agent: str, where: Where, json: bool) -> Frame:
    key = session or address.default_session(address.find(where, os.environ))

    async def work(client: Client) -> Frame:
        if is_operator(client):
            frame["session"] = key
        return await client.ask(frame)

    return ask_about(where, key, work, agent=agent, json=json)


def _drawn(nodes: list[Fields]) -> list[tuple[int, Fields]]:
    """Parents before children, oldest first; one more step to the right only where a branch begins."""
    behind: dict[str | None, list[Fields]] = {}
    known = {node["id"] for node in nodes}
    for node in reversed(nodes):
        behind.setdefault(node["parent"] if node["parent"] in known else None, []).append(node)
    drawn: list[tuple[int, Fields]] = []
    waiting = [(0, node) for node in reversed(behind.get(None, []))]
    while waiting:
        depth, node = waiting.pop()
        drawn.append((depth, node))
        children = behind.get(node["id"], [])
        deeper = depth + (len(children) > 1)
        waiting.extend((deeper, child) for child in reversed(children))
    return drawn


async def listed(client: Client, wanted: int) -> tuple[list[Fields], bool]:
    """Up to `wanted` sessions, and whether there are more."""
    found: list[Fields] = []
    cursor: str | None = None
    while True:
        frame: Fields = {"type": "session.list", "limit": min(PAGE, wanted - len(found))}
        if cursor is not None:
            frame["cursor"] = cursor
        page = await client.ask(frame)
        found += page["sessions"]
        cursor = page.get("next")
        if cursor is None or len(found) >= wanted:
            return found, cursor is not None


def _show(found: list[Fields]) -> None:
    """A table on a terminal, lines with tabs in a pipe."""
    names = ("key", "agent", "owner", "mode", "unfinished", "facts", "updated")
    rows = [
        [one_line(item[name]) for name in ("key", "agent", "owner", "mode", "unfinished", "seq")]
        + [datetime.fromtimestamp(item["updated"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")]
        for item in found
    ]
    if not sys.stdout.isatty():
        print("\n".join("\t".join(row) for row in (names, *rows)))
        return
    table = Table(*names, box=box.SIMPLE)
    for row in rows:
        table.add_row(*row)
    Console(markup=False, highlight=False).print(table)
