"""`agentd export`: everything that the log holds of one session, in the form of docs/export.md."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import msgspec
from cyclopts import Parameter

from agentd.cli import address
from agentd.cli.address import NOWHERE, Where
from agentd.cli.download import BrokenOff, opened, pages
from agentd.cli.failure import DONE, USAGE, Failure
from agentd.core.export import Header


def export(
    session: Annotated[str, Parameter(help="The session.")],
    /,
    *,
    out: Annotated[Path | None, Parameter(help="A file to write, which is there only when it is whole.")] = None,
    where: Where = NOWHERE,
) -> int:
    """Write a session with all its facts, one JSON object a line."""
    server = address.find(where, os.environ)
    try:
        with opened(server, f"/v1/sessions/{quote(session, safe='')}/export") as response:
            if out is None:
                _count(_through(pages(response)))
            else:
                _save(pages(response), out)
    except BrokenOff as error:
        raise Failure(f"the export broke off: {error}", "What was written is not whole; export again.") from error
    return DONE


def _through(given: Iterator[bytes]) -> Iterator[bytes]:
    """On to stdout."""
    for piece in given:
        sys.stdout.buffer.write(piece)
        yield piece
    sys.stdout.buffer.flush()


def _save(given: Iterator[bytes], out: Path) -> None:
    """Under another name until it is whole."""
    part = out.with_name(out.name + ".part")
    try:
        with part.open("wb") as file:

            def written() -> Iterator[bytes]:
                for piece in given:
                    file.write(piece)
                    yield piece

            facts = _count(written())
            file.flush()
            os.fsync(file.fileno())
        part.replace(out)
    except OSError as error:
        if error.filename is None:  # a read, not a file
            raise
        raise Failure(f"{out} can't be written: {error.strerror}", "Choose another place.", code=USAGE) from error
    finally:
        part.unlink(missing_ok=True)
    print(f"{facts} facts in {out}", file=sys.stderr)


def _count(given: Iterator[bytes]) -> int:
    """How many facts went by. Raises BrokenOff when these are not all that the header speaks of."""
    first, lines = b"", 0
    for piece in given:
        if not lines:
            first += piece
        lines += piece.count(b"\n")
    try:
        header = msgspec.json.decode(first.partition(b"\n")[0], type=Header)
    except msgspec.MsgspecError as error:
        raise BrokenOff(f"it has no header ({error})") from error
    facts = header.seq - header.first + 1
    if lines - 1 not in (facts, facts + (header.first > 1)):
        raise BrokenOff(f"{lines - 1} lines of {facts}")
    return facts
