"""A server that the tests of the bench share: what they do to it happens in sessions of their own."""

import asyncio
import signal
from collections.abc import Iterator

import pytest

from tests.child import Child


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    child = Child(tmp_path_factory.mktemp("bench"))
    asyncio.run(child.start())
    try:
        yield child
        assert child.end(signal.SIGTERM) == 0
    finally:
        child.kill()
