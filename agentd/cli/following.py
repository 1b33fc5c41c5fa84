"""A stream of events that goes on over lost connections: each event with a number once, up to the stream's end.

A lost connection is tried again for `RECONNECT_S` from the last number on; the address is looked up each time, because
a server that was started anew may have another one.
"""

import asyncio
from collections.abc import Callable, Iterator

from agentd.cli.address import Server
from agentd.cli.download import BrokenOff, Event, events, opened
from agentd.cli.failure import UNREACHABLE, Failure
from agentd.clock import Clock, SystemClock

RECONNECT_S = 60.0
WAIT_S = (0.1, 3.0)  # the first wait and the longest
ENDS = frozenset({"run.completed", "run.failed", "run.cancelled"})


def follow(find: Callable[[], Server], path: str, clock: Clock | None = None) -> Iterator[Event]:
    """The events of a run's stream until its end.

    Raises:
        Failure: refused, or not reachable for `RECONNECT_S`; at the first try at once.
    """
    clock = clock or SystemClock()
    last: str | None = None
    lost_s: float | None = None
    wait_s = WAIT_S[0]
    while True:
        try:
            headers = {} if last is None else {"Last-Event-ID": last}
            with opened(find(), path, headers) as response:
                if response.status == 204:
                    return
                for event in events(response):
                    lost_s, wait_s = None, WAIT_S[0]
                    last = event.id or last
                    yield event
                    if event.type in ENDS:
                        return
        except BrokenOff:
            lost_s = lost_s if lost_s is not None else clock.monotonic_s()
        except Failure as failure:
            if failure.code != UNREACHABLE or last is None or lost_s is None:
                raise
            if clock.monotonic_s() - lost_s > RECONNECT_S:
                raise
        else:  # the server ended it: it is going down
            lost_s = lost_s if lost_s is not None else clock.monotonic_s()
        asyncio.run(clock.sleep(wait_s))
        wait_s = min(wait_s * 2, WAIT_S[1])
