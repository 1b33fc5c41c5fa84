"""`agentd backup [FILE]`: have the running server copy its database, and take the copy to where it is wanted.

The server writes into `backups/` of its state directory and names the file; nobody but the server opens the database.
With FILE the copy is moved there, which needs this command to run where the server does.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from agentd.cli import address
from agentd.cli.address import NOWHERE, Where
from agentd.cli.chat import Json
from agentd.cli.failure import DONE, UNREACHABLE, USAGE, Failure, refused
from agentd.cli.probe import post
from agentd.cli.screen import errors_as, print_json

ANSWER_S = 660.0  # the server gives a copy ten minutes


class _Made(msgspec.Struct):
    path: str
    bytes: int
    facts: int
    log: str
    duration_ms: int


def backup(
    file: Annotated[Path | None, Parameter(help="Where to move the copy. [default: leave it in backups/]")] = None,
    /,
    *,
    json: Json = False,
    where: Where = NOWHERE,
) -> int:
    """Copy the database of the running server."""
    if file is not None and file.exists():
        raise Failure(f"{file} exists already", "Name a file that is not there.", code=USAGE)
    with errors_as(json):
        made = _asked(where)
    if file is not None:
        made.path = str(_moved(Path(made.path), file))
    if json:
        print_json(made)
    else:
        print(made.path)
        print(f"{made.facts} facts, {made.bytes / 1e6:.1f} MB, in {made.duration_ms / 1000:.1f} s", file=sys.stderr)
    return DONE


def _asked(where: Where) -> _Made:
    answer = post(address.find(where, os.environ), "/v1/backup", ANSWER_S)
    if answer.status == 0:
        raise Failure(f"the server does not answer: {answer.text}", "Start it, or name another.", code=UNREACHABLE)
    try:
        if answer.status == 200:
            return msgspec.json.decode(answer.text, type=_Made)
        raise refused(msgspec.json.decode(answer.text, type=dict[str, object]))
    except msgspec.MsgspecError:
        raise Failure(f"this is no agentd, or another version: it answers {answer.status}") from None


def _moved(made: Path, file: Path) -> Path:
    """Copied, synced, named, and only then removed where it was: it may be another disk."""
    beside = file.with_name(file.name + ".partial")
    try:
        if not made.exists():
            raise Failure(f"the backup is on the server's machine: {made}", "Run this command there.")
        with made.open("rb") as source, open(beside, "xb", opener=_private) as target:
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
        beside.rename(file)
        made.unlink()
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise Failure(f"{file} can't be written: {error.strerror}", f"The backup is in {made}.") from error
    return file.absolute()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
