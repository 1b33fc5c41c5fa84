"""Server frames built by hand: one unmasked, unfragmented WebSocket frame around a payload.

An unfragmented text frame, a ping and a pong change nothing in the library's state, and without extensions a frame
is the same bytes for every socket. So what goes to many sockets is framed once, and their outboxes share the bytes
(decision 020 has the figures). Close frames do change the library's state and are left to it.
"""

PING = b"\x89\x00"

_SHORT = tuple(bytes((0x81, length)) for length in range(126))
_SHORT_MAX = 126
_MEDIUM_MAX = 1 << 16


def text_frame(payload: bytes) -> bytes:
    """`payload` (UTF-8, not checked here) as one final text frame."""
    length = len(payload)
    if length < _SHORT_MAX:
        return _SHORT[length] + payload
    if length < _MEDIUM_MAX:
        return b"\x81\x7e" + length.to_bytes(2, "big") + payload
    return b"\x81\x7f" + length.to_bytes(8, "big") + payload


class SharedFrames:
    """Remembers the last payload framed, by identity: a fan-out hands the same object to one socket after another.

    The slot holds a reference to the payload, so its identity cannot be given to another object meanwhile.
    """

    __slots__ = ("_frame", "_payload")

    def __init__(self) -> None:
        self._payload = b""
        self._frame = text_frame(b"")

    def of(self, payload: bytes) -> bytes:
        if payload is not self._payload:
            self._payload = payload
            self._frame = text_frame(payload)
        return self._frame
