"""Time, sleeping, randomness and new ids: the one source of everything that differs between two runs.

A simulation replaces the clock and so runs the real actors; therefore nothing else in agentd calls `time`, `random`,
`secrets`, `uuid` or `asyncio.sleep` (a lint rule says so). Wall time (`now_ms`) is for what is stored and shown;
durations are always measured on `monotonic_s`.
"""

import asyncio
import random
import secrets
import time
from collections.abc import Callable
from typing import Protocol

# Crockford's alphabet: digits first, so that ids of equal length sort by time as text.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_DRAWN = 256  # random numbers that are asked for at once: a question to the system costs as much as the rest of an id
_BYTES = 5  # of each


class Timer(Protocol):
    """What `call_later` gives back."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Time, waiting, randomness and ids."""

    def now_ms(self) -> int:
        """Wall time, Unix milliseconds, UTC. May jump."""
        ...

    def monotonic_s(self) -> float:
        """Seconds since some start; never goes back."""
        ...

    async def sleep(self, delay_s: float) -> None: ...

    def call_later(self, delay_s: float, call: Callable[[], object]) -> Timer: ...

    def random(self) -> float:
        """A number in [0, 1)."""
        ...

    def new_id(self, prefix: str) -> str:
        """`prefix_` and 26 characters that sort by time and are never given twice."""
        ...

    def new_secret(self) -> str:
        """An unguessable URL-safe string of 43 characters."""
        ...


class SystemClock:
    """The clock of a real server."""

    def __init__(self) -> None:
        self._last_ms = 0
        self._counter = 0
        self._drawn: list[int] = []

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)

    def call_later(self, delay_s: float, call: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_later(delay_s, call)

    def random(self) -> float:
        return random.random()

    def new_id(self, prefix: str) -> str:
        now = self.now_ms()
        if now > self._last_ms:
            self._last_ms, self._counter = now, self._bits()
        else:  # same millisecond, or the wall clock went back: stay behind the last one
            self._counter += 1
        return f"{prefix}_{ulid(self._last_ms, self._counter, self._bits())}"

    def _bits(self) -> int:
        """40 random bits of the system's."""
        if not self._drawn:
            data = secrets.token_bytes(_DRAWN * _BYTES)
            self._drawn = [int.from_bytes(data[at : at + _BYTES], "big") for at in range(0, len(data), _BYTES)]
        return self._drawn.pop()

    def new_secret(self) -> str:
        return secrets.token_urlsafe(32)


def ulid(ms: int, counter: int, noise: int) -> str:
    """26 characters: 48 bits of time, 44 bits that count within a millisecond, 36 bits of noise."""
    number = (ms & (1 << 48) - 1) << 80 | (counter & (1 << 44) - 1) << 36 | noise & (1 << 36) - 1
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])
