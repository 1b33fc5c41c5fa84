"""How commands are run in a test: in this process, with an environment of the test's own."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agentd.cli.main import run


class Said(msgspec.Struct, frozen=True):
    """What a command left behind."""

    code: int
    out: str
    err: str


Command = Callable[..., Said]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AGENTD_URL", "AGENTD_TOKEN", "OPENAI_API_KEY", "OPENAI_BASE_URL", "AGENTD_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    def do(*arguments: str) -> Said:
        capfd.readouterr()
        code = run(arguments)
        out, err = capfd.readouterr()
        return Said(code, out, err)

    return do
