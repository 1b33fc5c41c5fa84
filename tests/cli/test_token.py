"""Tokens are given out once, listed without themselves, taken back by name."""

import json
from pathlib import Path

from agentd.cli.failure import FAILED, NOT_FOUND, USAGE
from agentd.clock import SystemClock
from agentd.edge.tokens import Tokens
from tests.cli.conftest import Command


def test_a_token_is_printed_alone_on_stdout_and_works(command: Command, tmp_path: Path) -> None:
    said = command("token", "add", "phone", "--scope", "chat", "--scope", "operator", "--state-dir", str(tmp_path))
    assert said.code == 0
    principal = Tokens(tmp_path, SystemClock()).check(said.out.strip())
    assert principal is not None
    assert (principal.name, set(principal.scopes)) == ("phone", {"chat", "operator"})
    assert "only time" in said.err


def test_a_list_names_tokens_and_never_shows_them(command: Command, tmp_path: Path) -> None:
    state = ["--state-dir", str(tmp_path)]
    token = json.loads(command("token", "add", "phone", "--scope", "chat", "--json", *state).out)["token"]
    listed = command("token", "list", *state)
    assert listed.out.startswith("phone\tchat\t")
    as_json = json.loads(command("token", "list", "--json", *state).out)
    assert [(one["name"], one["scopes"]) for one in as_json] == [("phone", ["chat"])]
    assert token not in listed.out


def test_a_revoked_token_is_gone_and_a_second_time_not_found(command: Command, tmp_path: Path) -> None:
    state = ["--state-dir", str(tmp_path)]
    token = command("token", "add", "phone", "--scope", "chat", *state).out.strip()
    assert command("token", "revoke", "phone", *state).code == 0
    assert Tokens(tmp_path, SystemClock()).check(token) is None
    again = command("token", "revoke", "phone", *state)
    assert again.code == NOT_FOUND
    assert again.err.startswith("error: there is no token named 'phone'\nhint: ")


def test_a_name_that_is_taken_or_malformed_and_an_unknown_scope_are_refused(command: Command, tmp_path: Path) -> None:
    state = ["--state-dir", str(tmp_path)]
    command("token", "add", "phone", "--scope", "chat", *state)
    assert command("token", "add", "phone", "--scope", "chat", *state).code == FAILED
    assert command("token", "add", "a b", "--scope", "chat", *state).code == FAILED
    assert command("token", "add", "tab", "--scope", "everything", *state).code == USAGE
    assert command("token", "add", "tab", *state).code == USAGE


def test_looking_makes_no_state_directory(command: Command, tmp_path: Path) -> None:
    nowhere = tmp_path / "none"
    for arguments in (["list"], ["revoke", "phone"]):
        assert command("token", *arguments, "--state-dir", str(nowhere)).code == NOT_FOUND
    assert not nowhere.exists()
