"""Who may see which session or run over HTTP: the checks of a socket, for requests that come and go.

A session is its owner's and every operator's; a run is seen by who sees its session, and to all others it does not
exist. The server's own session is the operators'.
"""

import re
from dataclasses import dataclass

import msgspec
from starlette.requests import Request

from agentd.actors.seat import Seat
from agentd.actors.server import ServerActor
from agentd.core.server import KEY as SERVER
from agentd.edge.auth import check_session
from agentd.edge.http import HttpApp
from agentd.edge.reception import Reception
from agentd.edge.tokens import Principal
from agentd.protocol.errors import Forbidden, InvalidPayload, NotFound
from agentd.store.store import RunRow

ID_CHARS_MAX = 128
_COUNT = re.compile(r"[0-9]{1,18}")


class Resume(msgspec.Struct, frozen=True):
    """Where a client wants to go on: after the fact `after` of the log `log`."""

    after: int | None
    log: str | None


@dataclass(frozen=True)
class SeenRun:
    """A run for who may see it; `first` and `last` are the seqs of its kept facts."""

    row: RunRow
    first: int
    last: int
    seat: Seat


class Access:
    """The door of the pages and scripts."""

    def __init__(self, http: HttpApp, reception: Reception) -> None:
        self.http = http
        self.reception = reception

    def principal(self, request: Request, scope: str | None = None) -> Principal:
        """Whose request it is, when it may have answers now.

        Raises:
            InvalidPayload: a token in the address. Unauthorized, Overloaded: the credential.
            Forbidden: origin or scope. Draining: the server is starting or going.
        """
        principal = self.http.principal(request) if scope is None else self.http.require(request, scope)
        self.reception.check_open()
        return principal

    async def session(self, request: Request, principal: Principal) -> Seat | ServerActor:
        """The session named in the path. Raises Forbidden, NotFound, InvalidPayload."""
        key = check_session(request.path_params["key"])
        operator = "operator" in principal.scopes
        if key.startswith("_"):
            if not operator:
                raise Forbidden("keys that begin with _ are the server's own", details={"required": "operator"})
            if key == SERVER:
                return self.reception.server
            raise NotFound(f"no session {key}", kind="session")
        if not operator and "chat" not in principal.scopes:
            raise Forbidden("this token may not chat", details={"required": "chat"})
        actor = await self.reception.existing(key)
        if actor.state.owner != principal.name and not operator:
            raise Forbidden(f"session {key} belongs to another principal", details={"required": "operator"})
        return actor

    async def run(self, request: Request, principal: Principal) -> SeenRun:
        """The run named in the path, with its session. Raises NotFound, Forbidden."""
        run = request.path_params["run"]
        if not operator_or_chat(principal):
            raise Forbidden("this token may not chat", details={"required": "chat"})
        found = await self.reception.shared.store.kept_run(run) if len(run) <= ID_CHARS_MAX else None
        if found is not None:
            seat = await self.reception.existing(found.row.session)
            if seat.state.owner == principal.name or "operator" in principal.scopes:
                if found.first is None or found.last is None:
                    raise NotFound(f"run {run} is not kept any more", kind="run")
                return SeenRun(found.row, found.first, found.last, seat)
        raise NotFound(f"no run {run[:ID_CHARS_MAX]}", kind="run")


def operator_or_chat(principal: Principal) -> bool:
    return not principal.scopes.isdisjoint({"operator", "chat"})


def read_resume(request: Request) -> Resume:
    """The cursor of a request: `Last-Event-ID`, which a client that comes back sends by itself, before `?after=`.

    Raises:
        InvalidPayload: it is no number, or a field is given twice.
    """
    after = single(request, "after")
    header = request.headers.get("last-event-id") or None
    for name, value in (("last-event-id", header), ("after", after)):
        if value is not None and not _COUNT.fullmatch(value):
            raise InvalidPayload(f"{name} must be a whole number from 0", path=name)
    text = header if header is not None else after
    return Resume(after=None if text is None else int(text), log=single(request, "log"))


def single(request: Request, name: str) -> str | None:
    """A field of the address. Raises InvalidPayload when it is given twice."""
    values = request.query_params.getlist(name)
    if len(values) > 1:
        raise InvalidPayload(f"{name} is given twice", path=name)
    return values[0] if values else None
