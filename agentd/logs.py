"""Log lines: one JSON object a line, or coloured text on a terminal; set up once, before anything else starts.

A line says what happened to which session, run and task, never what was said: values under the names of content and of
credentials are replaced, and text that looks like a credential is cut out of everything else, error texts included. A
line costs about 10 µs, one below the level 1, so there is none per delta or frame. What libraries write through the
standard `logging` goes the same way. A log that can't be written never stops the server.
"""

import functools
import logging
import re
from collections.abc import Mapping, MutableMapping
from typing import Any, BinaryIO, TextIO

import msgspec
import structlog

from agentd.config import ConfigError

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
VALUE_CHARS_MAX = 8_192  # of one text of a line
DEPTH_MAX = 6

REMOVED = "[removed]"
_CONTENT = frozenset({"content", "text", "prompt", "frame", "body", "goal", "answer", "delta", "arguments"})
_CREDENTIAL = re.compile(r"token|authorization|secret|password|cookie|credential|api_?key", re.IGNORECASE)
# Figures whose names look like credentials.
_HARMLESS = frozenset({"input_tokens", "output_tokens", "max_output_tokens", "tokens"})
# Written by the program itself, so not searched.
_OWN = frozenset({"ts", "level", "logger", "event"})
_SHORTEST = 8  # no credential is shorter
_IN_TEXT = re.compile(
    r"""(?ix) (?:bearer|basic)\s+[\w.~+/=-]{8,}
          | \b(?:sk|pk|ghp|gho|xox[abp])[-_][\w-]{8,}
          | (?:api[_-]?key|token|password|secret)["']?\s*[=:]\s*["']?[^\s"',;&]+"""
)

Event = MutableMapping[str, Any]


def configure(level: str | None, stream: TextIO) -> None:
    """Send all log lines to `stream`, as text when it is a terminal.

    Args:
        level: the value of AGENTD_LOG: debug, info (also when None or empty), warning, error.

    Raises:
        ConfigError: an unknown level.
    """
    name = (level or "info").lower()
    if name not in LEVELS:
        raise ConfigError(
            "environment variable AGENTD_LOG is no log level", f"It has to be one of {', '.join(LEVELS)}."
        )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            *([] if stream.isatty() else [structlog.processors.format_exc_info]),
            scrub,
            *([_console(), _encode_text] if stream.isatty() else [render_json]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[name]),
        logger_factory=lambda *names: _Lines(stream.buffer, str(names[0]) if names else "agentd"),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_FromLibraries()], level=max(LEVELS[name], logging.WARNING), force=True)


def scrub(_logger: object, _method: str, event: Event) -> Event:
    """The event without content and credentials."""
    return {key: value if key in _OWN else _scrubbed(key, value, DEPTH_MAX) for key, value in event.items()}


def render_json(_logger: object, _method: str, event: Event) -> bytes:
    """One line: when, how bad, where, what, then the rest."""
    first = {key: event[key] for key in ("ts", "level", "logger", "event") if key in event}
    try:
        return msgspec.json.encode(first | dict(event), enc_hook=repr)
    except UnicodeEncodeError:  # a lone surrogate in some text; the line matters more than its looks
        return msgspec.json.encode({key: ascii(value) for key, value in event.items()})


def _scrubbed(key: str, value: Any, depth: int) -> Any:
    if _hidden(key):
        return REMOVED
    if isinstance(value, str):
        return value if len(value) < _SHORTEST else _IN_TEXT.sub(REMOVED, value[:VALUE_CHARS_MAX])
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if isinstance(value, bool | int | float | None) or key == "exc_info":
        return value
    if depth == 0:
        return "[too deep]"
    if isinstance(value, Mapping):
        return {str(name): _scrubbed(str(name), item, depth - 1) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_scrubbed(key, item, depth - 1) for item in value]
    return _IN_TEXT.sub(REMOVED, repr(value)[:VALUE_CHARS_MAX])


@functools.lru_cache(maxsize=1_024)
def _hidden(key: str) -> bool:
    return key in _CONTENT or (_CREDENTIAL.search(key) is not None and key not in _HARMLESS)


def _console() -> structlog.dev.ConsoleRenderer:
    # The default traceback of a terminal shows local variables, and with them content.
    return structlog.dev.ConsoleRenderer(timestamp_key="ts", exception_formatter=structlog.dev.plain_traceback)


def _encode_text(_logger: object, _method: str, line: str) -> bytes:
    return _IN_TEXT.sub(REMOVED, line).encode("utf-8", "backslashreplace")


class _Lines:
    """What structlog writes to: one finished line at a time."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.name = name
        self._stream = stream

    def msg(self, line: bytes) -> None:
        try:
            self._stream.write(line + b"\n")
            self._stream.flush()
        except (OSError, ValueError):
            return  # whoever read the log is gone or its disk is full; the server's work goes on

    debug = info = warning = warn = error = critical = exception = msg


class _FromLibraries(logging.Handler):
    """Takes what libraries say through `logging` into the same lines."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            said = record.getMessage()
        except (TypeError, ValueError):
            said = str(record.msg)
        structlog.get_logger(record.name).log(record.levelno, "library.said", said=said, exc_info=record.exc_info)
