"""What a client did wrong with the protocol itself: the close code, its reason, and the error that is told before."""

from typing import NamedTuple

from websockets.exceptions import PayloadTooBig
from websockets.frames import CloseCode

from agentd.protocol.errors import AgentdError, InvalidFrame, TooLarge


class Failure(NamedTuple):
    code: CloseCode
    reason: str
    error: AgentdError


def invalid_text() -> Failure:
    error = InvalidFrame("a text message is not valid UTF-8", hint="Send UTF-8 text.")
    return Failure(CloseCode.INVALID_DATA, "invalid UTF-8", error)


def too_many_fragments(limit: int) -> Failure:
    error = TooLarge("a message has too many fragments", limit=limit, hint="Send it in fewer frames.")
    return Failure(CloseCode.MESSAGE_TOO_BIG, "too many fragments", error)


def found_by_library(parser_exc: Exception | None, bytes_max: int | None) -> AgentdError | None:
    """Why the library gave up, as our error; None when it did not, or only found the end of the stream."""
    if parser_exc is None or isinstance(parser_exc, EOFError):
        return None
    if isinstance(parser_exc, PayloadTooBig):
        return TooLarge(
            "a message is larger than this socket accepts", limit=bytes_max or 0, hint="Send less at a time."
        )
    if isinstance(parser_exc, UnicodeDecodeError):
        return InvalidFrame("the reason of a close frame is not valid UTF-8")
    return InvalidFrame(f"broken framing: {parser_exc}", hint="Use a WebSocket library.")
