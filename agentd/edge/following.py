"""`GET /v1/sessions/{key}/events` and `GET /v1/runs/{run}/events`: where a stream begins, and who may open one.

A stream is a follower like a socket's (actors/feed.py): its place is found in the loop turn in which it begins, so
that nothing lies between what is stored and what is live. A session's stream begins where the client says, else with
what comes next; a run's with the run, because it has an end and is read as a whole. Whoever comes back to a run that
it has heard to its end is told so by 204, which also stops a browser from asking again.
"""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agentd.actors.feed import Follower
from agentd.actors.seat import Seat
from agentd.actors.server import ServerActor
from agentd.edge.access import Access, Resume, read_resume
from agentd.edge.sse import EventStream
from agentd.edge.streams import Streams
from agentd.edge.tokens import Principal
from agentd.protocol.codec import encode
from agentd.protocol.replies import Reset
from agentd.protocol.web import StreamOpened
from agentd.store.store import RunRow

Begin = Callable[[EventStream], Follower]


class Following:
    """The routes of the streams."""

    def __init__(self, access: Access, streams: Streams) -> None:
        self._access = access
        self._reception = access.reception
        self._streams = streams

    def routes(self) -> list[Route]:
        return [
            Route("/v1/sessions/{key}/events", self.session),
            Route("/v1/runs/{run}/events", self.run),
        ]

    async def session(self, request: Request) -> Response:
        principal = self._access.principal(request)
        resume = read_resume(request)
        actor = await self._access.session(request, principal)
        self._check_room(actor.feed.session)

        def begin(stream: EventStream) -> Follower:
            here = self._reception.present(actor)
            first = _first(here)
            after, reset = self._reception.placed(resume.after, resume.log, here.feed.seq, first)
            return self._follow(stream, here, principal, after, first, reset)

        return self._stream(actor.feed.session, begin)

    async def run(self, request: Request) -> Response:
        principal = self._access.principal(request)
        resume = read_resume(request)
        run = await self._access.run(request, principal)
        row, first = run.row, run.first
        if self._heard(row, resume, run.last):
            return Response(status_code=204, headers={"cache-control": "no-store"})
        self._check_room(row.session)

        def begin(stream: EventStream) -> Follower:
            here = self._reception.present(run.seat)
            after, reset = first - 1, None
            if resume.after is not None:
                found = self._reception.placed(resume.after, resume.log, here.feed.seq, _first(here))
                after, reset = (max(found[0], first - 1), None) if found[1] is None else (first - 1, found[1])
            return self._follow(stream, here, principal, after, first, reset, row.run)

        return self._stream(row.session, begin, row.run)

    def _heard(self, row: RunRow, resume: Resume, last: int) -> bool:
        """The client has the run's end already."""
        known = resume.log is None or resume.log == self._reception.log_id
        return known and row.ended is not None and resume.after is not None and resume.after >= last

    def _check_room(self, session: str) -> None:
        self._reception.check_room(session)
        self._streams.check_room()

    def _stream(self, session: str, begin: Begin, run: str | None = None) -> EventStream:
        return EventStream(self._streams, begin, lambda: self._reception.left(session), run=run)

    def _follow(
        self,
        stream: EventStream,
        actor: Seat | ServerActor,
        principal: Principal,
        after: int,
        first: int,
        reset: Reset | None,
        run: str | None = None,
    ) -> Follower:
        """Greet, then follow, in one loop turn."""
        reception, feed = self._reception, actor.feed
        opened = StreamOpened(
            session=feed.session, ts=reception.clock.now_ms(), run=run, log=reception.log_id, first=first,
            seq=feed.seq, reset=reset,
        )  # fmt: skip
        stream.greet(encode(opened), "stream.opened")
        follower = feed.add(stream, after)
        follower.operator = "operator" in principal.scopes
        follower.principal = principal.name
        reception.came(feed.session)
        self._streams.opened += 1
        follower.follow()
        return follower


def _first(actor: Seat | ServerActor) -> int:
    return actor.first if isinstance(actor, Seat) else 1
