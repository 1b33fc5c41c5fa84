"""A whole server in the test's own process: real sockets and files, and every part within reach."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from agentd import config
from agentd.app import App


@asynccontextmanager
async def app(state: Path, **settings: Any) -> AsyncIterator[App]:
    """A running server on a free port; settings as `limits__outbox_frames=50`."""
    flags = {name.replace("__", "."): value for name, value in settings.items()}
    env: Mapping[str, str] = {"XDG_CONFIG_HOME": str(state)}
    loaded = config.load(
        {"server.state_dir": str(state), "server.port": 0, "provider.name": "offline", **flags}, env, None
    )
    async with AsyncExitStack() as stack:
        made = await App.build(loaded, env, stack)
        await made.start()
        try:
            yield made
        finally:
            await made.drain()


def token_of(state: Path) -> str:
    return (state / "token").read_text().strip()
