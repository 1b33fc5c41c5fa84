"""The parts of a server together: what fails beside the work does not stop it; what it leaves behind when it ends."""

from pathlib import Path

import pytest

from agentd import app as module
from agentd.app import App
from agentd.protocol.errors import StorageUnavailable
from tests.edge.rig import ManualClock, settle
from tests.edge.served import app


async def test_a_disk_that_is_full_when_keys_are_pruned_does_not_stop_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A keeper that fails again at once is given up after five times, and with it the server."""
    asked = 0

    async def full(before_ms: int) -> int:
        nonlocal asked
        asked += 1
        raise StorageUnavailable("the disk is full")

    async with app(tmp_path) as server:
        monkeypatch.setattr(server.shared.store, "prune_keys", full)
        clock = ManualClock()
        monkeypatch.setattr(type(server.shared.clock), "sleep", lambda self, delay_s: clock.sleep(delay_s))
        keeper = server.shared.supervisor.keep("keys", server._prune_keys)
        for rounds in range(1, 10):
            await settle()
            assert asked == rounds, "once an hour, and not again and again"
            await clock.advance(module.KEYS_EVERY_S)
        keeper.cancel()
        monkeypatch.undo()
        assert not server._fatal
        assert not server._stopping.is_set()


async def test_what_it_wrote_for_clients_goes_when_it_stops_in_order(tmp_path: Path) -> None:
    async with app(tmp_path) as server:
        assert isinstance(server, App)
        assert (tmp_path / "server.json").exists()
    assert not (tmp_path / "server.json").exists()
