"""Log lines: their shape, and that neither content nor credentials get into them."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from agentd.config import ConfigError
from agentd.logs import DEPTH_MAX, REMOVED, VALUE_CHARS_MAX, configure


class Stream(io.TextIOWrapper):
    """A stderr of the test: its bytes, and whether it says it is a terminal."""

    def __init__(self, *, tty: bool = False, buffer: io.BytesIO | None = None) -> None:
        super().__init__(buffer or io.BytesIO(), encoding="utf-8")
        self.tty = tty

    def isatty(self) -> bool:
        return self.tty

    def written(self) -> str:
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode("utf-8")

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.written().splitlines()]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(level: str | None = None, **values: Any) -> dict[str, Any]:
    stream = Stream()
    configure(level, stream)
    structlog.get_logger("agentd.test").error("it.happened", **values)
    return stream.lines()[0]


def test_a_line_is_one_json_object_that_begins_with_when_how_bad_where_and_what() -> None:
    line = logged(session="s1", run="r1", count=3, ratio=0.5, none=None, yes=True)
    assert list(line)[:4] == ["ts", "level", "logger", "event"]
    assert line["ts"].endswith("Z")
    assert (line["level"], line["logger"], line["event"]) == ("error", "agentd.test", "it.happened")
    assert {key: line[key] for key in ("session", "run", "count", "ratio", "none", "yes")} == {
        "session": "s1", "run": "r1", "count": 3, "ratio": 0.5, "none": None, "yes": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        (None, ["info", "warning", "error"]),
        ("", ["info", "warning", "error"]),
        ("DEBUG", ["debug", "info", "warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_comes_from_the_environment_and_is_info_without(level: str | None, heard: list[str]) -> None:
    stream = Stream()
    configure(level, stream)
    log = structlog.get_logger()
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("x")
    assert [line["level"] for line in stream.lines()] == heard


def test_an_unknown_level_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"AGENTD_LOG is no log level.*debug, info, warning, error"):
        configure("loud", sys.stderr)


@pytest.mark.parametrize(
    "key", ["content", "text", "goal", "token", "Authorization", "api_key", "OPENAI_API_KEY", "client_secret", "cookie"]
)
def test_values_under_the_names_of_content_and_credentials_are_removed_at_any_depth(key: str) -> None:
    line = logged(**{key: "hidden words"}, deep={"list": [{key: "hidden words"}]}, other="seen")
    assert line[key] == REMOVED
    assert "hidden" not in json.dumps(line)
    assert line["other"] == "seen"


@pytest.mark.parametrize(
    "secret",
    ["Bearer abcdef123456", "sk-proj-abcdefgh1234", "ghp_abcdefgh1234", "token=abc123", '"password": "abc123"'],
)
def test_text_that_looks_like_a_credential_is_cut_out_of_other_text(secret: str) -> None:
    line = logged(message=f"refused: {secret} by x")
    assert line["message"].startswith("refused: ")
    assert "abc" not in line["message"]


def test_an_exception_is_told_without_local_variables_and_without_credentials() -> None:
    stream = Stream()
    configure(None, stream)
    hidden_local = "local-words"
    try:
        raise ValueError(f"bad key sk-abcdefghijkl {len(hidden_local)}")
    except ValueError:
        structlog.get_logger().exception("it.failed")
    told = stream.lines()[0]["exception"]
    assert "ValueError: bad key" in told
    assert "sk-abc" not in told
    assert "local-words" not in told.replace('hidden_local = "local-words"', "")


def test_token_counts_are_figures_and_stay() -> None:
    assert logged(usage={"input_tokens": 3, "output_tokens": 4})["usage"] == {"input_tokens": 3, "output_tokens": 4}


def test_what_is_written_is_bounded_in_length_and_depth() -> None:
    deep: Any = "end"
    for _ in range(DEPTH_MAX + 3):
        deep = [deep]
    line = logged(long="x" * (VALUE_CHARS_MAX + 1), deep=deep, raw=b"abc", other=object())
    assert len(line["long"]) == VALUE_CHARS_MAX
    assert "[too deep]" in json.dumps(line["deep"])
    assert line["raw"] == "[3 bytes]"
    assert line["other"].startswith("<object object")


def test_a_lone_surrogate_does_not_lose_the_line() -> None:
    assert logged(name="a\ud800b")["name"] == r"'a\ud800b'"


def test_what_libraries_log_goes_the_same_way_from_warning_on() -> None:
    stream = Stream()
    configure("debug", stream)
    library = logging.getLogger("some.library")
    library.info("not told")
    library.warning("told %s", "Bearer abcdef123456")
    library.warning("wrong %d", "words")
    told = stream.lines()
    assert [line["said"] for line in told] == [f"told {REMOVED}", "wrong %d"]
    assert told[0]["logger"] == "some.library"


def test_a_terminal_gets_text_without_local_variables() -> None:
    stream = Stream(tty=True)
    configure(None, stream)
    hidden_local = "".join(["local", "-words"])
    try:
        raise ValueError(len(hidden_local))
    except ValueError:
        structlog.get_logger().exception("it.failed", token="abc", note="sk-abcdefghijkl")
    told = stream.written()
    assert "it.failed" in told
    assert "ValueError" in told
    assert "local-words" not in told
    assert "abc" not in told


def test_a_log_that_cannot_be_written_does_not_stop_the_server() -> None:
    class Full(io.BytesIO):
        def write(self, _data: Any) -> int:
            raise OSError(28, "No space left on device")

    configure(None, Stream(buffer=Full()))
    structlog.get_logger().error("nobody.reads.this")
    gone = Stream()
    configure(None, gone)
    gone.buffer.close()
    structlog.get_logger().error("nobody.reads.this")
