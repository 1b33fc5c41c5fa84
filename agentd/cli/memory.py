"""`agentd memory`: what a session remembers: search it, show it, export it, forget some of it for good."""

import os
import sys
from datetime import UTC, datetime
from typing import Annotated, Literal

from cyclopts import App, Parameter

from agentd.cli import address
from agentd.cli.address import DEFAULT_AGENT, NOWHERE, Where
from agentd.cli.chat import Agent, Json, Session
from agentd.cli.client import Client, Fields, Frame
from agentd.cli.connection import ask_about, is_operator
from agentd.cli.failure import DONE, FAILED, NOT_FOUND, USAGE, Failure
from agentd.cli.screen import one_line, print_json

PAGE = 128  # the most that one request gives

app = App(
    name="memory",
    help="Search, show, export and forget what a session remembers.",
    help_epilogue="Examples:\n\n    agentd memory search harbour lighthouse\n    agentd memory show --archived\n"
    "    agentd memory export > memory.ndjson\n    agentd memory forget run_01k.u --yes",
)

Kind = Annotated[Literal["entry", "summary", "plan", "note", "all"], Parameter(help="Which kind of items.")]
Full = Annotated[bool, Parameter(help="Uncut contents.", negative="")]


@app.command
def search(
    *words: Annotated[str, Parameter(help="What to look for; the best first.")],
    session: Session = None,
    kind: Kind = "all",
    limit: Annotated[int, Parameter(help=f"How many at most, up to {PAGE}.")] = 10,
    full: Full = False,
    agent: Agent = DEFAULT_AGENT,
    json: Json = False,
    where: Where = NOWHERE,
) -> int:
    """Search working and long-term memory, all branches and epochs of the session. Exit 4 when nothing is found."""
    if not words:
        raise Failure("search needs words", "As in: agentd memory search harbour lighthouse", code=USAGE)
    frame: Fields = {
        "type": "memory.query", "topic": " ".join(words), "kind": kind, "limit": max(1, min(limit, PAGE)),
        "include_full": full,
    }  # fmt: skip
    items = list(_ask(frame, session, agent, where, json)["items"])
    _print(items, json)
    return DONE if items else NOT_FOUND


@app.command
def show(
    *,
    session: Session = None,
    archived: Annotated[bool, Parameter(help="Also what working memory does not hold.", negative="")] = False,
    limit: Annotated[int, Parameter(help=f"How many at most, up to {PAGE}.")] = 64,
    full: Full = False,
    agent: Agent = DEFAULT_AGENT,
    json: Json = False,
    where: Where = NOWHERE,
) -> int:
    """Show what the next turn would remember, in the order of the conversation."""
    frame: Fields = {
        "type": "memory.recall", "limit": max(1, min(limit, PAGE)), "include_archived": archived, "include_full": full
    }  # fmt: skip
    _print(list(_ask(frame, session, agent, where, json)["items"]), json)
    return DONE


@app.command
def export(
    *,
    session: Session = None,
    kind: Kind = "all",
    agent: Agent = DEFAULT_AGENT,
    where: Where = NOWHERE,
) -> int:
    """Write everything that the session remembers, newest first, one JSON object a line."""
    key = _key(session, where)

    async def work(client: Client) -> int:
        frame: Fields = {"type": "memory.query", "kind": kind, "limit": PAGE, "include_full": True, "offset": 0}
        if is_operator(client):
            frame["session"] = key
        count = 0
        while True:
            page = await client.ask(frame)
            for item in page["items"]:
                print_json(item)
                count += 1
            if page.get("next") is None:
                return count
            frame["offset"] = page["next"]

    count = ask_about(where, key, work, agent=agent)
    print(f"{count} items", file=sys.stderr)
    return DONE


@app.command
def forget(
    *ids: Annotated[str, Parameter(help="Ids of entries, as search and show print them.")],
    session: Session = None,
    yes: Annotated[bool, Parameter(help="Do not ask.", negative="")] = False,
    agent: Agent = DEFAULT_AGENT,
    json: Json = False,
    where: Where = NOWHERE,
) -> int:
    """Take the words of entries out of everything that agentd keeps; ids and numbers stay. There is no way back."""
    if not ids:
        raise Failure("forget needs ids", "agentd memory search and show print them.", code=USAGE)
    if not yes:
        raise Failure(
            f"the words of {len(ids)} entries will be gone for good, in backups they stay", "Say so with --yes.",
            code=USAGE,
        )  # fmt: skip
    reply = _ask({"type": "memory.forget", "memory_ids": list(ids)}, session, agent, where, json)
    if json:
        print_json(reply.fields)
    else:
        where_ = ", ".join(reply["sessions"])
        print(f"forgotten: {len(ids)} entries in {where_}; {reply['facts']} facts lost words")
    if not reply["purged"]:
        print(
            "the words are in no table any more, but a reader still holds the old write-ahead log; run it again",
            file=sys.stderr,
        )
        return FAILED
    return DONE


def _key(session: str | None, where: Where) -> str:
    return session or address.default_session(address.find(where, os.environ))


def _ask(frame: Fields, session: str | None, agent: str, where: Where, json: bool) -> Frame:
    key = _key(session, where)

    async def work(client: Client) -> Frame:
        if is_operator(client):
            frame["session"] = key
        return await client.ask(frame)

    return ask_about(where, key, work, agent=agent, json=json)


def _print(items: list[Fields], json: bool) -> None:
    if json:
        print_json({"items": items})
        return
    for item in items:
        at = datetime.fromtimestamp(item["ts"] / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        marks = [item["source"], *(name for name in ("pinned", "truncated", "forgotten") if item.get(name))]
        if not item["on_path"]:
            marks.append("off path")
        kind = item["role"] if item["kind"] == "entry" else item["kind"]
        print(f"{item['id']}  {at}  {kind}  ({', '.join(marks)})")
        print(f"    {one_line(item['content'])}")
