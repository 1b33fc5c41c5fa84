"""What is wrong with a store at its opening, and what a failure of SQLite means while it runs.

A `StoreError` ends the start of the process: a sentence and a remedy, never a traceback. While the server runs a
failure becomes a `Failure`: what clients are told, and whether the process may go on. Two kinds are fatal: after a
failed sync nobody knows what the disk holds (the kernel forgets the pages it could not write), and a malformed file
must not be written to.
"""

import sqlite3

import msgspec

from agentd.protocol.errors import StorageUnavailable

_FAILED_SYNC = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC, sqlite3.SQLITE_IOERR_CLOSE})
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

# Which the shared-memory file of the write-ahead log meets when it can't grow.
_FULL = frozenset({sqlite3.SQLITE_IOERR_SHMSIZE})

_TOLD = {
    sqlite3.SQLITE_FULL: ("the disk is full", "free space where the state directory lies; nothing has to be restarted"),
    sqlite3.SQLITE_READONLY: ("the database is read-only", "make the state directory and its files writable"),
    sqlite3.SQLITE_BUSY: ("another program holds the database", "close the program that has the database file open"),
    sqlite3.SQLITE_LOCKED: ("another program holds the database", "close the program that has the database file open"),
    sqlite3.SQLITE_CANTOPEN: ("the database file can't be opened", "check the state directory and its permissions"),
    sqlite3.SQLITE_IOERR: ("the disk reports an input/output error", "check the disk and the system's log"),
    sqlite3.SQLITE_CORRUPT: ("the database is damaged", "restart agentd: it moves the file aside and saves the rest"),
    sqlite3.SQLITE_NOTADB: ("the database is damaged", "restart agentd: it moves the file aside and saves the rest"),
}


class StoreError(Exception):
    """The store can't be opened. `message` says what is wrong, `hint` what to do next."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.message = message
        self.hint = hint


class Failure(msgspec.Struct, frozen=True):
    """A failure of SQLite in words. `fatal`: the process must stop taking work. `damage`: the file is malformed."""

    message: str
    hint: str
    fatal: bool
    damage: bool

    def unavailable(self) -> StorageUnavailable:
        return StorageUnavailable(
            f"the log can't be written or read now: {self.message}", hint=self.hint, retryable=not self.fatal
        )


def failure_of(error: sqlite3.Error, *, writing: bool) -> Failure:
    """What `error` means; `writing` tells a commit from a read (a damaged page that is only read is not fatal)."""
    code = sqlite_code(error)
    code = sqlite3.SQLITE_FULL if code in _FULL else code
    message, hint = _TOLD.get(code & 0xFF, (f"SQLite: {error}", "run `agentd doctor`"))
    damage = code & 0xFF in _DAMAGE
    return Failure(message, hint, fatal=code in _FAILED_SYNC or (damage and writing), damage=damage)


def sqlite_code(error: sqlite3.Error) -> int:
    """The extended result code; 0 for errors of Python's own module, which have none.

    Text that is no UTF-8 was spoiled on the disk; that error quotes it, so its words are never told."""
    if str(error).startswith("Could not decode to UTF-8"):
        return sqlite3.SQLITE_CORRUPT
    return int(getattr(error, "sqlite_errorcode", 0) or 0)


def is_damage(error: sqlite3.Error) -> bool:
    return sqlite_code(error) & 0xFF in _DAMAGE
