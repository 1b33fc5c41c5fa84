"""Settings: which source wins, and that every mistake is told with its source, its key and a remedy."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentd.config import ConfigError, api_key, data_path, describe, listed, load
from agentd.settings import SECTIONS, Settings

MISSING = Path("no-user-file.toml")


def loaded(
    flags: dict[str, object] | None = None,
    env: dict[str, str] | None = None,
    config_file: Path | None = None,
    user_file: Path = MISSING,
) -> Settings:
    return load(flags or {}, env or {}, config_file, user_file=user_file)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def refused(**sources: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        loaded(**sources)
    return caught.value


def test_without_any_source_every_setting_has_its_default_and_no_source() -> None:
    settings = loaded()
    assert settings.server.port == 18_790
    assert settings.limits.outbox_frames == 2_000
    assert settings.sources == {}


def test_each_source_wins_over_the_ones_below_it_and_is_named(tmp_path: Path) -> None:
    user = written(
        tmp_path / "user.toml", "[limits]\nworkers = 2\nmailbox = 2\ndispatch = 2\nsockets = 2\n[server]\nport = 2\n"
    )
    file = written(tmp_path / "file.toml", "[limits]\nworkers = 3\nmailbox = 3\ndispatch = 3\n")
    settings = loaded(
        {"limits.workers": 5, "limits.control": None},
        {"AGENTD_LIMITS__WORKERS": "4", "AGENTD_LIMITS__MAILBOX": "4"},
        file,
        user,
    )
    limits = settings.limits
    assert (limits.workers, limits.mailbox, limits.dispatch, limits.sockets, limits.control) == (5, 4, 3, 2, 64)
    assert settings.sources == {
        "limits.workers": "command line",
        "limits.mailbox": "environment variable AGENTD_LIMITS__MAILBOX",
        "limits.dispatch": str(file),
        "limits.sockets": str(user),
        "server.port": str(user),
    }


def test_texts_from_flags_and_environment_are_read_as_the_type_of_the_setting() -> None:
    settings = loaded(
        {"server.port": "0", "heartbeat.interval_s": "0.5"},
        {
            "AGENTD_HEARTBEAT__ENABLED": "false",
            "AGENTD_SERVER__ORIGINS": "https://a.example, https://b.example,",
            "AGENTD_SERVER__HOST": "0123",
            "AGENTD_ADMISSION__OVERFLOW": "drop",
        },
    )
    assert settings.server.port == 0
    assert settings.heartbeat.interval_s == 0.5
    assert settings.heartbeat.enabled is False
    assert settings.server.origins == ["https://a.example", "https://b.example"]
    assert settings.server.host == "0123"
    assert settings.admission.overflow == "drop"


def test_paths_become_absolute_and_the_home_directory_is_expanded(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    settings = loaded({"server.state_dir": "here", "identity.dir": "~/me"})
    assert settings.server.state_dir == str(tmp_path / "here")
    assert settings.identity.dir == str(tmp_path / "home" / "me")
    assert loaded().identity.dir == ""
    assert Path(loaded().server.state_dir).is_absolute()


def test_the_provider_variables_fill_what_nothing_else_set(tmp_path: Path) -> None:
    env = {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1", "AGENTD_MODEL": "small"}
    provider = loaded(env=env).provider
    assert (provider.base_url, provider.model) == ("http://127.0.0.1:1/v1", "small")
    file = written(tmp_path / "f.toml", '[provider]\nmodel = "large"\n')
    settings = loaded(env=env, config_file=file)
    assert settings.provider.model == "large"
    assert settings.sources["provider.base_url"] == "environment variable OPENAI_BASE_URL"


def test_a_key_is_read_from_the_environment_and_is_in_no_print_of_the_settings() -> None:
    env = {"OPENAI_API_KEY": " sk-very-secret\n"}
    assert api_key(env) == "sk-very-secret"
    assert api_key({"OPENAI_API_KEY": " "}) is None
    assert "very-secret" not in repr(loaded(env=env))


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[server]\nprot = 1\n", "unknown key server.prot", "Did you mean port?"),
        ("[server]\nzzz = 1\n", "unknown key server.zzz", "Known keys: host, port"),
        ("[sever]\nport = 1\n", "unknown section [sever]", "Did you mean server?"),
        ("qqq = 1\n", "unknown section [qqq]", "Known sections: server, limits"),
        ("server = 1\n", "server is a section, not a value", "Write [server]"),
        ('[server]\nport = "1"\n', "server.port is not valid", "an integer from 0 to 65535"),
        ("[server]\nport = 65536\n", "server.port is not valid", "an integer from 0 to 65535"),
        ("[server]\nport = true\n", "server.port is not valid", "an integer"),
        ("[server]\nhost = 1\n", "server.host is not valid", "a text"),
        ("[server]\norigins = [1]\n", "server.origins is not valid", "a list of texts"),
        ("[limits]\nrss_bytes = -1\n", "limits.rss_bytes is not valid", "an integer of at least 0"),
        ("[heartbeat]\nenabled = 1\n", "heartbeat.enabled is not valid", "true or false"),
        ("[heartbeat]\ninterval_s = 0\n", "heartbeat.interval_s is not valid", "a number from 0.05 to 86400"),
        ("[heartbeat]\ninterval_s = nan\n", "heartbeat.interval_s is not valid", "a number"),
        ("[memory]\nhigh_water = 0\n", "memory.high_water is not valid", "a number above 0 and at most 1"),
        ('[runs]\nsteer = "some"\n', "runs.steer is not valid", '"all" or "one"'),
        ('[provider]\napi_key = "sk-1"\n', "unknown key provider.api_key", "environment variable OPENAI_API_KEY"),
        ("[server\n", "is no valid TOML", "quotes"),
        ("[server]\nhost = localhost\n", "line 2", "quotes"),
    ],
)
def test_a_mistake_in_a_file_names_file_key_and_remedy(tmp_path: Path, text: str, message: str, hint: str) -> None:
    file = written(tmp_path / "agentd.toml", text)
    error = refused(config_file=file)
    assert str(file) in error.message
    assert message in error.message
    assert hint in error.hint
    assert str(error) == f"{error.message}. {error.hint}"


def test_a_mistake_in_the_users_file_is_told_although_a_flag_wins(tmp_path: Path) -> None:
    user = written(tmp_path / "agentd.toml", "[server]\nport = -1\n")
    assert str(user) in refused(flags={"server.port": 1}, user_file=user).message


@pytest.mark.parametrize(
    ("env", "message", "hint"),
    [
        ({"AGENTD_SERVER__PORT": "many"}, "AGENTD_SERVER__PORT: server.port", "an integer from 0 to 65535"),
        ({"AGENTD_SERVER__PORT": ""}, "AGENTD_SERVER__PORT: server.port", "an integer"),
        ({"AGENTD_SERVER__PROT": "1"}, "AGENTD_SERVER__PROT: unknown key", "Did you mean port?"),
        ({"AGENTD_SEVER__PORT": "1"}, "unknown section 'sever'", "Did you mean server?"),
        ({"AGENTD_SERVER_PORT": "1"}, "AGENTD_SERVER_PORT is no setting", "AGENTD_SERVER__PORT"),
        ({"AGENTD_PROVIDER": "openai"}, "AGENTD_PROVIDER is no setting", "AGENTD_PROVIDER__NAME"),
        ({"AGENTD_PORT": "1"}, "AGENTD_PORT is no setting", "AGENTD_SERVER__PORT"),
        ({"AGENTD_MEMORY_KEEP_DAYS": "1"}, "AGENTD_MEMORY_KEEP_DAYS", "AGENTD_MEMORY__KEEP_DAYS"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(env: dict[str, str], message: str, hint: str) -> None:
    error = refused(env=env)
    assert message in error.message
    assert hint in error.hint


def test_variables_that_are_no_settings_are_left_alone() -> None:
    env = {
        "AGENTD_URL": "http://127.0.0.1:1",
        "AGENTD_TOKEN": "t",
        "AGENTD_LOG": "debug",
        "AGENTD_MINE": "x",
        "SERVER__PORT": "x",
    }
    assert loaded(env=env).sources == {}


@pytest.mark.parametrize("name", ["server.prot", "sever.port", "port"])
def test_a_flag_that_is_no_setting_is_refused(name: str) -> None:
    assert "command line: unknown" in refused(flags={name: 1}).message


def test_a_value_that_is_not_valid_is_not_repeated_in_the_error() -> None:
    assert "sk-secret" not in str(refused(env={"AGENTD_LIMITS__WORKERS": "sk-secret"}))


def test_a_missing_config_file_is_refused_but_a_missing_user_file_is_not(tmp_path: Path) -> None:
    error = refused(config_file=tmp_path / "none.toml")
    assert "none.toml does not exist" in error.message
    assert loaded(user_file=tmp_path / "none.toml") == loaded()


def test_a_file_that_cannot_be_read_as_text_is_refused(tmp_path: Path) -> None:
    assert "can't be read" in refused(config_file=tmp_path).message
    (tmp_path / "latin.toml").write_bytes(b"[server]\nhost = '\xff'\n")
    assert "not UTF-8" in refused(config_file=tmp_path / "latin.toml").message


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ({"server.tls_cert": "c.pem"}, ("server.tls_cert (command line)", "server.tls_key (default)")),
        ({"memory.low_water": 0.9}, ("memory.low_water (command line)", "memory.high_water (default)")),
    ],
)
def test_settings_that_contradict_each_other_are_refused_with_both_sources(
    flags: dict[str, object], names: tuple[str, str]
) -> None:
    message = refused(flags=flags).message
    assert all(name in message for name in names)


def test_the_shipped_file_has_every_setting_with_the_default_of_the_code() -> None:
    shipped = tomllib.loads(data_path("agentd.toml").read_text(encoding="utf-8"))
    in_code = {name: msgspec.to_builtins(kind()) for name, kind in SECTIONS.items()}
    assert shipped == in_code
    assert {name: list(table) for name, table in shipped.items()} == {n: list(t) for n, t in in_code.items()}


def test_every_setting_can_be_given_in_the_environment() -> None:
    defaults = Settings()
    env = {}
    for section in SECTIONS:
        for key, value in msgspec.to_builtins(getattr(defaults, section)).items():
            text = ",".join(value) if isinstance(value, list) else str(value).lower()
            env[f"AGENTD_{section}__{key}".upper()] = text
    settings = loaded(env=env)
    assert len(settings.sources) == len(env)
    assert settings.limits == defaults.limits


def test_every_default_lies_within_its_own_bounds() -> None:
    for kind in SECTIONS.values():
        for field in msgspec.structs.fields(kind):
            value = getattr(kind(), field.name)
            assert msgspec.convert(value, field.type) == value, f"{kind.__name__}.{field.name}"
            assert describe(field.type)
    assert describe(int) == "an integer"


def test_a_list_of_all_settings_says_where_each_came_from() -> None:
    lines = listed(loaded({"limits.workers": 3}))
    assert ("limits.workers", 3, "command line") in lines
    assert ("limits.mailbox", 256, "default") in lines
    assert len(lines) == sum(len(kind.__struct_fields__) for kind in SECTIONS.values())


def test_missing_data_is_told_as_an_incomplete_installation() -> None:
    with pytest.raises(ConfigError, match="Install agentd again"):
        data_path("nothing-of-that-name")
