"""The house is tidy: opening sentences, lengths, names, tests that mirror modules, nothing left over, nothing leaked.

What ruff, mypy and import-linter can check is not here. An exception stands in a table below, with its reason.
"""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINES_MAX = 400
LONG = {  # path: why it has to be longer
    "agentd/protocol/facts.py": "all facts on one page: the durable format",
    "agentd/core/intents.py": "all commands, what comes with them and what answers them, on one page: a list of values",
}

BANNED_STEMS = {"helper", "helpers", "util", "utils", "common", "base", "misc", "impl", "handler", "handlers"}
# Test files that are no mirror of one module.
FREE_TESTS = {
    "test_layout": "the whole tree",
    "test_traces": "the rules of the core, told as stories",
    "test_import": "the older format, imported by a whole server",
    "test_forgotten_words": "every place that words may be in when they are forgotten",
    "test_rulings": "cases that were decided ahead",
    "test_session_stateful": "a session under any order of commands, outcomes, pauses and crashes",
    "test_orders": "one final state whatever the order of completions",
    "test_documents": "docs/ and README.md beside the code",
    "test_seams": "the contract with uvicorn and websockets",
    "test_memory_store": "the contract of stores, over the one for simulations",
    "test_stateful": "a store at random beside a model",
    "test_against_server": "the commands with a real server",
    "test_drills": "the operators' drills in docs/drills, as they stand there",
    "test_lazy_import": "what importing the providers must not import",
}
FREE_FOLDERS = {"flows", "traces", "simulation", "replay", "faults", "conformance"}

# Written in pieces, so that this file is not its own finding.
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX|HA" + r"CK)\b")
MACHINE_PATH = re.compile(r"(?<![\w./-])/(?:ro" + r"ot|wo" + r"rk|opt/py" + r"pi|home/\w+)/")
REGISTRY = re.compile(
    r"py" + r"pi\.org|pythonho" + r"sted\.org|registry\.npm" + r"js|index-u" + r"rl|find-li" + r"nks|trusted-ho" + r"st"
)
CODE_COMMENT = re.compile(r"^\s*#\s*(?:def |class |return\b|import |from \w+ import|if .*:$|for .*:$|\w+ = \w+\()")


def committed() -> list[Path]:
    """Files that git knows or would take; everything below the root where there is no git."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT, capture_output=True, check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return [path for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts]
    return [path for name in listed.decode().split("\0") if name and (path := ROOT / name).is_file()]


FILES = committed()
MODULES = [path for path in FILES if path.suffix == ".py"]
OURS = [path for path in MODULES if path.is_relative_to(ROOT / "agentd") or path.is_relative_to(ROOT / "bench")]
TEXTS = [path for path in FILES if path.suffix in {".py", ".md", ".toml", ".txt", ".yml", ".sql", ".sh", ""}]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def matching(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    """Where `pattern` is found, as path:line."""
    found = []
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{name_of(path)}:{number}: {line.strip()[:80]}")
    return found


def test_there_is_something_to_look_at() -> None:
    assert ROOT / "agentd" / "config.py" in OURS
    assert Path(__file__).resolve() in MODULES


@pytest.mark.parametrize("path", OURS, ids=name_of)
def test_a_module_opens_with_a_sentence_of_its_duty(path: Path) -> None:
    opening = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert opening, f"{name_of(path)} has no docstring"
    assert opening.splitlines()[0].strip()


def test_no_module_is_longer_than_it_may_be() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in OURS}
    too_long = {name: length for name, length in lengths.items() if length > LINES_MAX and name not in LONG}
    assert not too_long, "split these, or give a reason in LONG"
    assert all(lengths.get(name, 0) > LINES_MAX for name in LONG), "a reason is no longer needed"


def test_a_file_name_says_what_is_in_it() -> None:
    assert not [name_of(path) for path in MODULES if path.stem in BANNED_STEMS]


def test_nothing_is_left_to_be_done_later() -> None:
    assert not matching(UNFINISHED, TEXTS)


def test_no_code_stands_in_comments() -> None:
    assert not matching(CODE_COMMENT, OURS)


def test_tasks_are_started_by_the_supervisor_only() -> None:
    paths = [path for path in OURS if path.is_relative_to(ROOT / "agentd") and path.name != "supervisor.py"]
    assert not matching(re.compile(r"\.(?:create_task|ensure_future)\("), paths)


def test_the_protocol_and_the_core_open_no_file_and_await_nothing() -> None:
    pure = [path for path in OURS if path.parent.name in {"protocol", "core"}]
    assert pure
    assert not matching(re.compile(r"(?<![\w.])open\(|\bawait |\basync (?:def|for|with)\b|\bprint\("), pure)


def test_no_committed_file_names_a_registry_or_a_place_on_somebodys_machine() -> None:
    assert not matching(REGISTRY, TEXTS)
    assert not matching(MACHINE_PATH, TEXTS)


def test_no_test_sleeps() -> None:
    tests = [path for path in MODULES if path.stem.startswith("test_")]
    assert not matching(re.compile(r"\btime\.sleep\(|\basyncio\.sleep\((?!0\))"), tests)


def test_a_test_file_is_for_the_module_of_its_name() -> None:
    tests = ROOT / "tests"
    lost = []
    for path in MODULES:
        if not path.is_relative_to(tests) or not path.stem.startswith("test_"):
            continue
        folder = path.relative_to(tests).parent
        if path.stem in FREE_TESTS or (folder.parts and folder.parts[0] in FREE_FOLDERS):
            continue
        module = ROOT / "agentd" / folder / f"{path.stem.removeprefix('test_')}.py"
        if not module.exists():
            lost.append(name_of(path))
    assert not lost, "name them after a module, or give a reason in FREE_TESTS"


def test_every_layer_is_tested_in_a_folder_of_its_own() -> None:
    layers = {path.parent.name for path in OURS if path.parent.parent == ROOT / "agentd" and path.name != "__init__.py"}
    tested = {path.parent.name for path in MODULES if path.stem.startswith("test_")}
    assert layers <= tested, f"no tests for {sorted(layers - tested)}"
