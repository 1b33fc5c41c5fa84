"""Which server is meant, and which token may go there."""

import json
from pathlib import Path

import pytest

from agentd.cli import address
from agentd.cli.address import NOWHERE, Server, Where
from agentd.cli.failure import DENIED, UNREACHABLE, USAGE, Failure

TOKEN = "t" * 43


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text(TOKEN + "\n", encoding="ascii")
    return tmp_path


def in_state(state: Path) -> Where:
    return Where(state_dir=str(state))


def test_a_running_server_is_found_by_what_it_wrote(state: Path) -> None:
    told = {"url": "http://127.0.0.1:4711", "pid": 1, "version": "9"}
    (state / "server.json").write_text(json.dumps(told), encoding="utf-8")
    assert address.find(in_state(state), {}) == Server("http://127.0.0.1:4711", TOKEN, local=True)


@pytest.mark.parametrize("content", [None, "", "{", '{"url": 1}', '{"url": "gopher://x", "pid": 1, "version": ""}'])
def test_without_a_readable_address_file_the_settings_say_where(state: Path, content: str | None) -> None:
    if content is not None:
        (state / "server.json").write_text(content, encoding="utf-8")
    assert address.find(in_state(state), {}).url == "http://127.0.0.1:18790"
    elsewhere = {"AGENTD_SERVER__PORT": "7", "AGENTD_SERVER__HOST": "::"}
    assert address.find(in_state(state), elsewhere).url == "http://[::1]:7"


def test_the_environment_names_server_and_token(state: Path) -> None:
    env = {"AGENTD_URL": "http://example.org:1/", "AGENTD_TOKEN": "mine"}
    assert address.find(NOWHERE, env) == Server("http://example.org:1", "mine", local=False)
    assert address.find(in_state(state), env) == Server("http://127.0.0.1:18790", "mine", local=False)
    assert address.find(Where(url="http://127.0.0.1:2"), env).url == "http://127.0.0.1:2"


def test_the_local_token_goes_to_no_other_machine(state: Path) -> None:
    where = Where(url="http://example.org:1", state_dir=str(state))
    with pytest.raises(Failure, match="for this machine only") as caught:
        address.find(where, {})
    assert caught.value.code == DENIED
    assert address.find(Where(url="http://localhost:1", state_dir=str(state)), {}).token == TOKEN


@pytest.mark.parametrize(
    "url", ["example.org", "ftp://x", "http://", "http://x:0", "http://x:99999", "http://u:secret@x", "http://x/?token=secret"]
)  # fmt: skip
def test_a_malformed_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(Failure) as caught:
        address.find(Where(url=url), {"AGENTD_TOKEN": "t"})
    assert caught.value.code == USAGE
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"


def test_a_state_directory_without_a_token_had_no_server_yet(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="no server has been started") as caught:
        address.find(Where(state_dir=str(tmp_path)), {})
    assert caught.value.code == UNREACHABLE


def test_two_principals_have_two_default_sessions() -> None:
    assert address.default_session(Server("u", TOKEN, local=True)) == "cli"
    names = {address.default_session(Server("u", token, local=False)) for token in ("a", "b")}
    assert len(names) == 2
    assert all(name.startswith("cli-") and len(name) == 12 for name in names)
