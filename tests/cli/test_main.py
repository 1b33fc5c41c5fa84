"""Exit codes and sentences: never a traceback for what a user did; nothing is imported that is not needed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agentd import __version__
from agentd.cli import main
from agentd.cli.failure import INTERRUPTED, UNREACHABLE, USAGE
from tests.cli.conftest import Command

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
GROUPS = {
    "token": ("add", "list", "revoke"),
    "sessions": ("list", "tree", "branch", "checkout"),
    "memory": ("search", "show", "export", "forget"),
}
COMMANDS = [name for name, *_ in main.VERBS] + [f"{group} {one}" for group, some in GROUPS.items() for one in some]


def test_the_version_is_said(command: Command) -> None:
    assert command("--version").out.strip() == __version__


def test_help_names_every_verb_and_the_exit_codes(command: Command) -> None:
    said = command("--help").out
    assert all(re.search(rf"^  {name}: ", said, re.MULTILINE) for name, *_ in main.VERBS)
    assert "5 server not reachable" in " ".join(said.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_the_page_says_the_same(name: str, command: Command) -> None:
    said = command(*name.split(), "--help")
    assert said.code == 0
    flags = set(re.findall(r"--[a-z][a-z-]+", said.out.split("Examples:")[0])) - {"--help", "--version"}
    chapter = DOCUMENT.split(f"\n## agentd {name}\n", 1)[1].split("\n## ", 1)[0]
    told = set(re.findall(r"--[a-z][a-z-]+", chapter.split("```")[0]))
    assert flags == told, "docs/cli.md names other options than --help"
    if name not in GROUPS:
        example = re.findall(rf"^agentd {name}\b.*$|^.*\| agentd {name}\b.*$", chapter, re.MULTILINE)
        assert example, "docs/cli.md has no example"


def test_every_verb_shows_examples(command: Command) -> None:
    for name, *_ in main.VERBS:
        assert f"    agentd {name}" in command(name, "--help").out


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["chat", "--bogus"],
        ["ctl"],
        ["ctl", "dance"],
        ["trace"],
        ["serve", "--port", "many"],
        ["token", "add"],
    ],
)
def test_what_is_not_understood_is_told_on_stderr_with_code_2(arguments: list[str], command: Command) -> None:
    said = command(*arguments)
    assert (said.code, said.out) == (USAGE, "")
    assert said.err.startswith("error: ")
    assert "hint: " in said.err


def test_no_server_is_a_sentence_a_remedy_and_code_5(command: Command, tmp_path: Path) -> None:
    for arguments in (["chat", "hello"], ["goal", "x"], ["ctl", "state"], ["status"], ["sessions"], ["trace", "r"]):
        said = command(*arguments, "--state-dir", str(tmp_path))
        assert (said.code, said.out) == (UNREACHABLE, "")
        assert re.fullmatch(r"error: no server .*\nhint: .*agentd serve.*\n", said.err)


def test_ctrl_c_before_anything_happens_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "build", interrupted)
    assert main.run(["status"]) == INTERRUPTED


def test_a_reader_that_went_away_is_no_traceback() -> None:
    command = [sys.executable, "-m", "agentd", "--help"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=20, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_broken_configuration_is_a_sentence(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTD_SERVER__PORT", "many")
    for verb in (["serve"], ["chat", "x"]):
        said = command(*verb)
        assert said.code == 1
        assert said.err.splitlines()[0] == "error: environment variable AGENTD_SERVER__PORT: server.port is not valid"


def test_a_chat_imports_neither_store_nor_server_nor_openai() -> None:
    code = (
        "import sys; from agentd.cli.main import build; app = build(); app.parse_args(['chat', 'x']); "
        "print([name for name in sys.modules if name.split('.')[0] in ('openai', 'uvicorn', 'starlette', 'aiosqlite')"
        " or name.startswith(('agentd.store', 'agentd.actors', 'agentd.core', 'agentd.app'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.strip() == "[]"
