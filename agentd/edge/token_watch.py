"""Tokens that the command line gives out or takes back while the server runs: told in `_server`, and obeyed.

The file of tokens is the command line's; a server that runs is not asked. So it looks: what is new is a fact, what is
gone is a fact, and whoever is connected with a token that is gone is disconnected. A token that was taken back and
given out again under the same name is another one; when it was made tells them apart.
"""

import structlog

from agentd.actors.directory import Directory
from agentd.actors.feed import Feed
from agentd.actors.server import ServerActor
from agentd.clock import Clock
from agentd.edge.tokens import Tokens
from agentd.protocol import facts as f
from agentd.protocol.codec import encode
from agentd.protocol.errors import StorageUnavailable, Unauthorized

WATCH_S = 1.0
ARRIVING_S = 30.0  # who was let in just before is connected by then, and disconnected at the next look
BY = f.By(principal="local", via="cli")

log = structlog.get_logger(__name__)


class TokenWatch:
    """Kept while the server listens."""

    def __init__(self, tokens: Tokens, server: ServerActor, directory: Directory, clock: Clock) -> None:
        self._tokens = tokens
        self._server = server
        self._directory = directory
        self._clock = clock
        self._gone: dict[str, float] = {}

    async def run(self) -> None:
        """For ever: look. What could not be stored is told at the next look."""
        while True:
            try:
                await self.look()
            except (StorageUnavailable, TimeoutError) as error:
                log.warning("tokens.not_recorded", reason=str(error))
            await self._clock.sleep(WATCH_S)

    async def look(self) -> None:
        """Once. Who has lost its token is disconnected before that is stored.

        Raises:
            StorageUnavailable, TimeoutError: a fact could not be stored.
        """
        now = {entry.name: entry for entry in self._tokens.entries()}
        gone = [
            name for name, made in self._server.state.tokens.items()
            if name not in now or now[name].created_ms != made
        ]  # fmt: skip
        late_s = self._clock.monotonic_s()
        self._gone = {name: until for name, until in self._gone.items() if until > late_s and name not in now}
        for name in [*gone, *self._gone]:
            self._disconnect(name)
        for name in gone:
            self._gone[name] = late_s + ARRIVING_S
            await self._server.record(f.TokenRevoked, BY, name=name)
        for name, entry in now.items():
            if name not in self._server.state.tokens:
                await self._server.record(f.TokenAdded, BY, name=name, scopes=entry.scopes, created_ms=entry.created_ms)

    def _disconnect(self, name: str) -> None:
        feeds = [self._server.feed, *(seat.feed for seat in self._directory)]
        left = sum(self._close(feed, name) for feed in feeds)
        if left:
            log.info("tokens.disconnected", name=name, followers=left)

    def _close(self, feed: Feed, name: str) -> int:
        mine = [follower for follower in feed.followers if follower.principal == name]
        error = Unauthorized("this token was revoked", hint="Ask for another one.")
        frame = encode(error.frame(session=feed.session, ts=self._clock.now_ms(), request=None))
        for follower in mine:
            follower.sink.close(1008, error.code, last=frame)
        return len(mine)
