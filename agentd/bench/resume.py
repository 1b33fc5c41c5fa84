"""A client that comes back: from its cursor to the last fact, timed, its stream checked."""

import asyncio

from agentd.bench.checker import Found, StreamChecker
from agentd.bench.child import Server
from agentd.bench.client import connect
from agentd.bench.frames import Frame
from agentd.bench.talker import Watcher
from agentd.clock import Clock

LEVEL_S = 30.0


class Returning(Watcher):
    """Connects with `after` and is level when it has seen the number that the greeting told."""

    def __init__(self, found: Found, key: str, after: int) -> None:
        super().__init__(StreamChecker(found, f"{key} after {after}", after=after, alone=False))
        self.level: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._until: int | None = None

    def heard(self, frame: Frame, now_s: float, data: bytes) -> None:
        self.checker.feed(frame)
        if frame.type == "session.ack":
            self._until = frame.seq
        if self._until is not None and (self.checker.seq or 0) >= self._until and not self.level.done():
            self.level.set_result(now_s)


async def come_back(server: Server, key: str, after: int, found: Found, clock: Clock) -> float:
    """Seconds from the intention to connect until level. A socket that is not level in time is a breach, and infinite.

    Raises NotOpened.
    """
    began_s = clock.monotonic_s()
    returning = Returning(found, key, after)
    address = f"{server.url.replace('http', 'ws', 1)}/v1/agents/default/stream?session={key}&after={after}"
    returning.socket = await connect(address, server.token, returning, clock)
    try:
        async with asyncio.timeout(LEVEL_S):
            return await returning.level - began_s
    except TimeoutError:
        found.add("seq-missing", f"{key} was not level {LEVEL_S:.0f} s after its return, at {returning.checker.seq}")
        return float("inf")
    finally:
        await returning.socket.close()
