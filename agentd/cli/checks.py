"""What the doctor looks at, one function a subject; each only reads, and names a remedy for what it finds.

A running server is asked; its database is opened only when no server holds the state directory (rulings 52).
"""

import asyncio
import errno
import importlib.util
import os
import platform
import shutil
import socket
import stat
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from agentd import __version__, config
from agentd.cli.address import Server, configured, told_address
from agentd.cli.probe import get, not_ready
from agentd.clock import SystemClock
from agentd.providers.choose import ProviderChoiceError, ProviderSettings, choose_provider
from agentd.settings import Settings
from agentd.store.backup import mark_of, newest
from agentd.store.check import full_check
from agentd.store.lock import owner_of

Level = Literal["ok", "warning", "error"]
PYTHON = (3, 11)
DATABASE = "agentd.db"
DISK_WARNING_BYTES = 1 << 30
DISK_ERROR_BYTES = 64 << 20
PROVIDER_S = 15.0
WAL_MODE = b"\x02\x02"  # versions that may write and read it
PRIVATE = ("token", "tokens.json", DATABASE)


class Finding(msgspec.Struct, frozen=True):
    """One line of the report."""

    subject: str
    level: Level
    what: str
    remedy: str = ""


def interpreter() -> Iterator[Finding]:
    said = f"agentd {__version__}, Python {platform.python_version()} on {platform.system()}"
    if sys.version_info < PYTHON:
        yield Finding("python", "error", said, "install Python 3.11 or newer")
        return
    yield Finding("python", "ok", said)
    fast = "is installed" if importlib.util.find_spec("uvloop") else "is not; pip install 'agentd[fast]' saves CPU"
    yield Finding("python", "ok", f"the faster event loop {fast}")


def settings_shown(settings: Settings) -> Iterator[Finding]:
    changed = [row for row in config.listed(settings) if row[0] in settings.sources]
    yield Finding("settings", "ok", f"all valid, {len(changed)} differ from the defaults")
    for name, value, source in changed:
        yield Finding("settings", "ok", f"{name} = {_harmless(value)} from {source}")
    exposed = settings.server.host not in ("127.0.0.1", "::1", "localhost")
    if exposed and not settings.server.tls_cert:
        yield Finding(
            "settings", "warning", f"server.host is {settings.server.host} and there is no TLS",
            "set server.tls_cert and server.tls_key, or put a proxy with TLS before it",
        )  # fmt: skip


def _harmless(value: object) -> str:
    """An address may hold a password, though it is refused where it is used."""
    return "[an address with a password]" if isinstance(value, str) and "://" in value and "@" in value else repr(value)


def state_dir(state: Path) -> Iterator[Finding]:
    """Place, permissions, room."""
    if not state.exists():
        yield Finding("state", "warning", f"{state} does not exist", "it is made by the first `agentd serve`")
        return
    if not state.is_dir():
        yield Finding("state", "error", f"{state} is no directory", "move it away or change server.state_dir")
        return
    if not os.access(state, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("state", "error", f"{state} can't be read and written", f"as its owner: chmod u+rwx {state}")
        return
    if stat.S_IMODE(state.stat().st_mode) & 0o022:
        yield Finding("state", "warning", f"others may write to {state}", f"chmod 700 {state}")
    yield from _private_files(state)
    yield from _room(state)


def _private_files(state: Path) -> Iterator[Finding]:
    found = False
    for path in (state / name for name in PRIVATE):
        if not path.exists():
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        # Others reach the file only through the directory.
        reachable = stat.S_IMODE(state.stat().st_mode) & 0o011
        if mode & 0o077 and (reachable or path.name != DATABASE):
            found = True
            level: Level = "error" if path.name == "token" else "warning"
            yield Finding("state", level, f"{path.name} is open to others (mode {mode:04o})", f"chmod 600 {path}")
    if not found:
        yield Finding("state", "ok", f"{state} is private")


def _room(state: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(state).free
    said = f"{free / 1e9:.1f} GB free on its disk"
    if free < DISK_WARNING_BYTES:
        level: Level = "error" if free < DISK_ERROR_BYTES else "warning"
        yield Finding("state", level, said, "make room: without it nothing can be accepted")
    else:
        yield Finding("state", "ok", said)


def running(state: Path) -> int | None:
    """The process that owns the state directory."""
    return owner_of(state)


def server(settings: Settings, state: Path, token: str, owner: int) -> Iterator[Finding]:
    """A server runs: what it says of itself."""
    found = Server(told_address(state) or configured(settings), token, local=True)
    alive = get(found, "/healthz")
    if alive.status != 200:
        yield Finding(
            "server", "error", f"process {owner} holds {state}, but {found.url} does not answer: {alive.text}",
            "look at its log; if it hangs, stop it and start it again",
        )  # fmt: skip
        return
    reasons = not_ready(found)
    if reasons:
        yield Finding("server", "warning", f"not ready: {'; '.join(reasons)}", "wait a moment, then look at its log")
    else:
        yield Finding("server", "ok", f"process {owner} answers at {found.url}; its database is its own to check")


def offline(settings: Settings, state: Path) -> Iterator[Finding]:
    """No server runs: the database itself, and whether one could listen."""
    if state.is_dir():
        yield from _restored(state / DATABASE)
        for one in full_check(state / DATABASE):
            yield Finding("database", one.health, one.what, one.remedy)
    yield from _port(settings.server.host, settings.server.port)


def _restored(database: Path) -> Iterator[Finding]:
    mark = mark_of(database)
    if mark is None:
        yield from _journal(database)
        return
    made = datetime.fromtimestamp(mark.made / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    yield Finding("database", "ok", f"a backup made {made} UTC; its first start gives it a log id of its own")
    if database.with_name(database.name + "-wal").exists():
        yield Finding(
            "database", "warning", "a write-ahead log of another database lies beside it",
            "start `agentd serve`: it moves that log to quarantine/, or move it away yourself",
        )  # fmt: skip


def _journal(database: Path) -> Iterator[Finding]:
    """A server's database says in its header that it has a write-ahead log, also when it is stopped."""
    try:
        with database.open("rb") as file:
            header = file.read(20)
    except OSError:
        return
    if header.startswith(b"SQLite format 3\0") and header[18:20] != WAL_MODE:
        yield Finding(
            "database", "warning", "another program has switched its write-ahead log off",
            "the next start switches it on again; let no other program write to this file",
        )  # fmt: skip


def backups(state: Path) -> Iterator[Finding]:
    """When the last backup that still lies in the state directory was made; others are elsewhere."""
    found = newest(state)
    if found is not None:
        name, made_s = found
        hours = (SystemClock().now_ms() / 1000 - made_s) / 3600
        yield Finding("state", "ok", f"the newest backup here is {name}, {hours:.0f} hours old")


def _port(host: str, port: int) -> Iterator[Finding]:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        remedy = "choose another with --port or server.port"
        if error.errno == errno.EADDRINUSE:
            remedy = f"stop what listens there, or {remedy}"
        yield Finding("server", "error", f"can't listen on {host}:{port}: {error.strerror}", remedy)
    else:
        yield Finding("server", "ok", f"none runs; {host}:{port} is free")


def provider(settings: Settings, env: Mapping[str, str]) -> Iterator[Finding]:
    """Who would think, and whether it answers now."""
    chosen = ProviderSettings(
        name=settings.provider.name or None, model=settings.provider.model or None,
        base_url=settings.provider.base_url or None, pace_ms=settings.provider.pace_ms,
    )  # fmt: skip
    try:
        complaint, name = asyncio.run(_asked(chosen, env))
    except ProviderChoiceError as error:
        yield Finding("provider", "error", error.message, error.hint)
        return
    if complaint is None:
        yield Finding("provider", "ok", name)
    else:
        yield Finding(
            "provider", "warning", f"{name}: {complaint}", "check address, key and network; runs fail until it answers"
        )


async def _asked(chosen: ProviderSettings, env: Mapping[str, str]) -> tuple[str | None, str]:
    found = choose_provider(chosen, env, SystemClock())
    try:
        async with asyncio.timeout(PROVIDER_S):
            complaint = await found.check()
    except TimeoutError:
        complaint = f"no answer within {PROVIDER_S:.0f} s"
    finally:
        await found.close()
    return complaint, "offline, needs no key and no network" if found.offline else f"{found.name}, {found.model}"
