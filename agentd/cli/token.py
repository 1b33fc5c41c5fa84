"""`agentd token`: further credentials, made and taken back where the server's state lies; no server has to run."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from agentd.cli import address
from agentd.cli.address import Where
from agentd.cli.chat import Json
from agentd.cli.failure import DONE, FAILED, NOT_FOUND, Failure
from agentd.cli.screen import print_json, quiet_logs
from agentd.clock import SystemClock
from agentd.edge.tokens import TokenError, Tokens

app = App(
    name="token",
    help="Give out, list and revoke tokens of this state directory.",
    help_epilogue="Examples:\n\n    agentd token add phone --scope chat\n    agentd token list\n"
    "    agentd token revoke phone",
)

State = Annotated[str | None, Parameter(help="The state directory. [default: the user's]")]


@app.command
def add(
    name: Annotated[str, Parameter(help="What to call it; also the name of who uses it.")],
    /,
    *,
    scope: Annotated[
        list[Literal["chat", "operator", "admin"]],
        Parameter(negative="", help="What it may do; may be given several times."),
    ],
    state_dir: State = None,
    json: Json = False,
) -> int:
    """Make a token and print it; it is never shown again. A running server knows it within a second."""
    with _tokens(_state(state_dir)) as tokens:
        token = tokens.add(name, frozenset(scope))
    if json:
        print_json({"name": name, "scopes": sorted(set(scope)), "token": token})
    else:
        print(token)
        print("This is the only time that it is shown; set it as AGENTD_TOKEN.", file=sys.stderr)
    return DONE


@app.command(name="list")
def list_tokens(*, state_dir: State = None, json: Json = False) -> int:
    """List the tokens that were given out; never the tokens themselves."""
    state = _used(_state(state_dir))
    with _tokens(state) as tokens:
        entries = tokens.entries()
    if json:
        print_json([{"name": one.name, "scopes": one.scopes, "created_ms": one.created_ms} for one in entries])
        return DONE
    for one in entries:
        made = datetime.fromtimestamp(one.created_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        print(f"{one.name}\t{','.join(one.scopes)}\t{made}")
    return DONE


@app.command
def revoke(name: Annotated[str, Parameter(help="Which one.")], /, *, state_dir: State = None) -> int:
    """Take a token back. A running server refuses it within a second; open sockets stay."""
    with _tokens(_used(_state(state_dir)), code=NOT_FOUND) as tokens:
        tokens.revoke(name)
    print(f"revoked: {name}")
    return DONE


def _state(state_dir: str | None) -> Path:
    return address.state_dir_of(Where(state_dir=state_dir), os.environ)


def _used(state: Path) -> Path:
    """Looking must not make a state directory."""
    if not state.is_dir():
        raise Failure(f"there is no state directory {state}", "Name it with --state-dir.", code=NOT_FOUND)
    return state


@contextmanager
def _tokens(state: Path, *, code: int = FAILED) -> Iterator[Tokens]:
    quiet_logs()
    try:
        yield Tokens(state, SystemClock())
    except TokenError as error:
        raise Failure(error.message, error.hint, code=code) from None
    except OSError as error:
        raise Failure(f"the tokens in {state} can't be written: {error.strerror}", "Check its permissions.") from None
