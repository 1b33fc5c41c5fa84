"""A connection for questions and for acts on a session, without following one; nothing is stored by connecting.

A token with the scope operator asks from a session without a name, so that a mistyped key is an error and never a new
session. Any other token has to connect to the session that it means.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

from agentd.cli import address
from agentd.cli.address import DEFAULT_AGENT, Where
from agentd.cli.client import Client
from agentd.cli.screen import errors_as
from agentd.clock import SystemClock

T = TypeVar("T")


def ask_server(
    where: Where, work: Callable[[Client], Awaitable[T]], *, agent: str = DEFAULT_AGENT, session: str | None = None,
    json: bool = False,
) -> T:  # fmt: skip
    """Connect, do `work`, hang up."""

    async def asked() -> T:
        client = Client(
            lambda: address.find(where, os.environ), SystemClock(), agent=agent, session=session, reconnect_s=0.0
        )
        async with client:
            return await work(client)

    with errors_as(json):
        return asyncio.run(asked())


def ask_about(
    where: Where,
    session: str,
    work: Callable[[Client], Awaitable[T]],
    *,
    agent: str = DEFAULT_AGENT,
    json: bool = False,
) -> T:
    """As `ask_server`; `work` finds in `client.ack` whether it may name `session`, or is connected to it already."""

    async def scopes(client: Client) -> list[str]:
        return list(client.ack["scopes"])

    operator = "operator" in ask_server(where, scopes, agent=agent, json=json)
    return ask_server(where, work, agent=agent, session=None if operator else session, json=json)


def is_operator(client: Client) -> bool:
    return "operator" in client.ack["scopes"]
