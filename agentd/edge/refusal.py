"""A refusal as an HTTP response: the error object as JSON body, with the headers that belong to its status.

Used where no application runs: at the upgrade, and for connections that never get as far as a request.
"""

import http
import math

import msgspec

from agentd.protocol.errors import AgentdError, Overloaded

RETRY_AFTER_S = 1  # said with 429 and 503 when the error itself knows nothing better
_WAIT_STATUSES = (http.HTTPStatus.TOO_MANY_REQUESTS, http.HTTPStatus.SERVICE_UNAVAILABLE)


CREDENTIALS_CAP = "credentials"  # the one cap that is about the client's own pace


class SocketsFull(Overloaded):
    """No room for another socket or connection."""

    def __init__(self, *, used: int, limit: int, message: str = "the server has as many sockets as it may") -> None:
        super().__init__(
            message,
            hint="Try again later, or raise limits.sockets.",
            details={"cap": "sockets", "used": used, "limit": limit},
            retry_after_ms=RETRY_AFTER_S * 1000,
        )


def error_body(error: AgentdError) -> bytes:
    return msgspec.json.encode(error.frame())


def wait_headers(error: AgentdError, status: int) -> dict[str, str]:
    """`Retry-After`, in whole seconds rounded up, where the status calls for it."""
    if status not in _WAIT_STATUSES:
        return {}
    wait_s = RETRY_AFTER_S if error.retry_after_ms is None else math.ceil(error.retry_after_ms / 1000)
    return {"retry-after": str(max(wait_s, 1))}


def status_of(error: AgentdError) -> int:
    """The status of a refusal where a connection begins: no room is the server's state (503), not the client's pace."""
    if isinstance(error, Overloaded) and (error.details or {}).get("cap") != CREDENTIALS_CAP:
        return http.HTTPStatus.SERVICE_UNAVAILABLE
    return error.http_status


def refusal(error: AgentdError, *, status: int | None = None, headers: dict[str, str] | None = None) -> bytes:
    """A whole HTTP/1.1 response after which the connection closes."""
    status = status_of(error) if status is None else status
    body = error_body(error)
    fields = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "cache-control": "no-store",
        "connection": "close",
        **wait_headers(error, status),
        **(headers or {}),
    }
    if status == http.HTTPStatus.UNAUTHORIZED:
        fields["www-authenticate"] = "Bearer"
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\n{head}\r\n".encode("latin-1") + body
