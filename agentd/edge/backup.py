"""`POST /v1/backup`: a copy of the database of the running server, for who has the scope admin.

HTTP and no frame, because a copy may take minutes and a request on a socket has 30 s; and because what asks for it is a
program of the operator (`agentd backup`, cron) and no chat client. The answer names a file on the server's machine; the
content never goes over the wire.
"""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agentd.edge.http import HttpApp, json_response
from agentd.store.backup import Backups

PATH = "/v1/backup"


def backup_route(http: HttpApp, backups: Backups) -> Route:
    async def make(request: Request) -> Response:
        http.require(request, "admin")
        return json_response(await backups.make())

    return Route(PATH, make, methods=["POST"])
