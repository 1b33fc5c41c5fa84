"""The built wheel carries what agentd needs: installed in a clean environment it works the same from any directory."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import agentd

ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT_S = 60


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", target, cwd=ROOT)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel and, beside it, the packages that the tests run with; but not the checkout."""
    home = tmp_path_factory.mktemp("clean")
    venv.create(home / "venv", with_pip=False, symlinks=True)
    python = home / "venv" / "bin" / "python"
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet", wheel,
        cwd=home, env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )  # fmt: skip
    packages = next((home / "venv" / "lib").glob("python*/site-packages"))
    (packages / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


def test_the_wheel_holds_code_and_data_and_neither_tests_nor_bench(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"agentd/config.py", "agentd/_data/agentd.toml", "agentd/_data/identity/SOUL.md"} <= names
    tops = {name.split("/", 1)[0] for name in names}
    assert tops == {"agentd", f"agentd-{agentd.__version__}.dist-info"}
    in_checkout = {path.name for path in (ROOT / "identity").iterdir()}
    assert {name.rsplit("/", 1)[1] for name in names if "/identity/" in name} == in_checkout
    assert {path.name for path in (ROOT / "agentd").rglob("*.sql")} == {
        name.rsplit("/", 1)[1] for name in names if name.endswith(".sql")
    }


def test_an_installed_agentd_finds_its_data_in_itself(installed: Path, tmp_path: Path) -> None:
    say = (
        "import agentd, agentd.config as c; print(agentd.__file__, c.data_path('agentd.toml'), c.data_path('identity'))"
    )
    said = run(installed, "-c", say, cwd=tmp_path).split()
    inside = str(installed.parent.parent / "lib")
    assert [path.startswith(inside) for path in said] == [True, True, True], said


def test_an_installed_agentd_has_the_defaults_of_the_checkout(installed: Path, tmp_path: Path) -> None:
    say = (
        "from pathlib import Path; from agentd.config import load; "
        "s = load({}, {}, None, user_file=Path('none')); print(s.sources, s.limits)"
    )
    said = run(installed, "-c", say, cwd=tmp_path)
    assert said == run(sys.executable, "-c", say, cwd=ROOT)
    assert said.startswith("{} Limits(")


def test_the_command_says_its_version(installed: Path, tmp_path: Path) -> None:
    assert agentd.__version__ in run(installed.parent / "agentd", "--version", cwd=tmp_path)


def test_an_installed_agentd_serves_from_an_empty_directory(installed: Path, tmp_path: Path) -> None:
    """Started, spoken to by its own command line, stopped: nothing of the checkout is needed."""
    state = tmp_path / "state"
    command = installed.parent / "agentd"
    with subprocess.Popen(
        [command, "serve", "--port", "0", "--state-dir", state], cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        assert "listens on" in server.stdout.readline()
        said = run(command, "chat", "What is 12 * 7?", "--state-dir", state, cwd=tmp_path)
        server.terminate()
        assert server.wait(TIMEOUT_S) == 0
    assert "84" in said
