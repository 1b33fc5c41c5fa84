"""How a frame becomes an event."""

import pytest

from agentd.edge.sse import SharedEvents, event_of
from agentd.protocol import facts as f
from agentd.protocol import signals
from agentd.protocol.codec import encode


def test_a_fact_has_its_seq_as_id_its_type_and_its_bytes() -> None:
    body = encode(f.SessionMode(session="s", seq=12, ts=1, mode="paused", reason="a\nline and a \u2028 break"))
    event = event_of(body)
    assert event.text == b"id: 12\nevent: session.mode\ndata: %b\n\n" % body
    assert body.count(b"\n") == 0
    assert (event.type, event.run) == ("session.mode", None)


@pytest.mark.parametrize(
    "signal",
    [
        signals.SessionDelta(session="s", ts=1, run="r", message="m", offset=0, text="x"),
        signals.StreamLagged(session="s", ts=1, last_seq=3, seq=9, reason="slow"),
        signals.ServerDraining(session="s", ts=1, deadline_ms=8000),
    ],
    ids=lambda signal: str(signal.__struct_config__.tag),
)
def test_a_signal_has_no_id_whatever_numbers_it_names(signal: signals.AnySignal) -> None:
    frame = encode(signal)
    kind = str(signal.__struct_config__.tag).encode()
    assert event_of(frame).text == b"event: %b\ndata: %b\n\n" % (kind, frame)


def test_what_many_streams_get_is_made_once() -> None:
    shared = SharedEvents()
    frames = [encode(f.SessionMode(session="s", seq=seq, ts=1, mode="paused")) for seq in (1, 2)]
    first = shared.of(frames[0])
    assert shared.of(frames[0]) is first
    assert shared.of(frames[1]).text == event_of(frames[1]).text
    assert shared.of(frames[0]) is not first
