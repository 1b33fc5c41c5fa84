"""The tokens of a state directory: the local one, made at first start, and those that were given out by name.

`<state>/token` holds the local token itself (mode 0600), because the command line reads it so that nobody types it.
Of all others only the SHA-256 is kept, in `<state>/tokens.json`. The command line may write that file while a server
runs: writers take a lock and replace the file whole, readers look at most once a second whether it changed. A file
that cannot be read keeps what was read before, and an unreadable one at the start is an error: no tokens is not the
same as not knowing them.
"""

import fcntl
import hashlib
import hmac
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import structlog

from agentd.clock import Clock

SCOPES = frozenset({"chat", "operator", "admin"})
LOCAL = "local"
TOKENS_MAX = 1_000
TOKEN_CHARS_MAX = 1_024
RECHECK_S = 1.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

log = structlog.get_logger(__name__)


class Principal(msgspec.Struct, frozen=True):
    """Who a credential belongs to, and what the server lets it do."""

    name: str
    scopes: frozenset[str]


class TokenEntry(msgspec.Struct, frozen=True):
    """One line of tokens.json. Never the token."""

    name: str
    scopes: tuple[str, ...]
    sha256: str
    created_ms: int


class TokenError(Exception):
    """A token cannot be added, revoked or read. `hint` says what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class _File(msgspec.Struct):
    tokens: list[TokenEntry]
    version: int = 1


_Mark = tuple[int, int, int] | None  # inode, mtime, size: another one means another content


class Tokens:
    """All tokens of one state directory."""

    def __init__(self, state_dir: Path, clock: Clock) -> None:
        """Make the local token if there is none, and read the others.

        Raises:
            TokenError: a token file cannot be made or read.
        """
        self._local_path = state_dir / "token"
        self._path = state_dir / "tokens.json"
        self._clock = clock
        try:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._local_mark, self._local = self._read_local()
            self._mark, self._entries = self._read_entries()
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise TokenError(f"the tokens in {state_dir} cannot be read: {error}", "Check its files.") from error
        self._checked_s = clock.monotonic_s()

    @property
    def local_token(self) -> str:
        """What the command line sends. Never log it."""
        return self._local

    def check(self, token: str) -> Principal | None:
        """Whose token it is. Compares with every known one, each in constant time; one that is not known may have
        been given out in this very second, so the files are looked at before it is refused."""
        self._reread()
        if len(token) > TOKEN_CHARS_MAX:
            return None
        digest = _digest(token)
        found = self._known(digest)
        if found is None:
            self._reread(at_once=True)
            found = self._known(digest)
        return found

    def _known(self, digest: str) -> Principal | None:
        found = Principal(LOCAL, SCOPES) if hmac.compare_digest(digest, _digest(self._local)) else None
        for entry in self._entries:
            if hmac.compare_digest(digest, entry.sha256):
                found = Principal(entry.name, frozenset(entry.scopes))
        return found

    def entries(self) -> tuple[TokenEntry, ...]:
        self._reread()
        return tuple(self._entries)

    def add(self, name: str, scopes: frozenset[str]) -> str:
        """Make a token for `name`; the only time that it is seen.

        Raises:
            TokenError: the name is taken or malformed, a scope is unknown, there are too many.
        """
        self._check_new(name, scopes)
        token = self._clock.new_secret()
        entry = TokenEntry(name, tuple(sorted(scopes)), _digest(token), self._clock.now_ms())
        with self._changing() as entries:
            if any(known.name == name for known in entries):
                raise TokenError(f"there is a token named {name!r} already", "Revoke it, or take another name.")
            if len(entries) >= TOKENS_MAX:
                raise TokenError(f"there are {TOKENS_MAX} tokens already", "Revoke those that nobody uses.")
            entries.append(entry)
        return token

    def revoke(self, name: str) -> None:
        """Raises TokenError when there is none of that name."""
        with self._changing() as entries:
            kept = [entry for entry in entries if entry.name != name]
            if len(kept) == len(entries):
                raise TokenError(f"there is no token named {name!r}", "`agentd token list` shows them.")
            entries[:] = kept

    def _check_new(self, name: str, scopes: frozenset[str]) -> None:
        if not _NAME.fullmatch(name) or name == LOCAL:
            raise TokenError(f"{name!r} is no name for a token", "Use 1 to 64 letters, digits, . _ - and not `local`.")
        if not scopes or scopes - SCOPES:
            raise TokenError(f"unknown scopes: {', '.join(sorted(scopes)) or 'none'}", "Use chat, operator, admin.")

    @contextmanager
    def _changing(self) -> Iterator[list[TokenEntry]]:
        """The entries as they stand on disk, under the writers' lock; written back when the block ends well."""
        lock = os.open(self._path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _, entries = self._read_entries()
            yield entries
            _write_private(self._path, msgspec.json.format(msgspec.json.encode(_File(entries)), indent=2))
            self._mark, self._entries = self._read_entries()
        finally:
            os.close(lock)

    def _reread(self, *, at_once: bool = False) -> None:
        now = self._clock.monotonic_s()
        if now - self._checked_s < RECHECK_S and not at_once:
            return
        self._checked_s = now
        try:
            if _mark(self._path) != self._mark:
                self._mark, self._entries = self._read_entries()
            if _mark(self._local_path) != self._local_mark:
                self._local_mark, self._local = self._read_local()
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            log.error("tokens.unreadable", error=type(error).__name__)

    def _read_entries(self) -> tuple[_Mark, list[TokenEntry]]:
        mark = _mark(self._path)
        if mark is None:
            return None, []
        _keep_private(self._path)
        return mark, msgspec.json.decode(self._path.read_bytes(), type=_File).tokens

    def _read_local(self) -> tuple[_Mark, str]:
        if _mark(self._local_path) is None:
            _write_private(self._local_path, self._clock.new_secret().encode() + b"\n")
        _keep_private(self._local_path)
        mark, token = _mark(self._local_path), self._local_path.read_text("ascii").strip()
        if len(token) < 32:
            raise ValueError("the local token is too short; remove the file to have a new one made")
        return mark, token


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def _mark(path: Path) -> _Mark:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _keep_private(path: Path) -> None:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        log.warning("tokens.were_readable_by_others", file=path.name)
        path.chmod(0o600)


def _write_private(path: Path, content: bytes) -> None:
    """Replace the file whole, readable by its owner only; after a crash there is the old one or the new one."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    file = os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, content)
        os.fsync(file)
    finally:
        os.close(file)
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
