"""`/v1` for pages and scripts: reads over HTTP, by the functions that answer the same questions on a socket.

Every answer that is no success is the error object; what is listed here stands in `/v1/openapi.json`, and a test holds
the two together.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agentd import __version__
from agentd.actors.seat import Seat
from agentd.actors.server import ServerActor
from agentd.core.export import VERSION, Header, fact_line, snapshot_line
from agentd.edge import openapi, questions
from agentd.edge.access import Access, single
from agentd.edge.download import Download, Downloads
from agentd.edge.following import Following
from agentd.edge.http import HttpApp, json_response
from agentd.edge.reception import Reception
from agentd.edge.streams import Streams
from agentd.edge.tokens import Principal
from agentd.protocol import commands as c
from agentd.protocol.codec import encode
from agentd.protocol.errors import InvalidPayload, NotFound, StorageUnavailable
from agentd.protocol.facts import RunKind, RunState
from agentd.protocol.web import RunView, SessionView

PAGE_FACTS = 1_000
PAGE_BYTES = 512 * 1024

F = TypeVar("F", bound=c.Request)


def serve_api(http: HttpApp, reception: Reception) -> Streams:
    """Add every route of `/v1` that reads; the streams are ended by who stops the server."""
    limits = reception.settings.limits
    streams = Streams(
        reception.clock, reception.supervisor, streams=limits.sockets, outbox_bytes=limits.outbox_bytes,
        outbox_frames=limits.outbox_frames,
    )  # fmt: skip
    access = Access(http, reception)
    http.add(*Following(access, streams).routes(), *Api(access).routes())
    return streams


@dataclass(frozen=True)
class Visitor:
    """A `Reader` for one request."""

    principal: Principal
    session: str
    seat: Seat | None

    def operator(self) -> bool:
        return "operator" in self.principal.scopes


class Api:
    """The routes that answer and are done."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._reception = access.reception
        self._store = access.reception.shared.store
        self._downloads = Downloads()

    def routes(self) -> list[Route]:
        return [
            Route("/v1/openapi.json", self.openapi),
            Route("/v1/status", self.status),
            Route("/v1/sessions", self.sessions),
            Route("/v1/sessions/{key}", self.session),
            Route("/v1/sessions/{key}/history", self.history),
            Route("/v1/sessions/{key}/export", self.export),
            Route("/v1/runs/{run}", self.run),
            Route("/v1/runs/{run}/trace", self.trace),
        ]

    async def openapi(self, request: Request) -> Response:
        """Open to everybody, as liveness is: it says what this version can do and nothing of what is in it."""
        return Response(openapi.document_bytes(), headers={"content-type": "application/json"})

    async def status(self, request: Request) -> Response:
        self._access.principal(request, "operator")
        return json_response(self._reception.server_state())

    async def sessions(self, request: Request) -> Response:
        principal = self._access.principal(request)
        asked = _asked(request, c.SessionList, "limit", "cursor")
        return json_response(await questions.listed(self._reception, Visitor(principal, "", None), asked))

    async def session(self, request: Request) -> Response:
        principal = self._access.principal(request)
        actor = await self._access.session(request, principal)
        view = SessionView(
            session=actor.feed.session, ts=self._reception.clock.now_ms(), log=self._reception.log_id,
            mode=actor.state.mode, seq=actor.feed.seq, **_told(actor),
        )  # fmt: skip
        return json_response(view)

    async def history(self, request: Request) -> Response:
        principal = self._access.principal(request)
        asked = _asked(request, c.SessionHistory, "leaf_id", "limit", "before")
        actor = await self._access.session(request, principal)
        if isinstance(actor, ServerActor):
            raise NotFound("the server's own session has no history", kind="entry", hint="Read its events.")
        visitor = Visitor(principal, actor.feed.session, actor)
        return json_response(await questions.history(self._reception, visitor, asked, visitor.session))

    async def export(self, request: Request) -> Response:
        principal = self._access.principal(request)
        self._downloads.check_room()
        actor = await self._access.session(request, principal)
        told = _told(actor)
        header = Header(
            version=VERSION, log=self._reception.log_id, session=actor.feed.session, agent=told["agent"],
            owner=told["owner"], first=told["first"], seq=actor.feed.seq, exported=self._reception.clock.now_ms(),
            server=__version__, caps=self._reception.shared.caps,
        )  # fmt: skip
        return Download(self._downloads, self._exported(header), header.session.replace(":", "_"))

    async def run(self, request: Request) -> Response:
        principal = self._access.principal(request)
        run = await self._access.run(request, principal)
        row = run.row
        view = RunView(
            run=row.run, session=row.session, ts=self._reception.clock.now_ms(), kind=cast(RunKind, row.kind),
            state=cast(RunState, row.state), accepted=row.accepted, started=row.started, ended=row.ended,
            cause=None if row.cause is None else msgspec.Raw(row.cause), first=run.first, last=run.last,
        )  # fmt: skip
        return json_response(view)

    async def trace(self, request: Request) -> Response:
        principal = self._access.principal(request)
        self._downloads.check_room()
        run = await self._access.run(request, principal)
        return Download(self._downloads, self._traced(run.row.run), run.row.run)

    async def _traced(self, run: str) -> AsyncIterator[bytes]:
        run_seq = 0
        while True:
            page = await self._store.read_run(run, run_seq, PAGE_FACTS, PAGE_BYTES)
            if not page.bodies:
                return
            run_seq = page.first + len(page.bodies) - 1
            yield b"\n".join((*page.bodies, b""))

    async def _exported(self, header: Header) -> AsyncIterator[bytes]:
        """The lines of an export (core/export.py), up to the seq in its header."""
        yield encode(header) + b"\n"
        if header.first > 1:
            kept = await self._store.snapshot(header.session, header.first - 1)
            if kept is not None:
                yield snapshot_line(kept.seq, kept.version, kept.body)
        after = header.first - 1
        while after < header.seq:
            page = await self._store.read_steps(header.session, after, min(PAGE_FACTS, header.seq - after), PAGE_BYTES)
            if not page.bodies or page.first != after + 1:
                raise StorageUnavailable(f"facts of {header.session} after {after} are gone", retryable=True)
            after += len(page.bodies)
            yield b"".join(map(fact_line, page.steps, page.bodies))


def _told(actor: Seat | ServerActor) -> dict[str, Any]:
    """What a session and the server's own one have in common, as fields of a `SessionView`."""
    if isinstance(actor, ServerActor):
        return {"agent": actor.feed.session, "owner": "agentd", "created": 0, "epoch": 0, "leaf": None, "first": 1,
                "unfinished": 0, "last_goal": None}  # fmt: skip
    state = actor.state
    return {"agent": state.agent, "owner": state.owner, "created": state.created, "epoch": state.epoch,
            "leaf": state.leaf, "first": actor.first, "unfinished": actor.unfinished,
            "last_goal": state.last_goal}  # fmt: skip


def _asked(request: Request, kind: type[F], *names: str) -> F:
    """The same question as a frame, from the fields of the address, with the frame's bounds."""
    given = {name: value for name in names if (value := single(request, name)) is not None}
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$.")
        raise InvalidPayload(what, path=path.rstrip("`") or "query") from None
