"""Tests of sockets run on both event loops, because each has its own idea of when writing blocks and what EOF does."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

try:
    import uvloop
except ImportError:
    uvloop = None  # type: ignore[assignment]

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
ON_BOTH = {"test_websocket.py", "test_server.py", "test_keepalive.py", "test_connection.py"}


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    factories: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    if uvloop is not None and item.path.name in ON_BOTH:
        factories["uvloop"] = uvloop.new_event_loop
    return factories
