"""What the figures were measured on: the machine, the versions, the commit, and which core belongs to whom."""

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import agentd
from agentd.bench.results import Machine

PACKAGES = ("websockets", "msgspec", "aiosqlite", "uvicorn", "starlette", "prometheus-client", "uvloop", "hdrhistogram")
GIT_S = 5.0


def cores() -> tuple[list[int], list[int]]:
    """Cores of the server and of the clients: apart when there are two or more, the server on one. Where processes
    can't be pinned (macOS) the system places them."""
    if not hasattr(os, "sched_getaffinity"):
        every = list(range(os.cpu_count() or 1))
        return every, every[1:] or every
    mine = sorted(os.sched_getaffinity(0))
    return (mine[:1], mine[1:]) if len(mine) > 1 else (mine, mine)


def pin(pid: int, to: Iterable[int]) -> None:
    """Keep a process on these cores; 0 is this one."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, to)


def machine() -> Machine:
    server, clients = cores()
    return Machine(
        cpu=_line("/proc/cpuinfo", r"model name\s*:\s*(.+)") or platform.processor() or platform.machine(),
        cores=os.cpu_count() or 1,
        memory_mb=int(_line("/proc/meminfo", r"MemTotal:\s*(\d+) kB") or 0) // 1024,
        kernel=platform.release(),
        python=platform.python_version(),
        server_cores=server,
        client_cores=clients,
    )


def versions() -> dict[str, str]:
    """Of agentd and of the packages that its figures depend on; those that are not installed are left out."""
    found = {"agentd": agentd.__version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Of the checkout that agentd runs from, `+` when files differ from it; empty for an installed package."""
    folder = Path(agentd.__file__).parent
    if not (folder.parent / ".git").exists():
        return ""
    head = _git(folder, "rev-parse", "--short=12", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--", ".")
    return head + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=GIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _line(path: str, pattern: str) -> str:
    try:
        found = re.search(pattern, Path(path).read_text(encoding="utf-8"))
    except OSError:
        return ""
    return found.group(1).strip() if found else ""
