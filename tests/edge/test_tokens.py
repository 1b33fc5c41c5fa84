"""Tokens on disk: private, whole, never in the clear, seen by a running server."""

import json
import stat
from pathlib import Path

import pytest

from agentd.edge.tokens import SCOPES, Principal, TokenError, Tokens
from tests.edge.rig import ManualClock

CHAT = frozenset({"chat"})


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_local_token_is_made_once_private_and_may_do_everything(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "state"
    tokens = Tokens(state, ManualClock())
    assert mode(state / "token") == 0o600
    assert mode(state) == 0o700
    assert len(tokens.local_token) == 43
    assert tokens.check(tokens.local_token) == Principal("local", SCOPES)
    assert Tokens(state, ManualClock()).local_token == tokens.local_token


@pytest.mark.parametrize("wrong", ["", "x", "x" * 43, "é", "\ud800", "x" * 100_000])
def test_a_wrong_token_is_nobodys(tmp_path: Path, wrong: str) -> None:
    assert Tokens(tmp_path, ManualClock()).check(wrong) is None


def test_a_token_that_was_added_is_kept_as_a_hash_with_its_scopes(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path, ManualClock())
    token = tokens.add("phone", CHAT)
    assert tokens.check(token) == Principal("phone", CHAT)
    assert mode(tmp_path / "tokens.json") == 0o600
    assert token not in (tmp_path / "tokens.json").read_text()
    assert [(entry.name, entry.scopes) for entry in tokens.entries()] == [("phone", ("chat",))]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["token", "tokens.json", "tokens.lock"]


def test_a_revoked_token_is_nobodys_and_its_name_is_free(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path, ManualClock())
    old, kept = tokens.add("phone", CHAT), tokens.add("tablet", CHAT)
    tokens.revoke("phone")
    assert tokens.check(old) is None
    assert tokens.check(kept) == Principal("tablet", CHAT)
    new = tokens.add("phone", SCOPES)
    assert new != old
    assert tokens.check(new) == Principal("phone", SCOPES)


@pytest.mark.parametrize(
    ("name", "scopes"),
    [("", CHAT), ("local", CHAT), ("a b", CHAT), ("x" * 65, CHAT), ("../x", CHAT), ("a", frozenset()), ("a", {"root"})],
)
def test_a_malformed_name_or_scope_is_refused_with_a_hint(tmp_path: Path, name: str, scopes: frozenset[str]) -> None:
    with pytest.raises(TokenError) as error:
        Tokens(tmp_path, ManualClock()).add(name, frozenset(scopes))
    assert error.value.hint


def test_a_taken_name_and_an_unknown_one_are_refused_and_change_nothing(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path, ManualClock())
    token = tokens.add("phone", CHAT)
    before = (tmp_path / "tokens.json").read_bytes()
    with pytest.raises(TokenError, match="already"):
        tokens.add("phone", SCOPES)
    with pytest.raises(TokenError, match="no token"):
        tokens.revoke("tablet")
    assert (tmp_path / "tokens.json").read_bytes() == before
    assert tokens.check(token) == Principal("phone", CHAT)


def test_a_running_server_sees_a_new_token_at_once_and_a_revoked_one_within_a_second(tmp_path: Path) -> None:
    clock = ManualClock()
    server, command_line = Tokens(tmp_path, clock), Tokens(tmp_path, ManualClock())
    token = command_line.add("phone", CHAT)
    assert server.check(token) == Principal("phone", CHAT)
    clock.now_s += 1
    assert server.check(token) == Principal("phone", CHAT)
    command_line.revoke("phone")
    clock.now_s += 1
    assert server.check(token) is None


def test_two_writers_do_not_lose_each_others_tokens(tmp_path: Path) -> None:
    one, two = Tokens(tmp_path, ManualClock()), Tokens(tmp_path, ManualClock())
    one.add("a", CHAT)
    two.add("b", CHAT)
    one.add("c", CHAT)
    assert [entry.name for entry in two.entries()] == ["a", "b"]
    assert [entry.name for entry in Tokens(tmp_path, ManualClock()).entries()] == ["a", "b", "c"]


def test_a_file_that_breaks_later_keeps_what_was_known_and_one_broken_at_the_start_is_an_error(tmp_path: Path) -> None:
    clock = ManualClock()
    tokens = Tokens(tmp_path, clock)
    token = tokens.add("phone", CHAT)
    (tmp_path / "tokens.json").write_text("{ half")
    clock.now_s += 1
    assert tokens.check(token) == Principal("phone", CHAT)
    with pytest.raises(TokenError):
        Tokens(tmp_path, ManualClock())


def test_a_short_local_token_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    with pytest.raises(TokenError) as error:
        Tokens(tmp_path, ManualClock())
    assert "secret\n" not in str(error.value)


def test_files_that_others_could_read_are_made_private_again(tmp_path: Path) -> None:
    Tokens(tmp_path, ManualClock()).add("phone", CHAT)
    for name in ("token", "tokens.json"):
        (tmp_path / name).chmod(0o644)
    Tokens(tmp_path, ManualClock())
    assert [mode(tmp_path / name) for name in ("token", "tokens.json")] == [0o600, 0o600]


def test_the_file_has_a_version_and_nothing_secret(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path, ManualClock())
    tokens.add("phone", frozenset({"operator", "chat"}))
    content = json.loads((tmp_path / "tokens.json").read_text())
    (entry,) = content.pop("tokens")
    assert content == {"version": 1}
    assert set(entry) == {"name", "scopes", "sha256", "created_ms"}
    assert entry["scopes"] == ["chat", "operator"]
