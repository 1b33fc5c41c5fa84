"""`agentd bench` before it begins: the extra that it needs."""

import importlib.util

import pytest

from agentd.cli import bench
from agentd.cli.failure import USAGE
from tests.cli.conftest import Command


@pytest.mark.parametrize("missing", bench.PACKAGES)
def test_without_its_extra_the_install_line_is_named(
    missing: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else found(name))
    said = command("bench", "chat")
    assert (said.code, said.out) == (USAGE, "")
    assert bench.INSTALL in said.err
