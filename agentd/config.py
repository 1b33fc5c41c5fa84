"""Where settings come from: flags, environment, `--config` file, user file, the shipped defaults; the first that has
a value wins.

Every value is checked where it stands, so that an error can name the file, variable or flag, the key and the remedy; a
mistake in a source that loses is told as well. Nothing here reads the process's environment: the caller passes it. Keys
of providers are no settings and never become a field of one (`api_key`), so no print of the settings can show them.
"""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import platformdirs
from msgspec import inspect

from agentd.settings import SECTIONS, Settings

PREFIX = "AGENTD_"
# Where a file of the wheel's `_data` lies in a checkout.
_IN_CHECKOUT = {"agentd.toml": "config/agentd.toml"}
_SECRET_NAMES = ("key", "token", "secret", "password", "authorization")
# Settings that other programs' variables fill while nothing else does.
_BORROWED = {"OPENAI_BASE_URL": ("provider", "base_url"), "AGENTD_MODEL": ("provider", "model")}
_NO_SETTINGS = frozenset({"AGENTD_MODEL", "AGENTD_URL", "AGENTD_TOKEN", "AGENTD_LOG"})


class ConfigError(Exception):
    """A setting is wrong. `message` names source and key, `hint` the remedy; both are fit to be printed as they are."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}. {hint}")
        self.message = message
        self.hint = hint


def load(
    flags: Mapping[str, object], env: Mapping[str, str], config_file: Path | None, *, user_file: Path | None = None
) -> Settings:
    """All settings, merged and checked; paths in them are absolute.

    Args:
        flags: values by "section.key", texts or of the setting's type; None means not given.
        env: the environment; `AGENTD_SECTION__KEY`, lists with commas.
        config_file: what `--config` names; it has to exist.
        user_file: instead of the user's own file, which may be missing.

    Raises:
        ConfigError: unknown section or key, wrong type, out of bounds, a file that can't be read or is no TOML.
    """
    merged = _Merged()
    shipped = data_path("agentd.toml")
    merged.add_file(shipped)
    user_file = user_file or Path(platformdirs.user_config_dir("agentd")) / "agentd.toml"
    merged.add_file(user_file, may_be_missing=True)
    if config_file is not None:
        merged.add_file(config_file)
    merged.add_environment(env)
    merged.add_flags(flags)
    merged.borrow(env)
    return _checked_together(merged.settings(shipped=str(shipped)))


def listed(settings: Settings) -> list[tuple[str, object, str]]:
    """Every setting as (section.key, value, where it came from), in the order they are written down."""
    return [
        (name, getattr(getattr(settings, section), key), settings.sources.get(name, "default"))
        for section, kind in SECTIONS.items()
        for key in kind.__struct_fields__
        for name in [f"{section}.{key}"]
    ]


def api_key(env: Mapping[str, str]) -> str | None:
    """The provider's key, None when there is none. Not to be stored or printed."""
    return env.get("OPENAI_API_KEY", "").strip() or None


def data_path(name: str) -> Path:
    """A file or folder that agentd brings along ("agentd.toml", "identity"), in a checkout and in an installed wheel.

    Raises:
        ConfigError: the installation is incomplete.
    """
    package = Path(__file__).resolve().parent
    for path in (package / "_data" / name, package.parent / _IN_CHECKOUT.get(name, name)):
        if path.exists():
            return path
    raise ConfigError(f"agentd's own data {name!r} is missing", "Install agentd again, or start it from a checkout.")


class _Merged:
    """What the sources said so far; a later source wins."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
        self._sources: dict[str, str] = {}

    def add_file(self, path: Path, *, may_be_missing: bool = False) -> None:
        where = str(path)
        for section, table in _read_toml(path, may_be_missing=may_be_missing).items():
            if section not in SECTIONS:
                raise ConfigError(f"{where}: unknown section [{section}]", _did_you_mean(section, SECTIONS, "sections"))
            if not isinstance(table, dict):
                raise ConfigError(
                    f"{where}: {section} is a section, not a value", f"Write [{section}] and its keys below."
                )
            for key, value in table.items():
                self._set(section, key, value, where)

    def add_environment(self, env: Mapping[str, str]) -> None:
        for name in sorted(env):
            if not name.startswith(PREFIX) or name in _NO_SETTINGS:
                continue
            section, separator, key = name.removeprefix(PREFIX).lower().partition("__")
            if separator:
                self._set(section, key, env[name], f"environment variable {name}", parse=True)
            elif missed := _meant_a_setting(section):
                raise ConfigError(
                    f"environment variable {name} is no setting",
                    f"Section and key are joined by two underscores: {PREFIX}{missed}.",
                )

    def add_flags(self, flags: Mapping[str, object]) -> None:
        for name, value in flags.items():
            if value is not None:
                section, _, key = name.partition(".")
                self._set(section, key, value, "command line", parse=isinstance(value, str))

    def borrow(self, env: Mapping[str, str]) -> None:
        for name, (section, key) in _BORROWED.items():
            if env.get(name) and not self._values[section].get(key):
                self._set(section, key, env[name], f"environment variable {name}", parse=True)

    def settings(self, *, shipped: str) -> Settings:
        sections = {name: kind(**self._values[name]) for name, kind in SECTIONS.items()}
        sources = {key: source for key, source in self._sources.items() if not self._is_default(key, source, shipped)}
        return Settings(**cast(dict[str, Any], sections), sources=sources)

    def _is_default(self, name: str, source: str, shipped: str) -> bool:
        section, _, key = name.partition(".")
        return source == shipped and self._values[section][key] == getattr(SECTIONS[section](), key)

    def _set(self, section: str, key: str, value: object, where: str, *, parse: bool = False) -> None:
        if section not in SECTIONS:
            raise ConfigError(f"{where}: unknown section {section!r}", _did_you_mean(section, SECTIONS, "sections"))
        types = {field.name: field.type for field in msgspec.structs.fields(SECTIONS[section])}
        name = f"{section}.{key}"
        if key not in types:
            raise ConfigError(f"{where}: unknown key {name}", _unknown_key_hint(key, types))
        if parse and isinstance(inspect.type_info(types[key]), inspect.ListType):
            value = [item.strip() for item in str(value).split(",") if item.strip()]
        try:
            self._values[section][key] = msgspec.convert(value, types[key], strict=not parse)
        except msgspec.ValidationError:
            # The value is not repeated: it may be a secret that somebody put in the wrong place.
            raise ConfigError(f"{where}: {name} is not valid", f"It has to be {describe(types[key])}.") from None
        self._sources[name] = where


def _read_toml(path: Path, *, may_be_missing: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if may_be_missing:
            return {}
        raise ConfigError(f"{path} does not exist", "Give --config the path of a TOML file.") from None
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}", "Make it a readable file.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text", "Save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is no valid TOML: {error}", 'Texts need quotes: host = "127.0.0.1".') from None


def _checked_together(settings: Settings) -> Settings:
    """What no single value can show, and paths made absolute."""
    server, memory = settings.server, settings.memory
    if bool(server.tls_cert) != bool(server.tls_key):
        raise _contradiction(settings, "server.tls_cert", "server.tls_key", "Set both for TLS, or neither.")
    if memory.low_water >= memory.high_water:
        raise _contradiction(settings, "memory.low_water", "memory.high_water", "low_water has to be the smaller one.")
    paths = {key: _absolute(getattr(server, key)) for key in ("tls_cert", "tls_key")}
    state_dir = _absolute(server.state_dir) or platformdirs.user_state_dir("agentd")
    return msgspec.structs.replace(
        settings,
        server=msgspec.structs.replace(server, state_dir=state_dir, **paths),
        identity=msgspec.structs.replace(settings.identity, dir=_absolute(settings.identity.dir)),
    )


def _contradiction(settings: Settings, first: str, second: str, hint: str) -> ConfigError:
    said = ", ".join(f"{name} ({settings.sources.get(name, 'default')})" for name in (first, second))
    return ConfigError(f"these settings contradict each other: {said}", hint)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""


def _meant_a_setting(name: str) -> str | None:
    """SECTION__KEY when `name` is a section alone, a key alone, or the two joined by one underscore only."""
    if name in SECTIONS:
        return f"{name}__{SECTIONS[name].__struct_fields__[0]}".upper()
    for section, kind in SECTIONS.items():
        for key in kind.__struct_fields__:
            if name in (key, f"{section}_{key}"):
                return f"{section}__{key}".upper()
    return None


def _unknown_key_hint(key: str, known: Mapping[str, object]) -> str:
    if any(part in _SECRET_NAMES for part in key.lower().split("_")):
        return "Keys are never settings: put it in the environment variable OPENAI_API_KEY."
    return _did_you_mean(key, known, "keys")


def _did_you_mean(name: str, known: Mapping[str, object], what: str) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]}?" if close else f"Known {what}: {', '.join(known)}."


def describe(kind: object) -> str:
    """A setting's type and bounds in words: "an integer from 0 to 65535"."""
    match inspect.type_info(kind):
        case inspect.IntType(ge=low, le=high):
            return "an integer" + _range(low, high)
        case inspect.FloatType(ge=low, gt=above, le=high):
            return "a number" + (f" above {above:g} and at most {high:g}" if above is not None else _range(low, high))
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType(values=values):
            return " or ".join(f'"{value}"' for value in values)
        case inspect.ListType():
            return "a list of texts"
        case _:
            return "a text"


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return ""
    return f" of at least {low}" if high is None else f" from {low} to {high}"
