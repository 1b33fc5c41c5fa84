"""The operators' drills, run as they stand in docs/drills: each command in one bash, each answer compared."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
DRILLS = sorted(path for path in (ROOT / "docs" / "drills").glob("*.md") if path.name != "README.md")
DRILL_S = 90.0
MARK = "-- end of step"


class Step(NamedTuple):
    """A command and what it answers; `...` there is any text."""

    line: int
    command: str
    answer: str


def steps_of(path: Path) -> list[Step]:
    steps: list[Step] = []
    inside = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            inside = line == "```console"
        elif inside and line.startswith("$ "):
            steps.append(Step(number, line[2:], ""))
        elif inside:
            steps[-1] = steps[-1]._replace(answer=steps[-1].answer + line + "\n")
    return steps


def matches(answer: str, said: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in answer.split("..."))
    return re.fullmatch(pattern, said, re.DOTALL) is not None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("path", DRILLS, ids=lambda path: path.stem)
async def test_a_drill_goes_as_its_page_says(path: Path, tmp_path: Path) -> None:
    steps = steps_of(path)
    assert len(steps) > 8
    if any(step.command.startswith("mkdir drill && mount") for step in steps) and not may_mount(tmp_path):
        pytest.skip(f"NOT RUN: {path.name} mounts a small disk, which needs root")
    said = await asyncio.to_thread(run, steps, tmp_path)
    for step, text in zip(steps, said, strict=False):
        assert matches(step.answer, text), f"{path.name}:{step.line}: $ {step.command}\nsaid: {text}"
    assert len(said) == len(steps), f"{path.name}:{steps[len(said)].line}: did not end"


def run(steps: list[Step], folder: Path) -> list[str]:
    """What each step said, on stdout and stderr; fewer when one did not end in time."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AGENTD_", "OPENAI_"))}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "CHECKOUT": str(ROOT), "PYTHONPATH": str(ROOT),
        "XDG_CONFIG_HOME": str(folder), "PORT": str(free_port()), "COLUMNS": "200",
    }  # fmt: skip
    script = "exec 2>&1\n" + "".join(f"{step.command}\necho '{MARK}'\n" for step in steps)
    place = folder / "drill-place"
    place.mkdir()
    with subprocess.Popen(
        ["bash", "-c", script], cwd=place, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        start_new_session=True, text=True,
    ) as bash:  # fmt: skip
        try:
            out, _ = bash.communicate(timeout=DRILL_S)
        except subprocess.TimeoutExpired:
            os.killpg(bash.pid, signal.SIGKILL)
            out, _ = bash.communicate()
        finally:
            end_all(bash.pid)
            subprocess.run(["umount", "-l", str(place / "drill")], capture_output=True, check=False)
    return out.split(f"{MARK}\n")[:-1]


def end_all(group: int) -> None:
    """What a drill that failed left running."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def may_mount(folder: Path) -> bool:
    place = folder / "try"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], capture_output=True, check=False)
    subprocess.run(["umount", str(place)], capture_output=True, check=False)
    return done.returncode == 0


def test_every_drill_is_in_the_list() -> None:
    listed = re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs" / "drills" / "README.md").read_text(encoding="utf-8"))
    assert sorted(listed) == [path.name for path in DRILLS]
