"""The spoiler: it lets everything pass until its turn, commits its fault once, and passes on what it cannot read."""

import msgspec
import pytest

from agentd.bench.checker import LAWS
from agentd.bench.proxy import AFTER, FAULTS, Spoiler

END = b'{"type":"run.completed","seq":9}'


def test_the_fault_comes_once_and_not_at_first() -> None:
    spoiler = Spoiler("double-end")
    assert [len(spoiler.spoil(END)) for _ in range(AFTER + 3)] == [*[1] * AFTER, 2, 1, 1]
    assert spoiler.done


def test_frames_of_another_kind_do_not_count() -> None:
    spoiler = Spoiler("lose-end")
    other = b'{"type":"pong"}'
    assert all(spoiler.spoil(other) == [other] for _ in range(20))
    assert [len(spoiler.spoil(END)) for _ in range(AFTER + 1)] == [*[1] * AFTER, 0]


def test_a_changed_frame_differs_in_nothing_else() -> None:
    spoiler = Spoiler("cut-reply")
    frame = b'{"type":"session.receive","seq":4,"content":"twelve words"}'
    changed = [spoiler.spoil(frame) for _ in range(AFTER + 1)][-1]
    assert [msgspec.json.decode(data) for data in changed] == [
        {"type": "session.receive", "seq": 4, "content": "twelve"}
    ]


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_names_a_law(fault: str) -> None:
    assert FAULTS[fault][2] in LAWS
