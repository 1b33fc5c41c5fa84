"""Cutting streams of events, however they arrive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.providers.sse import EventSplitter, EventTooLong

STREAM = b': hello\r\n\r\ndata: {"a":1}\n\nevent: x\nid: 3\ndata:two\ndata: lines\r\n\r\n\n\ndata: [DONE]\n\n'
EVENTS = [b'{"a":1}', b"two\nlines", b"[DONE]"]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_do_not_depend_on_how_the_stream_is_cut(cuts: list[int]) -> None:
    splitter, events, begin = EventSplitter(), [], 0
    for end in [*sorted(cuts), len(STREAM)]:
        events += splitter.feed(STREAM[begin:end])
        begin = end
    assert events == EVENTS
    assert splitter.end() == []


def test_an_event_without_its_empty_line_is_given_at_the_end() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: a\n\ndata: b\ndata: c") == [b"a"]
    assert splitter.end() == [b"b\nc"]


@pytest.mark.parametrize("chunk", [b"x" * 100, b"data: " + b"x" * 100 + b"\n", b"data: xxxxxxxx\n" * 10])
def test_an_endless_event_is_an_error(chunk: bytes) -> None:
    with pytest.raises(EventTooLong):
        EventSplitter(event_bytes_max=64).feed(chunk)
