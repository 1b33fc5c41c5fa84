"""The appender of `_server`: one fact at a time, stored before it counts, followed like any session."""

import asyncio
from collections.abc import Callable
from typing import Any

from agentd.actors.feed import Feed
from agentd.actors.shared import Shared
from agentd.core.server import KEY, ServerState, evolve
from agentd.protocol import facts as f
from agentd.protocol.codec import decode_fact, encode
from agentd.protocol.errors import AgentdError
from agentd.store.store import Append, Record, Row, SessionRow

LOCK_S = 30.0


class ServerActor:
    """The server's own acts. `state.mode` is the mode of all."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.state = ServerState()
        self.feed = Feed(KEY, 0, shared.store, shared.clock, shared.supervisor, shared.followed)
        self._lock = asyncio.Lock()

    async def load(self) -> None:
        """Rebuild from the log; a page at a time."""
        while True:
            page = await self.shared.store.read(KEY, self.state.seq)
            for body in page.bodies:
                self.state = evolve(self.state, decode_fact(body))
            if not page.bodies:
                break
        self.feed.seq = self.state.seq
        self._hold()

    async def record(self, kind: Callable[..., f.AnyFact], by: f.By | None = None, **fields: Any) -> int:
        """Store one fact of the server; its seq. What has begun to be stored is seen to its end, whoever still waits.

        Raises:
            StorageUnavailable: it is not stored and did not happen. TimeoutError: it may still be stored.
        """
        task = self.shared.supervisor.start("server.record", self._outcome(kind, by, fields))
        async with asyncio.timeout(LOCK_S):
            outcome = await asyncio.shield(task)
        if isinstance(outcome, AgentdError):
            raise outcome
        return int(outcome)

    async def _outcome(self, kind: Callable[..., f.AnyFact], by: f.By | None, fields: dict[str, Any]) -> Any:
        try:
            return await self._stored(kind, by, fields)
        except AgentdError as error:
            return error

    async def _stored(self, kind: Callable[..., f.AnyFact], by: f.By | None, fields: dict[str, Any]) -> int:
        async with self._lock:
            state = self.state
            now = max(self.shared.clock.now_ms(), state.ts)
            fact = kind(session=KEY, seq=state.seq + 1, ts=now, by=by, **fields)
            body = encode(fact)
            record = Record(seq=fact.seq, step=fact.seq, ts=now, type=str(fact.__struct_config__.tag), body=body)
            after = evolve(state, fact)
            rows: tuple[Row, ...] = (_row(after, now),)
            await self.shared.store.append(Append(session=KEY, term=self.shared.term, records=(record,), rows=rows))
            self.state = after
            if isinstance(fact, f.ServerMode):
                self._hold()
            self.feed.publish(fact.seq, [body])
            return fact.seq

    def _hold(self) -> None:
        """While the server is paused no permit is given."""
        self.shared.load.server_paused = self.state.mode == "paused"
        self.shared.dispatcher.hold(self.shared.load.server_paused)


def _row(state: ServerState, now: int) -> SessionRow:
    return SessionRow(
        key=KEY, agent="_server", owner="agentd", created=now, mode=state.mode, epoch=0, leaf=None, unfinished=0,
        wake_at=None, updated=now,
    )  # fmt: skip
