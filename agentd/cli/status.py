"""`agentd status`: is the server there, is it ready, who thinks, how much is it doing."""

import os
import sys
from typing import Any

from agentd.cli import address
from agentd.cli.address import NOWHERE, Server, Where
from agentd.cli.chat import Json
from agentd.cli.client import Client
from agentd.cli.connection import ask_server, is_operator
from agentd.cli.failure import DONE, FAILED, UNREACHABLE, Failure
from agentd.cli.probe import figures, get, not_ready
from agentd.cli.screen import one_line, print_json
from agentd.cli.sessions import listed

SESSIONS_MAX = 10_000  # more are told as "at least"
_FIGURES = ("sockets", "sessions_awake", "tasks_queued", "workers_active", "model_calls_in_flight", "facts_total")


def status(*, json: Json = False, where: Where = NOWHERE) -> int:
    """Show how the server is. Exit 1 when it takes no clients now, 5 when it does not answer."""
    server = address.find(where, os.environ)
    alive = get(server, "/healthz")
    if alive.status != 200:
        reason = alive.text if alive.status == 0 else f"/healthz answers {alive.status}"
        raise Failure(
            f"no server answers at {server.url}: {reason}", "Start one with `agentd serve`.", code=UNREACHABLE
        )
    reasons = not_ready(server)
    shown: dict[str, Any] = {"url": server.url, "ready": not reasons, "reasons": reasons}
    if not reasons:
        shown |= ask_server(where, _asked, json=json)
    shown |= _figures(server)
    if json:
        print_json(shown)
    else:
        _show(shown)
    return FAILED if reasons else DONE


async def _asked(client: Client) -> dict[str, Any]:
    ack = client.ack
    shown = {
        "version": ack["server"]["version"], "provider": ack["provider"], "mode": ack["mode"], "log": ack["log"],
        "identity": ack["identity"], "scopes": ack["scopes"], "warnings": ack["warnings"],
    }  # fmt: skip
    if is_operator(client):
        state = await client.ask({"type": "agent.control", "action": "state", "session": "*"})
        found, more = await listed(client, SESSIONS_MAX)
        shown |= {
            "mode": state["mode"], "runs_unfinished": state["runs_unfinished"], "backpressure": state["backpressure"],
            "loop_lag_ms": state["loop_lag_ms"], "sessions": len(found), "sessions_more": more,
        }  # fmt: skip
    return shown


def _figures(server: Server) -> dict[str, Any]:
    """From the metrics, which need an operator's token from another machine."""
    answer = get(server, "/metrics")
    if answer.status != 200:
        return {}
    known = figures(answer.text)
    return {"figures": {name: known[name] for name in _FIGURES if name in known}}


def _show(shown: dict[str, Any]) -> None:
    print(f"agentd {shown.get('version', '')} at {shown['url']}: {'ready' if shown['ready'] else 'not ready'}")
    for reason in shown["reasons"]:
        print(f"  because          {one_line(reason)}")
    for name, value in _lines(shown):
        print(f"  {name:<16} {one_line(value)}")
    for warning in shown.get("warnings", ()):
        print(f"warning: {one_line(warning['message'])} ({warning['code']})", file=sys.stderr)


def _lines(shown: dict[str, Any]) -> list[tuple[str, object]]:
    lines: list[tuple[str, object]] = []
    if provider := shown.get("provider"):
        model = f", {provider['model']}" if provider.get("model") else ""
        lines.append(("provider", provider["name"] + model + (" (no model)" if provider["offline"] else "")))
        lines += [("mode", shown["mode"]), ("log", shown["log"])]
        lines.append(("identity", f"{shown['identity']['bytes']} bytes, {shown['identity']['hash']}"))
    if "sessions" in shown:
        lines.append(("sessions", f"{'at least ' * shown['sessions_more']}{shown['sessions']}"))
        lines.append(("unfinished runs", shown["runs_unfinished"]))
        lines.append(("loop lag", f"{shown['loop_lag_ms']} ms"))
    lines += [(name.replace("_", " "), f"{value:g}") for name, value in shown.get("figures", {}).items()]
    return lines
