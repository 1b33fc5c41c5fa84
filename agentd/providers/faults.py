"""What a failure of a model server means: its kind, whether asking again helps, when, and what to do about it.

Every message goes through `Scrub`, because servers echo the credential they were sent; the key itself and whatever
looks like one never leave this module's callers. Messages are cut, they may be whole pages.
"""

import email.utils
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from agentd.protocol.errors import ProviderError

MESSAGE_CHARS_MAX = 300
RETRY_AFTER_MAX_S = 30.0
BODY_BYTES_MAX = 65_536
KEY_CHARS_MIN = 4  # a shorter one is a placeholder for a server that needs none, and stands in too many words

# Faults that may be over the next time; asked again within the call, as long as nothing was shown.
ASKED_AGAIN = frozenset({"rate_limit", "timeout", "network", "unavailable"})

_LOOKS_SECRET = re.compile(r"(?i)\bbearer\s+\S+|\b(?:sk|rk|pk|key)-[\w*.-]{4,}")
_TOO_LONG = re.compile(r"(?i)context.{0,12}(?:length|window|size)|prompt is too long|too many (?:input )?tokens")
_SPENT = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
_FILTERED = ("content_filter", "content_policy_violation", "moderation_blocked")

_HINTS = {
    "auth": "Set OPENAI_API_KEY to a key that this server accepts.",
    "rate_limit": "Wait, or ask the provider for a higher limit.",
    "network": "Check OPENAI_BASE_URL and that the server runs; `agentd doctor` tells more.",
    "timeout": "Try again, or choose a faster model with AGENTD_MODEL.",
    "context_length": "Shorten the conversation, or choose a model with a longer context.",
    "malformed_output": "Check that OPENAI_BASE_URL names an OpenAI-compatible API, often ending in /v1.",
    "unavailable": "Try again later.",
}
_KIND_OF_STATUS = {
    401: "auth", 402: "rate_limit", 403: "auth", 404: "unavailable", 408: "timeout", 409: "unavailable",
    413: "context_length", 425: "unavailable", 429: "rate_limit",
}  # fmt: skip
_REPEATABLE_STATUS = frozenset({408, 409, 425, 429})


class Refused(Exception):
    """An answer with an error status; `body` is cut at `BODY_BYTES_MAX`."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers
        self.body = body


class Unreachable(Exception):
    """No connection, or it broke. The message is the kind of fault, never an address or a header."""


class Scrub:
    """Takes a key, and what looks like one, out of texts."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, text: str) -> str:
        """`text` without secrets, at most `MESSAGE_CHARS_MAX` characters."""
        if len(self._key) >= KEY_CHARS_MIN:
            text = text.replace(self._key, "[key]")
        clean = _LOOKS_SECRET.sub("[key]", " ".join(text[: MESSAGE_CHARS_MAX * 4].split()))
        return clean if len(clean) <= MESSAGE_CHARS_MAX else clean[:MESSAGE_CHARS_MAX] + "…"

    def __repr__(self) -> str:
        return "Scrub()"


class _Error(msgspec.Struct):
    message: Any = None
    code: Any = None
    type: Any = None


class ErrorBody(msgspec.Struct):
    """The error object of an answer or of an event; servers write it in several ways."""

    error: Any = None
    message: Any = None
    detail: Any = None

    def parts(self) -> tuple[str, str, str]:
        """(message, code, type), empty where the server says nothing."""
        inner = self.error
        if isinstance(inner, dict):
            return _text(inner.get("message")), _text(inner.get("code")), _text(inner.get("type"))
        return _text(inner or self.message or self.detail), "", ""


def failure(
    kind: str,
    message: str,
    *,
    retryable: bool | None = None,
    retry_after_s: float | None = None,
    hint: str | None = None,
) -> ProviderError:
    """A ProviderError; `message` must be scrubbed. Without `retryable` the kind decides."""
    return ProviderError(
        message,
        kind=kind,
        retryable=(kind in ASKED_AGAIN or kind == "malformed_output") if retryable is None else retryable,
        retry_after_ms=None if retry_after_s is None else round(retry_after_s * 1000),
        hint=hint or _HINTS.get(kind),
    )


def of_refusal(refused: Refused, *, model: str, scrub: Scrub, now_ms: int) -> ProviderError:
    """The failure that an answer with an error status tells of."""
    said, code, type_ = read_error(refused.body).parts()
    return of_error(
        said or f"HTTP status {refused.status}",
        code=code,
        type_=type_,
        status=refused.status,
        model=model,
        scrub=scrub,
        retry_after_s=retry_after_s(refused.headers, now_ms),
    )


def of_error(
    said: str, *, code: str, type_: str, status: int, model: str, scrub: Scrub, retry_after_s: float | None = None
) -> ProviderError:
    """The failure that an error object tells of; `status` is 0 when there is none."""
    message = scrub(f"The model server answered {status or 'with an error'}: {said}")
    named = (code.lower(), type_.lower())
    if any("context_length" in name or "context_size" in name for name in named) or (
        status in (0, 400, 413, 422) and _TOO_LONG.search(said)
    ):
        return failure("context_length", message)
    if any(name in _FILTERED for name in named):
        return failure("refused", message, hint="The server's content filter stopped this; say it differently.")
    if any(name in _SPENT for name in named) or status == 402:
        return failure("rate_limit", message, retryable=False, hint="The account has no quota left: check its billing.")
    if status == 404:
        hint = f"Check the model's name ({model!r}, AGENTD_MODEL) and the address (OPENAI_BASE_URL)."
        return failure("unavailable", message, retryable=False, hint=hint)
    if kind := _KIND_OF_STATUS.get(status):
        return failure(kind, message, retry_after_s=retry_after_s, retryable=status in _REPEATABLE_STATUS)
    if status >= 500 or not status:
        return failure("unavailable", message, retry_after_s=retry_after_s)
    return failure("refused", message, hint="The server does not take this request as it is; its message says why.")


def read_error(body: bytes) -> ErrorBody:
    """The error object in `body`; of what is no such object, the text."""
    try:
        return msgspec.json.decode(body[:BODY_BYTES_MAX], type=ErrorBody)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ErrorBody(message=re.sub(r"<[^>]{0,500}>", " ", body[:2_000].decode(errors="replace")).strip())


def retry_after_s(headers: Mapping[str, str], now_ms: int) -> float | None:
    """Seconds that the server asks to wait (a number of seconds or an HTTP date), None when it does not say."""
    exact = headers.get("retry-after-ms", "")
    if re.fullmatch(r"\d{1,12}(\.\d+)?", exact):
        return float(exact) / 1000
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,12}(\.\d+)?", text):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now_ms / 1000)
    except (ValueError, OverflowError):
        return None


def _text(value: Any) -> str:
    return "" if value is None else str(value)
