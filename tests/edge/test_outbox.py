"""The outbox counts what has not reached the kernel."""

from hypothesis import given
from hypothesis import strategies as st

from agentd.edge.outbox import BATCH_BYTES, Outbox


def test_an_outbox_is_full_by_bytes_or_by_frames() -> None:
    by_bytes, by_frames = Outbox(10, 100), Outbox(100, 2)
    by_bytes.put(b"x" * 9)
    by_frames.put(b"")
    assert [by_bytes.full, by_frames.full] == [False, False]
    by_bytes.put(b"x")
    by_frames.put(b"")
    assert [by_bytes.full, by_frames.full] == [True, True]


def test_what_was_taken_counts_until_it_landed() -> None:
    outbox = Outbox(10, 100)
    outbox.put(b"x" * 10)
    assert outbox.take() == b"x" * 10
    assert (outbox.full, outbox.waiting, outbox.size, outbox.frames) == (True, False, 10, 1)
    outbox.landed()
    assert (outbox.full, outbox.size, outbox.frames) == (False, 0, 0)


def test_it_falls_once_and_only_under_half_of_both_bounds() -> None:
    outbox = Outbox(3 * BATCH_BYTES, 100)
    for _ in range(3):
        outbox.put(b"x" * BATCH_BYTES)
    outbox.take()
    outbox.landed()
    assert outbox.over
    assert not outbox.fell()
    outbox.take()
    assert not outbox.fell()
    outbox.landed()
    assert outbox.fell()
    assert not outbox.fell()
    assert not outbox.over


def test_dropping_what_waits_leaves_what_the_transport_has() -> None:
    outbox = Outbox(10 * BATCH_BYTES, 100)
    outbox.put(b"x" * BATCH_BYTES)
    outbox.put(b"y")
    outbox.take()
    outbox.drop_waiting()
    assert (outbox.size, outbox.frames, outbox.waiting) == (BATCH_BYTES, 1, False)


@given(st.lists(st.integers(0, 3 * BATCH_BYTES), max_size=30))
def test_batches_are_whole_frames_in_order_and_no_larger_than_a_batch_or_one_frame(sizes: list[int]) -> None:
    outbox = Outbox(1 << 40, 1 << 40)
    for number, size in enumerate(sizes):
        outbox.put(bytes((number,)) * size)
    taken = []
    while outbox.waiting:
        before = outbox.frames
        batch = outbox.take()
        outbox.landed()
        assert len(batch) <= BATCH_BYTES or before - outbox.frames == 1
        taken.append(batch)
    assert b"".join(taken) == b"".join(bytes((number,)) * size for number, size in enumerate(sizes))
    assert (outbox.size, outbox.frames) == (0, 0)
