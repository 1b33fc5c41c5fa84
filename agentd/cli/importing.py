"""`agentd import DIR`: have the running server take in the snapshots of the older JSON format, each of them once."""

import http.client
import os
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import msgspec
from cyclopts import Parameter

from agentd.cli import address
from agentd.cli.address import NOWHERE, Server, Where
from agentd.cli.chat import Json
from agentd.cli.failure import DONE, FAILED, NOT_FOUND, UNREACHABLE, Failure, refused
from agentd.cli.screen import errors_as, one_line, print_json

ANSWER_S = 120.0  # between two lines
REASONS_SHOWN = 20


def import_(
    folder: Annotated[Path, Parameter(help="Where archive-index.ndjson is, on the server's machine.")],
    /,
    *,
    json: Json = False,
    where: Where = NOWHERE,
) -> int:
    """Import archive-index.ndjson and the snapshot files that it names. Exit 1 when something was left out."""
    if not (folder / "archive-index.ndjson").is_file():
        said = f"there is no archive-index.ndjson in {folder}"
        raise Failure(said, "Name the directory that has it.", code=NOT_FOUND)
    last: dict[str, Any] = {}
    with errors_as(json):
        for last in _told(address.find(where, os.environ), folder.resolve()):
            if sys.stderr.isatty() and not last.get("done"):
                print(f"\r{last.get('snapshots', 0)} snapshots", end="", file=sys.stderr, flush=True)
    if not last.get("done"):
        raise Failure("the server went away in the middle", "Run it again: what was taken is not taken twice.")
    if json:
        print_json(last)
    else:
        _show(last)
    return FAILED if last.get("skipped") else DONE


def _show(last: dict[str, Any]) -> None:
    print(
        f"{last.get('snapshots', 0)} snapshots with {last.get('entries', 0)} entries and {last.get('summaries', 0)}"
        f" summaries; {last.get('already', 0)} were there already, {last.get('skipped', 0)} left out"
    )
    for one in last.get("reasons", [])[:REASONS_SHOWN]:
        print(f"  {one_line(one['place'])}: {one_line(one['reason'])}", file=sys.stderr)


def _told(server: Server, folder: Path) -> Iterator[dict[str, Any]]:
    parts = urlsplit(server.url)
    host = parts.hostname or ""
    connection = (
        http.client.HTTPSConnection(host, parts.port, timeout=ANSWER_S, context=ssl.create_default_context())
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, parts.port, timeout=ANSWER_S)
    )
    try:
        headers = {"Authorization": f"Bearer {server.token}"}
        connection.request("POST", f"/v1/import?dir={quote(str(folder))}", headers=headers)
        response = connection.getresponse()
        if response.status != 200:
            raise refused(msgspec.json.decode(response.read(), type=dict[str, object]))
        while line := response.readline():
            yield msgspec.json.decode(line)
    except (OSError, http.client.HTTPException) as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise Failure(f"the server does not answer: {said}", "Start it, or name another.", code=UNREACHABLE) from None
    except msgspec.MsgspecError:
        raise Failure("this is no agentd, or another version") from None
    finally:
        connection.close()
