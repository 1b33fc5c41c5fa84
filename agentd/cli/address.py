"""Where the server is, and the token for it: flags, AGENTD_URL and AGENTD_TOKEN, else the state directory.

A running server says its address in `<state>/server.json`; without that file the settings' host and port are meant.
The local token of the state directory has all scopes, so it goes to this machine only: another host needs
AGENTD_TOKEN. A token is never a flag, because arguments are seen by everybody on the machine.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from cyclopts import Parameter

from agentd import config
from agentd.cli.failure import DENIED, UNREACHABLE, USAGE, Failure
from agentd.settings import Settings

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # what listens everywhere is reached here
DEFAULT_AGENT = "default"
TOKEN_FILE_BYTES_MAX = 4_096
ADDRESS_FILE_BYTES_MAX = 4_096


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Where:
    """The flags of every command that talks to a server."""

    url: Annotated[str | None, Parameter(help="The server's address, as http://HOST:PORT. [default: AGENTD_URL]")] = (
        None
    )
    state_dir: Annotated[
        str | None, Parameter(help="The state directory of the server to talk to. [default: the user's]")
    ] = None


NOWHERE = Where()


@dataclass(frozen=True)
class Server:
    """One server to talk to. `url` has no slash at its end; the token stays out of any print."""

    url: str
    token: str = field(repr=False)
    local: bool  # the token is that of the state directory


class _AddressFile(msgspec.Struct):
    url: str
    pid: int
    version: str


def default_session(server: Server) -> str:
    """The session that is meant when none is named: `cli` of the local token, for others one that nobody else takes,
    because a key belongs to the principal that used it first. A part of a hash says nothing of a random token."""
    return "cli" if server.local else f"cli-{hashlib.sha256(server.token.encode()).hexdigest()[:8]}"


def settings_of(where: Where, env: Mapping[str, str]) -> Settings:
    """The settings as a client sees them.

    Raises:
        Failure: a setting is wrong.
    """
    try:
        return config.load({"server.state_dir": where.state_dir}, env, None)
    except config.ConfigError as error:
        raise Failure(error.message, error.hint) from error


def find(where: Where, env: Mapping[str, str]) -> Server:
    """The server that is meant now; another call may find another address, when it was started anew.

    Raises:
        Failure: the address is malformed, there is no token, or it can't be read.
    """
    named = where.url or ("" if where.state_dir else env.get("AGENTD_URL", ""))
    token = env.get("AGENTD_TOKEN", "").strip()
    if named:
        url = _checked(named.strip())
        if token:
            return Server(url, token, local=False)
        if urlsplit(url).hostname not in LOOPBACK:
            raise Failure(
                "AGENTD_TOKEN is not set, and the local token is for this machine only",
                "Have a token made where the server runs: agentd token add NAME --scope chat", code=DENIED,
            )  # fmt: skip
        return Server(url, local_token(state_dir_of(where, env)), local=True)
    settings = settings_of(where, env)
    state = Path(settings.server.state_dir)
    url = told_address(state) or configured(settings)
    return Server(url, token or local_token(state), local=not token)


def state_dir_of(where: Where, env: Mapping[str, str]) -> Path:
    return Path(settings_of(where, env).server.state_dir)


def told_address(state: Path) -> str | None:
    """What the server of this state directory wrote when it started; it may have been killed since."""
    try:
        with (state / "server.json").open("rb") as file:
            return _checked(msgspec.json.decode(file.read(ADDRESS_FILE_BYTES_MAX), type=_AddressFile).url)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, Failure):
        return None  # the settings say where it would be


def configured(settings: Settings) -> str:
    """Where a server with these settings listens."""
    host = _ANY.get(settings.server.host, settings.server.host)
    scheme = "https" if settings.server.tls_cert else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.server.port}"


def local_token(state: Path) -> str:
    """The token that the server of this state directory made at its first start.

    Raises:
        Failure: no server was ever started there, or its token belongs to another user.
    """
    try:
        with (state / "token").open(encoding="ascii", errors="replace") as file:
            return file.read(TOKEN_FILE_BYTES_MAX).strip()
    except (FileNotFoundError, NotADirectoryError):
        raise Failure(
            f"no server has been started with the state directory {state}",
            "Start one with `agentd serve`, or name it: --state-dir, or AGENTD_URL and AGENTD_TOKEN.",
            code=UNREACHABLE,
        ) from None
    except OSError as error:
        raise Failure(
            f"the token in {state} can't be read: {error.strerror}",
            "Run as the user of the server, or set AGENTD_TOKEN to a token of your own.", code=DENIED,
        ) from None  # fmt: skip


def _checked(url: str) -> str:
    """Scheme, host and port and nothing else; what is wrong is told without repeating what may be a secret."""
    hint = "Write it as http://HOST:PORT."
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Failure("the server's address is malformed", hint, code=USAGE) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not url.isprintable():
        raise Failure("the server's address is malformed", hint, code=USAGE)
    if parts.username is not None or parts.query or parts.fragment or parts.path not in ("", "/"):
        raise Failure("the server's address holds more than scheme, host and port", hint, code=USAGE)
    return url.rstrip("/")
