"""A message of several fragments, put together within bounds; the library bounds the bytes, this the number.

Only made when a first fragment comes, so that the usual message, one frame, costs nothing here. Control frames
between fragments never get this far.
"""

from websockets.frames import Frame, Opcode

from agentd.edge.failures import Failure, too_many_fragments


class Assembly:
    """One message in progress. Of a binary message nothing is kept."""

    __slots__ = ("_count", "_fragments_max", "_parts", "binary")

    def __init__(self, first: Frame, fragments_max: int) -> None:
        self.binary = first.opcode is Opcode.BINARY
        self._parts = [] if self.binary else [bytes(first.data)]
        self._count = 1
        self._fragments_max = fragments_max

    def add(self, frame: Frame) -> Failure | None:
        self._count += 1
        if self._count > self._fragments_max:
            return too_many_fragments(self._fragments_max)
        if not self.binary:
            self._parts.append(bytes(frame.data))
        return None

    def text(self) -> bytes:
        return b"".join(self._parts)
