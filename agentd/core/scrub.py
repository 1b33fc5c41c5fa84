"""Secrets taken out of values and texts before anything is decided on, stored or shown.

Three ways to know one: the value itself (`known`: what the server holds), the key it stands under at any depth
(`password`, `api_key`, `authorization`), and its own shape (`secret_shapes`). What was found is told as path and rule,
never as value, and a path holds no secret either. References such as `${API_KEY}` are names of secrets and stay, and
so do the marks `[scrubbed:rule]`: to scrub twice is to scrub once. What holds nothing comes back as the same object.
"""

import re
from typing import Any

import msgspec

from agentd.core.secret_shapes import find_shapes

DEPTH_MAX = 128
FOUND_MAX = 128
# Shorter ones would be found in ordinary words.
KNOWN_CHARS_MIN = 8
_PATH_CHARS = 64

_SECRET_NAME = re.compile(
    r"(?:password|passwd|pwd|passphrase|secret|token|apikey|privatekey|secretkey|accesskey|signingkey|encryptionkey"
    r"|authorization|cookie|credentials?)$"
)
_CURSOR_NAME = re.compile(r"(?:page|next|continuation|sync|cancellation|per|max|min)token$")
_REFERENCE = re.compile(
    r"(?:(?:bearer|basic|token)[ ]+)?"
    r"(?:\$\{[A-Za-z_][\w.:-]{0,127}\}|\$[A-Za-z_]\w{0,127}|\{\{ ?[\w.-]{1,128} ?\}\}|\[scrubbed:[a-z_]+\])",
    re.IGNORECASE,
)
_NOT_IN_NAMES = str.maketrans("", "", "_-. ")


class Found(msgspec.Struct, frozen=True):
    """Where a secret was (a JSON pointer; "" is the value itself) and by which rule it was known."""

    path: str
    rule: str


class Scrubbed(msgspec.Struct, frozen=True):
    """The value without its secrets, the same object when it had none.

    `found`: each place and rule once, at most `FOUND_MAX`; beyond that the last one is the rule "more".
    """

    value: Any
    found: tuple[Found, ...]


def scrub(value: Any, known: frozenset[str] = frozenset()) -> Scrubbed:
    """Take the secrets out of a text or of a value as JSON has them; other objects are left as they are.

    Under a secret key every text goes, and every number unless the key counts tokens. What lies deeper than
    `DEPTH_MAX` is replaced too, as it was not looked at.
    """
    work = _Scrubber(known)
    clean = work.value(value, "", 0)
    found = tuple(dict.fromkeys(work.found))
    return Scrubbed(clean, found if len(found) <= FOUND_MAX else (*found[: FOUND_MAX - 1], Found("", "more")))


class _Scrubber:
    """One walk over one value, noting what it finds."""

    def __init__(self, known: frozenset[str]) -> None:
        self.known = known
        self.found: list[Found] = []

    def value(self, value: Any, path: str, depth: int, kind: str = "") -> Any:
        """The value without its secrets; `kind` is not empty below a secret key (see `_secrecy`)."""
        if isinstance(value, str):
            return self._field(value, path) if kind else self._text(value, path)
        if not isinstance(value, dict | list | tuple):
            counted = kind != "secret" or isinstance(value, bool) or not isinstance(value, int | float)
            return value if counted else self._gone(path, "field")
        if depth >= DEPTH_MAX:
            return self._gone(path, "depth")
        if isinstance(value, dict):
            return self._mapping(value, path, depth + 1, kind)
        return self._sequence(value, [self.value(one, f"{path}/{at}", depth + 1, kind) for at, one in enumerate(value)])

    def _gone(self, path: str, rule: str) -> str:
        self.found.append(Found(path, rule))
        return f"[scrubbed:{rule}]"

    def _field(self, text: str, path: str) -> str:
        """A text under a secret key goes, unless it is empty or only names a secret."""
        return text if not text or _REFERENCE.fullmatch(text) else self._gone(path, "field")

    def _text(self, text: str, path: str) -> str:
        if len(text) < KNOWN_CHARS_MIN:
            return text
        held = [secret for secret in self.known if len(secret) >= KNOWN_CHARS_MIN and secret in text]
        for secret in sorted(held, key=len, reverse=True):
            text = text.replace(secret, self._gone(path, "known"))
        text, rules = find_shapes(text)
        self.found += [Found(path, rule) for rule in rules]
        return text

    def _mapping(self, value: dict[Any, Any], path: str, depth: int, kind: str) -> dict[Any, Any]:
        clean: dict[Any, Any] = {}
        changed = False
        for key, one in value.items():
            name, below = key, kind
            if isinstance(key, str):
                name, below = self._text(key, f"{path}/?"), kind or _secrecy(key)
                while name is not key and (name in clean or name in value):
                    name += "'"  # two secrets as keys leave two entries
            clean[name] = self.value(one, f"{path}/{_step(name)}", depth, below)
            changed = changed or name is not key or clean[name] is not one
        return clean if changed else value

    def _sequence(self, value: Any, clean: list[Any]) -> Any:
        if all(new is old for new, old in zip(clean, value, strict=True)):
            return value
        return clean if isinstance(value, list) else tuple(clean)


def _secrecy(key: str) -> str:
    """Empty, or what kind of secret stands under `key`; case and separators make no difference."""
    name = key.lower().translate(_NOT_IN_NAMES)
    if not _SECRET_NAME.search(name, max(0, len(name) - 16)) or _CURSOR_NAME.search(name, max(0, len(name) - 20)):
        return ""
    return "token" if name.endswith("token") else "secret"


def _step(key: Any) -> str:
    return str(key)[:_PATH_CHARS].replace("~", "~0").replace("/", "~1")
