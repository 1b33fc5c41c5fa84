"""`POST /v1/import?dir=PATH`: the older format of a directory on the server's machine, for who has the scope admin.

The answer is NDJSON: how far it is after each snapshot; the last line is `done` and tells what was left out and why.
When its reader hangs up half way, or reads nothing for a minute, it goes no further than the snapshot it is at; asked
again it goes on from there, because each is taken once.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agentd.actors.directory import Directory
from agentd.actors.importing import import_folder
from agentd.edge.download import Download, Downloads
from agentd.edge.http import HttpApp
from agentd.protocol.errors import InvalidPayload, NotFound
from agentd.protocol.facts import By
from agentd.store.legacy import INDEX

PATH = "/v1/import"


def import_route(http: HttpApp, directory: Directory) -> Route:
    imports = Downloads()

    async def take(request: Request) -> Response:
        principal = http.require(request, "admin")
        imports.check_room()
        named = request.query_params.getlist("dir")
        if len(named) != 1 or not named[0]:
            raise InvalidPayload("`dir` names the directory", path="dir", hint="As in /v1/import?dir=/srv/old")
        folder = Path(named[0])
        if not folder.is_absolute() or not (folder / INDEX).is_file():
            raise NotFound(f"there is no {INDEX} in {folder}", kind="directory", hint="Give an absolute path.")
        by = By(principal=principal.name, via="http")

        async def lines() -> AsyncIterator[bytes]:
            async for told in import_folder(directory, folder, by):
                # What was left out is told once, at the end: with each line it would grow with the square of it.
                yield msgspec.json.encode(told if told.done else replace(told, reasons=[])) + b"\n"

        return Download(imports, lines())

    return Route(PATH, take, methods=["POST"])
