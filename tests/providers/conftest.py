"""The fake model server, on a port of its own for each test."""

from collections.abc import AsyncIterator

import pytest

from tests.fake_openai import Fake


class Served:
    """A running fake and its address."""

    def __init__(self, fake: Fake, url: str) -> None:
        self.fake = fake
        self.url = url


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    fake = Fake()
    server = await fake.serve()
    yield Served(fake, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
    server.close()
    fake.end()
    await server.wait_closed()
