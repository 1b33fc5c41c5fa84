"""`POST /v1/import?dir=PATH`: the older format of a directory on the server's machine, for who has the scope admin.

The answer is NDJSON: how far it is after each snapshot, the last line `done`. It goes on when its reader hangs up half
way no further than the snapshot it is at; asked again it goes on from there, because each is taken once.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from agentd.actors.directory import Directory
from agentd.actors.importing import import_folder
from agentd.edge.http import HttpApp
from agentd.protocol.errors import InvalidPayload, NotFound
from agentd.protocol.facts import By
from agentd.store.legacy import INDEX

PATH = "/v1/import"


def import_route(http: HttpApp, directory: Directory) -> Route:
    async def take(request: Request) -> Response:
        principal = http.require(request, "admin")
        named = request.query_params.getlist("dir")
        if len(named) != 1 or not named[0]:
            raise InvalidPayload("`dir` names the directory", path="dir", hint="As in /v1/import?dir=/srv/old")
        folder = Path(named[0])
        if not folder.is_absolute() or not (folder / INDEX).is_file():
            raise NotFound(f"there is no {INDEX} in {folder}", kind="directory", hint="Give an absolute path.")
        by = By(principal=principal.name, via="http")

        async def lines() -> AsyncIterator[bytes]:
            async for told in import_folder(directory, folder, by):
                yield msgspec.json.encode(told) + b"\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    return Route(PATH, take, methods=["POST"])
