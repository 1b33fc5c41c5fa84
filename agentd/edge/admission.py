"""One upgrade's way to the door: room, handshake, the door's own decision within its deadline.

Nothing is written here; what refuses an upgrade is raised as the error that answers it.
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from websockets.http11 import Response
from websockets.server import ServerProtocol

from agentd.edge.door import Peer, Socket
from agentd.edge.handshake import read_request, read_upgrade_request
from agentd.edge.hub import Hub
from agentd.edge.refusal import SocketsFull
from agentd.protocol.errors import Draining, Timeout

DRAINING_RETRY_MS = 2_000


class Admitted(NamedTuple):
    response: Response
    """The 101, to be sent by the library."""
    make: Callable[[Socket], Peer]


async def admit(hub: Hub, protocol: ServerProtocol, transport: asyncio.Transport, request_bytes: bytes) -> Admitted:
    """Decide on an upgrade.

    Raises:
        AgentdError: it is refused. Any other exception is a fault of the door.
    """
    check_room(hub)
    request, response = read_request(protocol, request_bytes)
    peername = transport.get_extra_info("peername") or ("",)
    secure = transport.get_extra_info("sslcontext") is not None
    upgrade = read_upgrade_request(request, address=str(peername[0]), secure=secure)
    try:
        async with asyncio.timeout(hub.limits.admit_s):
            return Admitted(response, await hub.door.admit(upgrade))
    except TimeoutError:
        raise Timeout("the upgrade was not decided in time") from None


def check_room(hub: Hub) -> None:
    """Raises Draining or SocketsFull; the socket that asks is among those counted."""
    if hub.draining:
        raise draining()
    if len(hub.sockets) > hub.limits.sockets:
        raise SocketsFull(used=len(hub.sockets) - 1, limit=hub.limits.sockets)


def draining() -> Draining:
    return Draining("the server is shutting down", retry_after_ms=DRAINING_RETRY_MS)
