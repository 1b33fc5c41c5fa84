"""The identity files of each agent, merged, and read again when one of them changed (S11).

A turn begins with a look at the files' times (a few `stat` calls, no reads); only a changed set is read, in a thread.
All who ask before the loop has turned share one look: callbacks run in the order they were scheduled, so whoever runs
before the look is given up was on his way before it was taken, and no edit made before his turn can be missing in it.
A look costs about 12 µs, which was 5 % of a chat turn while each turn took its own.
"""

import asyncio
import os
from pathlib import Path

import structlog

from agentd.core.identity import Identity, Layer, merge

NAMES = ("SOUL", "AGENT", "IDENTITY", "USER")
FILE_BYTES_MAX = 1 << 20
AGENTS_MAX = 1_000

log = structlog.get_logger(__name__)

_Mark = tuple[tuple[str, int, int] | None, ...]


class IdentityFiles:
    """`directory/<agent>/NAME.md` where there is one, else `directory/NAME.md`."""

    def __init__(self, directory: Path, budget_bytes: int) -> None:
        self._directory = directory
        self._budget = budget_bytes
        self._known: dict[str, tuple[_Mark, Identity]] = {}
        self._looks: dict[str, _Mark] = {}  # of this turn of the loop

    def current(self, agent: str) -> Identity | None:
        """The merged identity when no file changed since it was read; None when it has to be read."""
        known = self._known.get(agent)
        return known[1] if known is not None and known[0] == self._look(agent) else None

    async def read(self, agent: str) -> Identity:
        """The merged identity of the files as they are now; what can't be read is missing, and is warned of."""
        fresh = self.current(agent)
        if fresh is not None:
            return fresh
        mark, identity = await asyncio.to_thread(self._read, agent)
        if len(self._known) >= AGENTS_MAX:
            self._known.pop(next(iter(self._known)))
        self._known[agent] = (mark, identity)
        return identity

    async def latest(self, agent: str) -> Identity:
        """The identity as it was read last, without a look at the files: the step of this turn has looked."""
        known = self._known.get(agent)
        return known[1] if known is not None else await self.read(agent)

    def _look(self, agent: str) -> _Mark:
        """The mark as somebody saw it in this turn of the loop."""
        mark = self._looks.get(agent)
        if mark is None:
            if not self._looks:
                asyncio.get_running_loop().call_soon(self._looks.clear)
            mark = self._looks[agent] = self._mark(agent)
        return mark

    def _mark(self, agent: str) -> _Mark:
        """Which files count and when they changed; texts and `os.stat`, because each turn begins with it."""
        own, common = f"{self._directory}/{agent}", str(self._directory)
        if not os.access(own, os.F_OK):  # most agents have no files of their own: one question instead of four
            return tuple([_stat(f"{common}/{name}.md") for name in NAMES])
        return tuple([_stat(f"{own}/{name}.md") or _stat(f"{common}/{name}.md") for name in NAMES])

    def _read(self, agent: str) -> tuple[_Mark, Identity]:
        mark = self._mark(agent)
        files = [(name, Path(found[0])) for name, found in zip(NAMES, mark, strict=True) if found is not None]
        layers = [Layer(name=name, path=self._shown(path), text=_text(path)) for name, path in files]  # type: ignore[arg-type]
        return mark, merge(layers, self._budget)

    def _shown(self, path: Path) -> str:
        return path.relative_to(self._directory).as_posix()


def _stat(path: str) -> tuple[str, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return path, found.st_mtime_ns, found.st_size


def _text(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX).decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("identity.unreadable", file=path.name, reason=error.strerror)
        return None
