"""What a command says when it can't do what was asked: one sentence, a remedy, an exit code.

Exit codes are part of what scripts rely on: 0 done, 1 failed, 2 usage, 3 denied, 4 not found, 5 server not reachable,
130 interrupted. A `Failure` never becomes a traceback; whatever else is raised is our fault and does.
"""

import sys
from collections.abc import Mapping
from typing import Any

DONE, FAILED, USAGE, DENIED, NOT_FOUND, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

_BY_CODE = {
    "unauthorized": DENIED,
    "forbidden": DENIED,
    "policy_denied": DENIED,
    "confirmation_required": DENIED,
    "not_found": NOT_FOUND,
    "invalid_payload": USAGE,
    "invalid_frame": USAGE,
    "unknown_type": USAGE,
    "draining": UNREACHABLE,
}


class Failure(Exception):
    """A command ends here. `frame` is the server's error object where there is one."""

    def __init__(
        self, message: str, hint: str | None = None, *, code: int = FAILED, frame: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
        self.frame = frame


def refused(error: Mapping[str, Any]) -> Failure:
    """The server's error object as the end of a command."""
    code = str(error.get("code", "internal"))
    message = str(error.get("message", "the server gave no reason"))
    hint = error.get("hint")
    wait_ms = error.get("retry_after_ms")
    if isinstance(wait_ms, int):
        later = f"Try again in {wait_ms / 1000:.1f} s."
        hint = f"{hint} {later}" if hint else later
    return Failure(f"{message} ({code})", hint, code=_BY_CODE.get(code, FAILED), frame=error)


def told(failure: Failure) -> int:
    """Say on stderr what went wrong and what to do about it."""
    sys.stdout.flush()
    print(f"error: {failure.message}", file=sys.stderr)
    if failure.hint:
        print(f"hint: {failure.hint}", file=sys.stderr)
    return failure.code
