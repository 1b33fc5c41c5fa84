"""Frames built by hand are the bytes that the library would have built."""

import pytest
from websockets.frames import Frame, Opcode

from agentd.edge.framing import PING, SharedFrames, text_frame


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70_000])
def test_a_text_frame_is_what_the_library_makes(size: int) -> None:
    payload = b"x" * size
    assert text_frame(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)


def test_a_ping_is_what_the_library_makes() -> None:
    assert Frame(Opcode.PING, b"").serialize(mask=False) == PING


def test_the_same_object_is_framed_once_and_an_equal_one_again() -> None:
    frames = SharedFrames()
    payload, equal = b"x" * 1000, b"".join([b"x" * 999, b"x"])
    assert payload is not equal
    framed = frames.of(payload)
    assert frames.of(payload) is framed
    assert frames.of(equal) is not framed
    assert frames.of(equal) == framed


def test_another_payload_between_does_not_mix_them_up() -> None:
    frames = SharedFrames()
    one, two = b"one", b"two"
    assert [frames.of(payload) for payload in (one, two, one)] == [text_frame(p) for p in (one, two, one)]
