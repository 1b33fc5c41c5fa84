"""The doors of the project open on a fresh machine: which Python make takes, what it says when there is none.

Nothing is installed here; make is asked what it would do, and refuses before it does it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
BROKEN_SHIM = "#!/bin/sh\necho 'no such version is selected' >&2\nexit 127\n"
TOO_OLD = '#!/bin/sh\ncase "$2" in *version_info*) exit 1;; esac\n'


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A folder with the Makefile, old project files, and a `bin` that holds nothing but make and a shell."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1, 1))
    (tmp_path / "bin").mkdir()
    for name in ("make", "sh"):
        found = shutil.which(name)
        assert found is not None
        (tmp_path / "bin" / name).symlink_to(found)
    return tmp_path


def program(fresh: Path, name: str, text: str) -> None:
    path = fresh / "bin" / name
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def make(fresh: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments], cwd=fresh, env={"PATH": str(fresh / "bin")},
        capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def test_without_a_python_make_says_what_to_install(fresh: Path) -> None:
    done = make(fresh, "run")
    assert done.returncode != 0
    assert "needs Python 3.11 or newer" in done.stderr
    assert "apt install python3 python3-venv" in done.stderr
    assert not (fresh / ".venv").exists()


def test_a_shim_that_does_not_run_and_a_python_that_is_too_old_are_passed_over(fresh: Path) -> None:
    program(fresh, "python3.13", BROKEN_SHIM)
    program(fresh, "python3.12", TOO_OLD)
    (fresh / "bin" / "python3.11").symlink_to(sys.executable)
    assert 'python="python3.11"' in make(fresh, "--dry-run", ".venv/.made").stdout


def test_a_python_named_by_hand_that_is_no_good_is_refused_by_name(fresh: Path) -> None:
    program(fresh, "python3", TOO_OLD)
    done = make(fresh, "test", "PYTHON=python3")
    assert done.returncode != 0
    assert "python3 does not run or is older than 3.11" in done.stderr


def test_what_is_installed_is_not_installed_again(fresh: Path) -> None:
    (fresh / ".venv").mkdir()
    for stamp in (".made", ".run-installed", ".dev-installed"):
        (fresh / ".venv" / stamp).touch()
    assert "Nothing to be done" in make(fresh, "install").stdout
    assert "pip" not in make(fresh, "--dry-run", "run").stdout
    (fresh / "constraints.txt").touch()
    os.utime(fresh / ".venv" / ".run-installed", (2, 2))
    assert "pip install -c constraints.txt -e ." in make(fresh, "--dry-run", "run").stdout.replace(
        "-m pip --disable-pip-version-check -qq", "pip"
    )


def test_arguments_reach_the_server_and_the_tests(fresh: Path) -> None:
    assert "agentd serve --port 0" in make(fresh, "--dry-run", "run", "ARGS=--port 0").stdout
    said = make(fresh, "--dry-run", "test", "ARGS=-k name").stdout
    assert "pytest -n 2 --dist worksteal --junitxml=.test-results.xml -k name" in said
    measured = make(fresh, "--dry-run", "test-measured", "ARGS=-k name").stdout
    assert "--junitxml=.test-results.xml --cov=agentd --cov-branch --cov-report=json:.coverage.json -k name" in measured


def test_the_gate_of_every_change_runs_check_and_test_and_reads_nothing(fresh: Path) -> None:
    gate = ROOT / ".ci" / "run"
    assert os.access(gate, os.X_OK)
    (fresh / ".ci").mkdir()
    shutil.copy(gate, fresh / ".ci" / "run")
    (fresh / "bin" / "make").unlink()
    program(fresh, "make", '#!/bin/sh\necho "$PWD|$*|$CI|$(cat)"\nexit 3\n')
    program(fresh, "python3", "#!/bin/sh\nexit 0\n")
    for name in ("bash", "dirname", "env", "cat"):
        found = shutil.which(name)
        assert found is not None
        (fresh / "bin" / name).symlink_to(found)
    done = subprocess.run(
        [fresh / ".ci" / "run"], cwd="/", env={"PATH": str(fresh / "bin")},
        capture_output=True, text=True, timeout=30, input="somebody types", check=False,
    )  # fmt: skip
    said = f"{fresh}|check test-measured|true|"
    assert (done.returncode, done.stdout.strip()) == (3, said), "and stops there when that fails"
