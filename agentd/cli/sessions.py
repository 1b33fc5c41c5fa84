"""`agentd sessions`: what sessions there are, by key."""

import sys
from datetime import UTC, datetime
from typing import Annotated, Literal

from cyclopts import Parameter
from rich import box
from rich.console import Console
from rich.table import Table

from agentd.cli.address import NOWHERE, Where
from agentd.cli.chat import Json
from agentd.cli.client import Client, Fields
from agentd.cli.connection import ask_server
from agentd.cli.failure import DONE
from agentd.cli.screen import one_line, print_json

PAGE = 500  # the most that one request gives
LIMIT_MAX = 100_000


def sessions(
    what: Annotated[Literal["list"], Parameter(help="What to do.")] = "list",
    /,
    *,
    limit: Annotated[int, Parameter(help=f"How many at most, up to {LIMIT_MAX}.")] = 100,
    json: Json = False,
    where: Where = NOWHERE,
) -> int:
    """List the sessions."""
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
