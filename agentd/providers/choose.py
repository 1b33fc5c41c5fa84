"""Which provider a server uses: what was asked for, or an error that says what to do; never a silent replacement.

Unset means offline, and `chosen_by_default` lets the start say so. The environment goes before the settings for what
both may say (design.md, 5a); the key is in the environment only and in no message.
"""

import urllib.parse
from collections.abc import Mapping

import msgspec

from agentd.clock import Clock
from agentd.providers.offline import OfflineProvider
from agentd.providers.openai import OpenAIProvider
from agentd.providers.provider import Provider

NAMES = ("offline", "openai")
OPENAI_URL = "https://api.openai.com/v1"
OPENAI_MODEL = "gpt-5.4-mini"  # where neither settings nor environment name one


class ProviderSettings(msgspec.Struct, frozen=True):
    """What the settings say; None and the empty text both mean unset. `pace_ms` is for offline."""

    name: str | None = None
    model: str | None = None
    base_url: str | None = None
    pace_ms: int = 0


class ProviderChoiceError(Exception):
    """The server can't start with this choice; `hint` is what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message} {hint}")
        self.message = message
        self.hint = hint


def chosen_by_default(settings: ProviderSettings) -> bool:
    """Nobody named a provider."""
    return not _said(settings.name)


def choose_provider(settings: ProviderSettings, env: Mapping[str, str], clock: Clock) -> Provider:
    """The provider that settings and environment name.

    Raises:
        ProviderChoiceError: an unknown name, a missing or unusable key, a malformed address.
    """
    name = _said(settings.name).lower()
    if name in ("", "offline"):
        return OfflineProvider(clock, settings.pace_ms)
    if name != "openai":
        raise ProviderChoiceError(
            f"There is no provider {settings.name!r}.",
            f"Set provider.name to one of {', '.join(NAMES)}, or leave it out for offline.",
        )
    base_url = _address(_said(env.get("OPENAI_BASE_URL")) or _said(settings.base_url) or OPENAI_URL)
    key = _key(_said(env.get("OPENAI_API_KEY")))
    model = _said(env.get("AGENTD_MODEL")) or _said(settings.model) or OPENAI_MODEL
    return OpenAIProvider(clock, key=key, model=model, base_url=base_url)


def _said(text: str | None) -> str:
    return (text or "").strip()


def _key(key: str) -> str:
    if not key:
        raise ProviderChoiceError(
            "The provider openai needs a key and OPENAI_API_KEY is not set.",
            "Set OPENAI_API_KEY (any text will do for a server that needs none), or set provider.name to offline.",
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ProviderChoiceError(
            "OPENAI_API_KEY holds characters that no key has.", "Set it again, without spaces, quotes or line ends."
        )
    return key


def _address(text: str) -> str:
    """The address without a slash at its end; what is wrong with it is told without repeating what it may hold."""
    hint = "Set OPENAI_BASE_URL or provider.base_url to something like https://host:port/v1."
    try:
        parts = urllib.parse.urlsplit(text)
        port = parts.port
    except ValueError:
        raise ProviderChoiceError("The address of the model server is malformed.", hint) from None
    if parts.username is not None or parts.password is not None:
        raise ProviderChoiceError("The address of the model server holds a name or password.", hint)
    if parts.query or parts.fragment:
        raise ProviderChoiceError("The address of the model server has a query or a fragment.", hint)
    ok = parts.scheme in ("http", "https") and parts.hostname and port != 0
    if not ok or not text.isascii() or not text.isprintable() or set(text) & set(' "<>\\^`{|}'):
        raise ProviderChoiceError(f"The address of the model server is malformed: {text[:200]!r}.", hint)
    return text.rstrip("/")
