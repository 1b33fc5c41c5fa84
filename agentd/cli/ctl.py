"""`agentd ctl`: one act on a session, a run, a task, or with `--session '*'` on all of them."""

import os
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter

from agentd.cli import address
from agentd.cli.address import DEFAULT_AGENT, NOWHERE, Where
from agentd.cli.chat import Agent, Json
from agentd.cli.client import Client, Fields, Frame
from agentd.cli.connection import ask_about, ask_server, is_operator
from agentd.cli.failure import DONE, USAGE, Failure
from agentd.cli.screen import one_line, print_json

Act = Literal[
    "pause", "resume", "cancel", "state", "steer", "follow-up", "retry", "approve", "block", "answer",
    "clear-saturation",
]  # fmt: skip
_NEEDS: dict[str, tuple[tuple[str, ...], str]] = {  # one of these has to be given
    "steer": (("text",), 'agentd ctl steer "shorter, please"'),
    "follow-up": (("text",), 'agentd ctl follow-up "and in French"'),
    "retry": (("task",), "agentd ctl retry --task TASK"),
    "approve": (("gate", "task"), "agentd ctl approve --gate GATE"),
    "block": (("gate", "task"), "agentd ctl block --gate GATE"),
    "answer": (("task",), "agentd ctl answer VALUE --task TASK"),
}


def ctl(
    act: Annotated[Act, Parameter(help="What to do.")],
    text: Annotated[str | None, Parameter(help="The words of steer and follow-up; the JSON or text of answer.")] = None,
    /,
    *,
    session: Annotated[
        str | None, Parameter(help="The session, '*' for all. [default: that of --run, or the command line's own]")
    ] = None,
    run: Annotated[str | None, Parameter(help="The run. [default: the one in progress]")] = None,
    task: Annotated[str | None, Parameter(help="The task.")] = None,
    gate: Annotated[str | None, Parameter(help="The gate.")] = None,
    note: Annotated[str | None, Parameter(help="Why, kept with the decision.")] = None,
    agent: Agent = DEFAULT_AGENT,
    json: Json = False,
    where: Where = NOWHERE,
) -> int:
    """Pause, resume, cancel, steer, approve and look at what runs."""
    given = {"text": text, "run": run, "task": task, "gate": gate, "note": note}
    _check(act, given)
    frame: Fields = {"type": "agent.control", "action": act.replace("-", "_")}
    frame |= {name: value for name, value in given.items() if value is not None}
    if act == "answer":
        frame["value"] = _value(str(frame.pop("text")))

    async def work(client: Client) -> Frame:
        if session is None and run is not None and is_operator(client):
            page = await client.ask({"type": "events.read", "run": run, "limit": 1})
            frame["session"] = page["session"]
        elif is_operator(client) or session == "*":
            frame["session"] = key
        return await client.ask(frame)

    key = session or address.default_session(address.find(where, os.environ))
    if key == "*":
        reply = ask_server(where, work, agent=agent, json=json)
    else:
        reply = ask_about(where, key, work, agent=agent, json=json)
    if json:
        print_json(reply.fields)
    else:
        _show(reply, act)
    return DONE


def _check(act: str, given: dict[str, str | None]) -> None:
    names, example = _NEEDS.get(act, ((), ""))
    if names and not any(given[name] for name in names):
        raise Failure(f"{act} needs {' or '.join(names)}", f"As in: {example}", code=USAGE)
    if act == "answer" and given["text"] is None:
        raise Failure("answer needs a value", f"As in: {example}", code=USAGE)
    if given["text"] is not None and act not in ("steer", "follow-up", "answer"):
        raise Failure(f"{act} takes no text", "Notes are given with --note.", code=USAGE)


def _value(text: str) -> Any:
    """JSON where it is JSON, else the text itself."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return text


def _show(reply: Frame, act: str) -> None:
    match reply.type:
        case "agent.state":
            _show_state(reply)
        case "control.done" if act == "cancel":
            queued, active, left = (reply.get(f"{name}", 0) for name in _CANCELLED)
            print(f"cancelled: {queued} that waited, {active} that ran; {left} still running")
        case "control.done":
            print(f"{act}: done" + (" before" if reply.get("already") else ""))
        case _:
            print(f"{act}: {reply.type}" + (f" {reply.run}" if reply.run else ""))


_CANCELLED = ("queued_cancelled", "active_cancelled", "still_running")


def _show_state(reply: Frame) -> None:
    paused = f" (by {', '.join(reply['paused_by'])})" if reply.get("paused_by") else ""
    print(f"{reply['session']}: {reply['mode']}{paused}, {reply['runs_unfinished']} unfinished runs")
    load = reply["backpressure"]
    print("  tasks: " + ", ".join(f"{load[name]} {name}" for name in _FIGURES))
    for run in reply["runs"]:
        held = f", held: {run['held']}" if run.get("held") else ""
        print(f"  {run['run']}  {run['kind']}  {run['state']}{held}")
        for task in run.get("tasks") or ():
            waits = ", ".join(f"{by['kind']} {by.get('id', '')}".strip() for by in task.get("blocked_by") or ())
            print(f"    {task['id']}  {task['status']}" + (f"  waits for {waits}" if waits else ""))
    if reply.get("last_goal"):
        print(f"  last goal: {one_line(reply['last_goal'])}")


_FIGURES = ("total", "pending", "queued", "active", "settled", "dropped")
