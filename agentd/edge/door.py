"""The seam between a transport and what it serves: an upgrade knocks, a peer comes in.

The WebSocket class knows bytes, frames and close codes; it knows nothing of sessions. For each upgrade it awaits
`Door.admit`, which either returns a `Peer` maker or raises an `AgentdError` whose HTTP status and JSON body refuse
the handshake. Afterwards every complete text message goes to the peer from the socket's own callback.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from agentd.actors.sink import Sink


class Upgrade(msgspec.Struct, frozen=True):
    """A WebSocket handshake request. Header names are lower case; of a repeated header the values in order."""

    path: str  # percent-decoded
    query: tuple[tuple[str, str], ...]
    headers: tuple[tuple[str, str], ...]
    address: str  # the peer's IP address
    secure: bool

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


class Socket(Sink, Protocol):
    """One open WebSocket as its peer sees it."""

    frame_bytes_max: int
    """Largest message accepted from now on; larger ones close with 1009."""

    def pause_reading(self, delay_s: float) -> None:
        """Read nothing from this socket for so long (rulings 28); at most once at a time."""
        ...


class Peer(Protocol):
    """What stands behind an open socket. All methods are called on the loop, none may block or raise."""

    def received(self, text: bytes) -> None:
        """One complete text message, valid UTF-8."""
        ...

    def received_binary(self) -> None: ...

    def closed(self) -> None:
        """The socket is gone; called exactly once."""
        ...


class Door(Protocol):
    async def admit(self, upgrade: Upgrade) -> Callable[[Socket], Peer]:
        """Decide on an upgrade.

        Raises:
            AgentdError: the upgrade is refused with its HTTP status and error object.
        """
        ...
