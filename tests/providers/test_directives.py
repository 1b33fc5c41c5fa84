"""Directives in a text: read within bounds, everything else stays text."""

import pytest

from agentd.providers.directives import CHUNKS_MAX, PACE_MS_MAX, READ_CHARS_MAX, RETRYABLE, Directives, read


def test_each_directive_is_read_and_taken_out() -> None:
    told = read('do [[chunks=20]] this [[pace_ms=5]] now [[fail=network after=3]] [[tool=add {"a": {"b": 1}}]]')
    assert told == Directives(
        text="do this now", chunks=20, pace_ms=5, fail="network", fail_after=3, tool="add", arguments='{"a": {"b": 1}}'
    )


def test_a_tool_needs_no_arguments() -> None:
    assert (read("[[tool=now]]").tool, read("[[tool=now]]").arguments) == ("now", "{}")


def test_values_are_bounded_and_the_first_counts() -> None:
    told = read("[[chunks=999999999]] [[chunks=3]] [[pace_ms=999999]]")
    assert (told.chunks, told.pace_ms) == (CHUNKS_MAX, PACE_MS_MAX)
    assert read("[[chunks=0]]").chunks == 1


@pytest.mark.parametrize("text", ["plain", "[[", "[[chunks=x]]", "[[fail=nothing]]", "[chunks=3]", "[[tool=a b]]"])
def test_what_is_no_directive_stays_text(text: str) -> None:
    assert read(text) == Directives(text)


def test_only_the_beginning_is_searched() -> None:
    text = "x" * READ_CHARS_MAX + "[[chunks=3]]"
    assert read(text) == Directives(text)


def test_the_kinds_are_those_of_the_protocol() -> None:
    assert set(RETRYABLE) == {
        "auth", "rate_limit", "timeout", "network", "malformed_output", "context_length", "refused", "unavailable",
    }  # fmt: skip
