"""The release gate: says check by check whether this may be released. `make gate`; also the end of `.ci/run`.

`make test-measured` writes what every test did (`.test-results.xml`) and what of agentd ran (`.coverage.json`). Each
milestone here is a named set of those tests, which has to be there and to have passed: a set that is empty fails.
Beside them: the coverage of the whole tree, and of the rules by their own tests alone (decision 130), the number of
tests, a short run of the bench with its invariants, and with AGENTD_LIVE=1 one turn with a real model, which needs a
key.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as xml
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / ".test-results.xml"
COUNT = Path(__file__).with_name("count.txt")
MEASURED = ROOT / ".coverage.json"
TREE_PERCENT = 90.0
CORE_PERCENT = 100.0
# By these alone; what tries random orders has no part in it, so that the figure is the same every time.
CORE_TESTS = ("tests/core", "tests/protocol", "tests/replay", "tests/test_traces.py")
CORE_RANDOM = "tests/core/test_session_stateful.py"
OLD_S = 3_600.0
APART_S = 60.0  # between the two files that one run of the tests writes

# Each milestone and the test files that prove it.
MILESTONES: dict[str, tuple[str, ...]] = {
    "the contract is what the code says, and only grows": ("tests.protocol",),
    "documents are true; help and page agree": ("tests.test_documents", "tests.cli.test_main"),
    "traces: golden stories, and a validator that refuses what is spoiled": (
        "tests.test_traces", "tests.core.test_trace", "tests.cli.test_trace",
    ),
    "replay: recorded sessions are decided the same again, and what is spoiled is found": (
        "tests.replay", "tests.core.test_replay", "tests.cli.test_replay",
    ),
    "the rules: every state with every word, any order, the rulings": (
        "tests.core.test_lifecycle", "tests.core.test_session_stateful", "tests.core.test_orders",
        "tests.core.test_rulings",
    ),
    "the simulation: seeds of the whole server, and every planted fault found": ("tests.simulation",),
    "memory: its laws, recall, forgetting, import": (
        "tests.core.test_memory", "tests.store.test_recall", "tests.flows.test_memory", "tests.flows.test_import",
    ),
    "the log: durable, salvaged, one writer": ("tests.store",),
    "killed at any moment": ("tests.flows.test_kills",),
    "faults of disk, clock, provider, frames, descriptors": ("tests.faults",),
    "the WebSocket against other implementations": ("tests.conformance", "tests.edge.test_websocket"),
    "hostile clients": ("tests.flows.test_hostile", "tests.edge.test_auth"),
    "the operators' drills": ("tests.test_drills",),
    "the bench names planted faults": ("tests.bench",),
    "the built wheel runs in a clean environment": ("tests.flows.test_wheel",),
}  # fmt: skip

Case = tuple[str, bool, bool]  # its file as a module, failed, skipped


def main() -> int:
    checks: list[tuple[str, Callable[[], str]]] = [("all tests passed", _all_passed)]
    checks += [(name, _milestone(modules)) for name, modules in MILESTONES.items()]
    checks += [
        ("the number of tests does not fall", _count),
        (f"branch coverage of the whole tree, at least {TREE_PERCENT:g} %", _tree),
        (f"branch coverage of the rules by their own tests, at least {CORE_PERCENT:g} %", _core),
        ("a short run of the bench keeps its invariants", _bench),
        ("a turn with a real model", _live),
    ]
    failed = 0
    for name, check in checks:
        begun = time.monotonic()
        try:
            said, good = check(), True
        except Failed as error:
            said, good = str(error), False
            failed += 1
        took = time.monotonic() - begun
        print(f"{'pass' if good else 'FAIL'}  {name}: {said}" + (f"  ({took:.0f} s)" if took >= 1 else ""), flush=True)
    print(f"{len(checks) - failed} of {len(checks)} checks passed: " + ("this may be released" if not failed else "no"))
    return 1 if failed else 0


class Failed(Exception):
    """A check that did not hold, with why."""


def _cases() -> list[Case]:
    if not RESULTS.exists() or time.time() - RESULTS.stat().st_mtime > OLD_S:
        raise Failed("there are no fresh results of `make test`")
    found = []
    for case in xml.parse(RESULTS).getroot().iter("testcase"):
        bad = case.find("failure") is not None or case.find("error") is not None
        found.append((case.get("classname", ""), bad, case.find("skipped") is not None))
    return found


def _all_passed() -> str:
    cases = _cases()
    failed = sum(bad for _, bad, _ in cases)
    if failed:
        raise Failed(f"{failed} of {len(cases)} failed")
    skipped = sum(skipped for _, _, skipped in cases)
    return f"{len(cases) - skipped}" + (f", and {skipped} say that they did not run" if skipped else "")


def _milestone(modules: tuple[str, ...]) -> Callable[[], str]:
    def check() -> str:
        said = []
        for module in modules:
            mine = [case for case in _cases() if case[0] == module or case[0].startswith(f"{module}.")]
            ran = [case for case in mine if not case[2]]
            if not ran:
                raise Failed(f"nothing of {module} ran")
            bad = sum(case[1] for case in ran)
            if bad:
                raise Failed(f"{bad} of {len(ran)} in {module} failed")
            said.append(len(ran))
        return f"{sum(said)} tests"

    return check


def _count() -> str:
    now, least = len(_cases()), int(COUNT.read_text())
    if now < least:
        raise Failed(f"{now} tests, there were {least}; if that is right, write the number into {COUNT.name}")
    return f"{now}, at least {least}"


def _tree() -> str:
    """All tests; what a server does that a test started as a process of its own is not in it."""
    if not MEASURED.exists() or abs(MEASURED.stat().st_mtime - RESULTS.stat().st_mtime) > APART_S:
        raise Failed("these tests were not measured: `make test-measured`")
    found = json.loads(MEASURED.read_text())
    totals = found["totals"]
    percent = float(totals["percent_covered"])
    least = sorted((one["summary"]["percent_covered"], name) for name, one in found["files"].items())[:3]
    said = f"{percent:.1f} %, of branches {100 * totals['covered_branches'] / totals['num_branches']:.1f} %; least "
    said += ", ".join(f"{name} {part:.0f} %" for part, name in least)
    if percent < TREE_PERCENT:
        raise Failed(said)
    return said


def _core() -> str:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "coverage.json"
        _run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", *CORE_TESTS, f"--ignore={CORE_RANDOM}",
             "--cov=agentd.core", "--cov=agentd.protocol", "--cov-branch", f"--cov-report=json:{out}"],
            600, {"COVERAGE_FILE": f"{folder}/data"},
        )  # fmt: skip
        found = json.loads(out.read_text())
    percent = float(found["totals"]["percent_covered"])
    if percent < CORE_PERCENT:
        missing = [name for name, one in found["files"].items() if one["summary"]["percent_covered"] < CORE_PERCENT]
        raise Failed(f"{percent:.2f} %, not all of {', '.join(missing)}")
    return f"{percent:.1f} %"


def _bench() -> str:
    with tempfile.TemporaryDirectory() as folder:
        _run([sys.executable, "-m", "agentd", "bench", "chat", "goal", "--seconds", "3", "--out", folder], 180)
    return "chat and goal, no breach"


def _live() -> str:
    if os.environ.get("AGENTD_LIVE") != "1":
        return "skipped; AGENTD_LIVE=1 asks a real model"
    if not os.environ.get("OPENAI_API_KEY"):
        raise Failed("AGENTD_LIVE=1 needs OPENAI_API_KEY")
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "agentd",
            "serve",
            "--port",
            "0",
            "--state-dir",
            folder,
            "--provider",
            "openai",
        ]
        server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert server.stdout is not None
            server.stdout.readline()
            said = _run([sys.executable, "-m", "agentd", "chat", "Say yes.", "--state-dir", folder], 120)
        finally:
            server.terminate()
            server.wait(20)
    if not said.strip():
        raise Failed("the model said nothing")
    return f"{len(said.strip())} characters"


def _run(command: list[str], seconds: float, env: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False, stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(command[1:5])} took more than {seconds:.0f} s") from None
    if done.returncode:
        raise Failed(f"{' '.join(command[1:5])} ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
