"""The bench as a command: what it cannot do is told, a sound server passes, each planted fault fails and is named; and
another hand, a script in Node, finds the same."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentd.bench import results, runner
from agentd.bench.proxy import FAULTS
from agentd.bench.stage import Options
from agentd.cli.failure import FAILED, INTERRUPTED, USAGE
from tests.bench.test_results import a_result
from tests.child import Child
from tests.cli.conftest import Command
from tests.cli.conftest import command as command
from tests.cli.served import rest

ROOT = Path(__file__).resolve().parents[2]
SHORT = ("--rate", "60", "--seconds", "0.5", "--sessions", "4")


def bench(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agentd", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **env}, check=False)


def breaches(done: subprocess.CompletedProcess[str]) -> set[str]:
    result: dict[str, Any] = json.loads(done.stdout)
    return {breach["name"] for scenario in result["scenarios"] for breach in scenario["breaches"]}


def test_a_sound_server_passes_and_the_result_says_what_was_measured(tmp_path: Path) -> None:
    done = bench("chat", *SHORT, "--json", "--out", str(tmp_path))
    assert (done.returncode, breaches(done)) == (0, set()), done.stderr + done.stdout
    found = json.loads((tmp_path / "bench.json").read_text())
    point = found["scenarios"][0]["points"][0]
    assert found == json.loads(done.stdout)
    assert point["achieved"] > 30
    assert 0 < point["latency"]["p50"] <= point["latency"]["p99"] <= point["latency"]["max"]
    assert point["cpu_us_per_unit"] > 0
    assert point["facts_per_unit"] == pytest.approx(6, abs=2)
    assert found["machine"]["cores"] >= 1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_spoiled_frame_is_named(fault: str, served: Child) -> None:
    options = Options(rate=60.0, seconds=0.5, sessions=4, fault=fault, url=http(served), token=served.token)
    result = runner.run(["goal" if fault == "total" else "chat"], options, "a test")
    assert not result.ok
    assert FAULTS[fault][2] in {breach.name for breach in result.scenarios[0].breaches}


def test_a_breach_ends_the_command_with_1_and_is_said(served: Child) -> None:
    done = bench("chat", *SHORT, "--fault", "double-end", "--url", http(served), AGENTD_TOKEN=served.token)
    assert done.returncode == FAILED
    assert "BREACH ended-twice" in done.stdout
    assert "counts for nothing" in done.stdout


def test_what_the_bench_cannot_do_is_told_with_what_there_is() -> None:
    done = bench("swim")
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert all(name in done.stderr for name in runner.SCENARIOS)
    assert "double-end" in bench("chat", "--fault", "none").stderr


def test_a_server_that_is_not_there_is_told_in_a_sentence() -> None:
    done = bench("chat", *SHORT, "--url", "http://127.0.0.1:9")
    assert done.returncode == FAILED
    assert "Traceback" not in done.stderr


def test_another_hand_finds_the_same(served: Child, tmp_path: Path) -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed")
    try:
        install = [npm, "install", "--no-save", "--no-audit", "--no-fund", "--prefix", str(tmp_path), "ws"]
        got = subprocess.run(install, capture_output=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not bring ws within a minute")
    if got.returncode != 0 or not (tmp_path / "node_modules" / "ws").is_dir():
        pytest.skip("npm cannot bring ws here")
    env = {**os.environ, "AGENTD_TOKEN": served.token, "LOAD_MODULES": str(tmp_path)}
    command = [node, str(ROOT / "bench" / "load.mjs"), http(served), "--rate", "80", "--seconds", "1.5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["sent"], found["completed"], found["refused"], found["breaches"]) == (120, 120, 0, [])
    assert 0 < found["p50_ms"] <= found["p99_ms"]


def http(served: Child) -> str:
    return served.url.replace("ws", "http", 1)


def test_compare_ends_with_1_when_something_is_worse(tmp_path: Path, command: Command) -> None:
    older, newer = a_result(), a_result()
    older.scenarios[0].points[0].cpu_us_per_unit, newer.scenarios[0].points[0].cpu_us_per_unit = 800.0, 1000.0
    for name, result in (("old.json", older), ("new.json", newer)):
        results.write(result, tmp_path / name)
    old, new = str(tmp_path / "old.json"), str(tmp_path / "new.json")
    said = command("bench", "compare", old, new)
    assert said.code == FAILED
    assert "cpu_us_per_unit" in said.out
    assert "WORSE" in said.out
    assert command("bench", "compare", old, new, "--threshold", "30").code == 0
    assert json.loads(command("bench", "compare", new, old, "--json").out)["notes"] == []


def test_compare_says_what_it_cannot_read(tmp_path: Path, command: Command) -> None:
    for arguments in (["compare"], ["compare", "a"], ["compare", str(tmp_path / "a"), str(tmp_path / "b")]):
        said = command("bench", *arguments)
        assert (said.code, said.out) == (USAGE, "")
        assert "hint:" in said.err


def test_ctrl_c_ends_it_and_its_server() -> None:
    command = [sys.executable, "-m", "agentd", "bench", "chat"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("chat")
        process.send_signal(signal.SIGINT)
        out, err = rest(process, 30)
    assert (process.returncode, out, err) == (INTERRUPTED, "", "")
