"""What can be wrong, one class for each wire code (protocol.md, 3).

    AgentdError
      InvalidFrame  UnknownType  InvalidPayload  TooLarge            the client's frame
      Unauthorized  Forbidden                                        who asks
      NotFound  Conflict  NoActiveRun  PolicyDenied  ConfirmationRequired    what is asked for
      Overloaded  Draining  Timeout  StorageUnavailable              now is not the moment; all retryable
      ProviderError                                                  the model
      Internal                                                       our fault

Raise where it is known, catch at the border: the edge turns any of these into an `error` frame or an HTTP answer.
"""

from typing import Any, ClassVar

import msgspec


class ErrorFrame(msgspec.Struct, tag="error", tag_field="type", kw_only=True, omit_defaults=True):
    """The one shape of every refusal; clients branch on `code`, people read `message` and `hint`."""

    session: str | None = None
    ts: int | None = None
    request: str | None = None
    code: str
    message: str
    retryable: bool
    retry_after_ms: int | None = None
    details: dict[str, Any] | None = None
    hint: str | None = None


class AgentdError(Exception):
    """Base of all errors that a client may see."""

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        details: dict[str, Any] | None = None,
        retry_after_ms: int | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details
        self.retry_after_ms = retry_after_ms
        self.may_retry = type(self).retryable if retryable is None else retryable

    def frame(self, *, session: str | None = None, ts: int | None = None, request: str | None = None) -> ErrorFrame:
        """The error as it goes over the wire, WebSocket and HTTP alike."""
        return ErrorFrame(
            session=session,
            ts=ts,
            request=request,
            code=self.code,
            message=self.message,
            retryable=self.may_retry,
            retry_after_ms=self.retry_after_ms,
            details=self.details,
            hint=self.hint,
        )


class InvalidFrame(AgentdError):
    code, http_status = "invalid_frame", 400


class UnknownType(AgentdError):
    code, http_status = "unknown_type", 400


class InvalidPayload(AgentdError):
    """`details.path` says where."""

    code, http_status = "invalid_payload", 400

    def __init__(self, message: str, *, path: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, details={"path": path})


class TooLarge(AgentdError):
    """`details.limit` is in bytes unless the message says otherwise."""

    code, http_status = "too_large", 413

    def __init__(self, message: str, *, limit: int, path: str | None = None, hint: str | None = None) -> None:
        details: dict[str, Any] = {"limit": limit}
        if path is not None:
            details["path"] = path
        super().__init__(message, hint=hint, details=details)


class Unauthorized(AgentdError):
    code, http_status = "unauthorized", 401


class Forbidden(AgentdError):
    code, http_status = "forbidden", 403


class NotFound(AgentdError):
    """`details.kind` is what was looked for: session, run, task, gate, entry, plan."""

    code, http_status = "not_found", 404

    def __init__(self, message: str, *, kind: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, details={"kind": kind})


class Conflict(AgentdError):
    code, http_status = "conflict", 409


class NoActiveRun(AgentdError):
    code, http_status = "no_active_run", 409


class Overloaded(AgentdError):
    """`details`: cap, used, limit, backpressure (rulings 26)."""

    code, http_status, retryable = "overloaded", 429, True


class Draining(AgentdError):
    code, http_status, retryable = "draining", 503, True


class PolicyDenied(AgentdError):
    code, http_status = "policy_denied", 403


class ConfirmationRequired(AgentdError):
    code, http_status = "confirmation_required", 409


class Timeout(AgentdError):
    code, http_status, retryable = "timeout", 504, True


class StorageUnavailable(AgentdError):
    code, http_status, retryable = "storage_unavailable", 503, True


class ProviderError(AgentdError):
    """`details.kind`: auth, rate_limit, timeout, network, malformed_output, context_length, refused, unavailable."""

    code, http_status = "provider_error", 502

    def __init__(
        self, message: str, *, kind: str, retryable: bool, retry_after_ms: int | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, details={"kind": kind}, retry_after_ms=retry_after_ms, retryable=retryable)
        self.kind = kind


class Internal(AgentdError):
    """`message` holds an id that stands in the log, nothing else."""


ALL: tuple[type[AgentdError], ...] = (
    InvalidFrame, UnknownType, InvalidPayload, TooLarge, Unauthorized, Forbidden, NotFound, Conflict, NoActiveRun,
    Overloaded, Draining, PolicyDenied, ConfirmationRequired, Timeout, StorageUnavailable, ProviderError, Internal,
)  # fmt: skip
