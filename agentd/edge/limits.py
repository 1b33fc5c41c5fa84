"""The limits of the edge, all named: what one socket, one request and the whole server may use.

Durations are seconds on the monotonic clock, sizes are bytes. Defaults only: the settings fill in the rest.
"""

import msgspec

KIB = 1024


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the transport. Every refusal names the one it ran into."""

    sockets: int = 10_000
    """WebSockets at once, handshakes included; beyond it an upgrade is answered with 503."""
    connections_beside: int = 1_024
    """TCP connections that may be open beside the sockets (plain HTTP, or nothing said yet)."""
    frame_bytes: int = 1024 * KIB
    """One WebSocket message, all of its fragments together."""
    fragments: int = 1_024
    """Fragments of one message: empty ones would get round the bound on bytes."""
    outbox_bytes: int = 1024 * KIB
    outbox_frames: int = 2_000
    early_bytes: int = 64 * KIB
    """What a client may send before its upgrade is decided; then its socket is not read until it is."""
    header_bytes: int = 64 * KIB
    header_s: float = 10.0
    """From the connection's opening, or a request's first byte, to the end of the request's headers."""
    admit_s: float = 10.0
    """How long the door may take over one upgrade."""
    close_s: float = 5.0
    """From the close frame to the end of the connection, whoever is slow."""
    flush_window_s: float = 0.01
    ping_s: float = 20.0
    silent_s: float = 40.0
    stalled_s: float = 60.0
    """A client that reads nothing for so long, while something waits for it, is closed with 1013."""
