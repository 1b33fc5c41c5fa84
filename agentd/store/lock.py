"""One process per state directory: a lock on the file `lock` that the kernel gives back when the process dies.

The file stays where it is (removing it would let two processes lock two files of one name); its content only names
the owner in the message.
"""

import errno
import fcntl
import os
from pathlib import Path

from agentd.store.errors import StoreError

LOCK_FILE = "lock"


class StateLock:
    """A held lock; `release` gives it back."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    @classmethod
    def acquire(cls, state: Path) -> "StateLock":
        """Take the lock of the directory `state` at once.

        Raises:
            StoreError: another process holds it, or the directory is missing or not writable.
        """
        fd = _open(state)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            os.close(fd)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise StoreError(
                    f"the state directory {state} can't be locked: {error.strerror}",
                    hint="put it on a local disk with free space",
                ) from error
            who = f"process {owner}" if owner.isdigit() else "another process"
            raise StoreError(
                f"the state directory {state} is in use by another agentd ({who})",
                hint="stop that server, or give this one a state directory of its own ([server] state_dir)",
            ) from None
        return cls(fd)

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def owner_of(state: Path) -> int | None:
    """The process that holds the lock of `state`, without taking it: 0 when it is held by an unnamed one."""
    try:
        fd = os.open(state / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        return int(owner) if owner.isdigit() else 0
    else:
        return None
    finally:
        os.close(fd)


def _open(state: Path) -> int:
    if not state.is_dir():
        raise StoreError(f"the state directory {state} does not exist", hint=f"create it: mkdir -p {state}")
    try:
        return os.open(state / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(
            f"the state directory {state} can't be written: {error.strerror}",
            hint="make it writable for this user, or choose another one ([server] state_dir)",
        ) from error
