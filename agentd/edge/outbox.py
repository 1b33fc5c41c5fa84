"""The bounded outbox of one socket: what has been given to it and has not yet reached the kernel.

It counts frames and bytes from `put` until `landed`: what waits here and what the transport still holds of the last
write. `take` hands out at most `BATCH_BYTES` (or one larger frame) at a time and nothing more before that landed, so
the count is never off by more than one batch. Being over a bound refuses nothing here, replies always go in; it is
what callers ask (`full`) before they hand over what can wait.
"""

BATCH_BYTES = 64 * 1024


class Outbox:
    """Frames in the order they were put. Pure: it writes nothing and knows no transport."""

    __slots__ = ("_bytes_max", "_frames_max", "_handed_bytes", "_handed_frames", "_queue", "_queued_bytes", "over")

    def __init__(self, bytes_max: int, frames_max: int) -> None:
        self._bytes_max = bytes_max
        self._frames_max = frames_max
        self._queue: list[bytes] = []
        self._queued_bytes = 0
        self._handed_bytes = 0
        self._handed_frames = 0
        self.over = False
        """Was full, and has not fallen under half of its bounds since."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self._queued_bytes + self._handed_bytes

    @property
    def frames(self) -> int:
        return len(self._queue) + self._handed_frames

    @property
    def waiting(self) -> bool:
        """Something is queued here that the transport has not been given."""
        return bool(self._queue)

    @property
    def full(self) -> bool:
        """At or over one of the bounds."""
        return (
            self._queued_bytes + self._handed_bytes >= self._bytes_max
            or len(self._queue) + self._handed_frames >= self._frames_max
        )

    def put(self, frame: bytes) -> None:
        self._queue.append(frame)
        self._queued_bytes += len(frame)
        if not self.over and self.full:
            self.over = True

    def take(self) -> bytes:
        """The next batch for one write; b"" when nothing waits. It counts until `landed`."""
        queue = self._queue
        count = len(queue)
        if self._queued_bytes > BATCH_BYTES:
            count = self._fitting()
        batch = queue[0] if count == 1 else b"".join(queue if count == len(queue) else queue[:count])
        del queue[:count]
        self._queued_bytes -= len(batch)
        self._handed_bytes += len(batch)
        self._handed_frames += count
        return batch

    def landed(self) -> None:
        """The transport holds nothing any more of what `take` gave."""
        self._handed_bytes = 0
        self._handed_frames = 0

    def fell(self) -> bool:
        """True once after every time the outbox was full and has fallen under half of both bounds."""
        if not self.over or self.size * 2 >= self._bytes_max or self.frames * 2 >= self._frames_max:
            return False
        self.over = False
        return True

    def drop_waiting(self) -> None:
        """Forget what the transport has not been given; always whole frames."""
        self._queue.clear()
        self._queued_bytes = 0

    def _fitting(self) -> int:
        """How many frames from the front fit into a batch; at least one."""
        size = 0
        for count, frame in enumerate(self._queue):
            size += len(frame)
            if size > BATCH_BYTES:
                return max(count, 1)
        return len(self._queue)
