"""One request that starts a run, followed to its end; what a person interrupts in the meantime is cancelled.

The request goes under an idempotency key, so a connection that ends at any moment neither loses nor doubles it. Ctrl-C
asks the server to cancel the run in progress; the second one, or one without a run, leaves.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

from agentd.cli import address
from agentd.cli.address import Where
from agentd.cli.client import Client, Fields, Frame
from agentd.cli.failure import DONE, FAILED, INTERRUPTED, NOT_FOUND, Failure, refused
from agentd.cli.screen import ENDS, Screen, errors_as, quiet_logs
from agentd.clock import Clock, SystemClock
from agentd.supervisor import Supervisor

STOP_S = 1.0
_ENDED = frozenset({"completed", "failed", "cancelled"})


class Conversation:
    """What is said on one session. `all_runs` shows those of other clients too."""

    def __init__(
        self, client: Client, screen: Screen, clock: Clock, supervisor: Supervisor, *, all_runs: bool = False
    ) -> None:
        self.client = client
        self.screen = screen
        self.all_runs = all_runs
        self._clock = clock
        self._supervisor = supervisor
        self._run: str | None = None
        self._cancelled = False
        self._check: str | None = None

    async def turn(self, frame: Fields, *, wait: bool) -> int:
        """Send `frame` and show what comes of it, until its run has ended or, without `wait`, is accepted.

        Raises:
            Failure: the server refused it, or can't be reached any more.
        """
        key = self._clock.new_id("key")
        request = await self.client.send({**frame, "idempotency_key": key})
        self._run, self._cancelled, self._check = None, False, None
        try:
            while True:
                found = await self.client.read()
                if found.request == request or (found.type == "run.accepted" and found.get("key") == key):
                    code = self._replied(found, wait=wait)
                else:
                    code = await self._came(found)
                if code is not None:
                    return code
        finally:
            self._run = None

    async def listen_until(self, line: asyncio.Future[str | None]) -> str | None:
        """Show what comes by itself until there is a line.

        Raises:
            Failure: the server can't be reached any more.
        """
        listening = self._supervisor.start("listen", self._listen())
        try:
            await asyncio.wait({line, listening}, return_when=asyncio.FIRST_COMPLETED)
            if not line.done():
                raise listening.result()
            return line.result()
        finally:
            listening.cancel()
            await asyncio.wait({listening})

    def interrupt(self) -> bool:
        """Cancel the run in progress; False when there is none, or it was asked for before."""
        if self._run is None or self._cancelled or not self.client.connected:
            return False
        self._cancelled = True
        self._supervisor.start("cancel", self._cancel(self._run))
        return True

    def _replied(self, found: Frame, *, wait: bool) -> int | None:
        """The reply to this turn's request; None when there is more to come."""
        if found.type == "error":
            raise refused(found.fields)
        if found.type != "run.accepted":
            self._told(found, f"{found.type}: done")
            return DONE
        known, self._run = self._run is not None, found.run
        if not wait:
            self._told(found, f"accepted: {found.run}")
            return DONE
        if found.get("repeated"):
            ended = not known and found["state"] in _ENDED
            return (DONE if found["state"] == "completed" else FAILED) if ended else None
        self.screen.show(found)
        if found["state"] == "queued":
            held = found.get("held")
            self.screen.note(f"queued behind {found.get('position', 0)}" + (f" ({held})" if held else ""))
        return None

    def _told(self, found: Frame, text: str) -> None:
        if self.screen.json:
            self.screen.show(found)
        else:
            print(text, flush=True)

    async def _came(self, found: Frame) -> int | None:
        """Any other frame; the exit code when it ends this turn's run."""
        if found.request is not None and found.request == self._check and found.type == "error":
            raise Failure("the server came back without this run", "Ask again.", code=NOT_FOUND, frame=found.fields)
        if found.type == "session.ack":
            if not self.screen.json:
                self.screen.show(found)
            if found.get("reset") and self._run is not None:
                self._check = await self.client.send({"type": "events.read", "run": self._run, "limit": 1})
            return None
        mine = self._run is not None and found.run == self._run
        if mine or self.all_runs or found.type == "server.draining":
            self.screen.show(found)
        if mine and found.type in ENDS:
            return DONE if found.type == "run.completed" else FAILED
        return None

    async def _listen(self) -> Failure:
        try:
            while True:
                self.screen.show(await self.client.read())
        except Failure as failure:
            return failure

    async def _cancel(self, run: str) -> None:
        try:
            await self.client.send({"type": "agent.control", "action": "cancel", "run": run})
        except Failure as failure:
            self.screen.note(failure.message)


def hold(
    where: Where, agent: str, session: str | None, work: Callable[[Conversation], Awaitable[int]], *, json: bool,
    all_runs: bool = False,
) -> int:  # fmt: skip
    """Connect, do `work`, and leave in order whatever ends it; the exit code."""
    return asyncio.run(_held(where, agent, session, work, json, all_runs))


async def _held(
    where: Where, agent: str, session: str | None, work: Callable[[Conversation], Awaitable[int]], json: bool,
    all_runs: bool,
) -> int:  # fmt: skip
    quiet_logs()
    clock = SystemClock()
    supervisor = Supervisor(clock, lambda _: None)
    session = session or address.default_session(address.find(where, os.environ))
    client = Client(lambda: address.find(where, os.environ), clock, agent=agent, session=session)
    conversation = Conversation(client, Screen(json=json), clock, supervisor, all_runs=all_runs)
    loop, me = asyncio.get_running_loop(), asyncio.current_task()
    assert me is not None

    def interrupted() -> None:
        if conversation.interrupt():
            conversation.screen.note("cancelling; Ctrl-C again to leave")
        else:
            me.cancel()

    loop.add_signal_handler(signal.SIGINT, interrupted)
    try:
        with errors_as(json):
            async with client:
                return await work(conversation)
    except asyncio.CancelledError:
        return INTERRUPTED
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        await supervisor.stop(STOP_S)
