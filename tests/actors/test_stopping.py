"""A cancel is answered when the last of what it met has ended, or after 5 s, with figures that are true (F2, 17)."""

from agentd.actors.stopping import ANSWER_S, Stopping
from agentd.core.intents import Cancelling
from agentd.protocol.replies import ControlDone
from tests.actors.test_waiting import Told
from tests.edge.rig import ManualClock

ATTEMPTS = (("r", "a", 1), ("r", "b", 2), ("r", "answer", 1))


def made() -> tuple[Stopping, ManualClock, set[tuple[str, str, int]]]:
    clock, running = ManualClock(), set(ATTEMPTS)
    return Stopping("s", clock, running.__contains__, lambda: 12), clock, running


def figures(told: Told) -> list[tuple[int | None, int | None, int | None]]:
    replies = [reply for reply in told.replies if isinstance(reply, ControlDone)]
    assert len(replies) == len(told.replies)
    return [(one.queued_cancelled, one.active_cancelled, one.still_running) for one in replies]


async def test_it_is_answered_when_the_last_attempt_has_ended_and_only_then() -> None:
    stopping, clock, running = made()
    told = Told()
    stopping.begin(told, Cancelling(queued=3, attempts=ATTEMPTS))
    for attempt in ATTEMPTS[:2]:
        running.discard(attempt)
        stopping.check()
        assert (told.replies, len(stopping)) == ([], 1)
    running.clear()
    stopping.check()
    assert figures(told) == [(3, 3, 0)]
    await clock.advance(ANSWER_S + 1)
    stopping.check()
    assert len(told.replies) == 1, "once"
    assert len(stopping) == 0


async def test_after_five_seconds_it_says_what_still_runs() -> None:
    stopping, clock, running = made()
    told = Told()
    stopping.begin(told, Cancelling(queued=0, attempts=ATTEMPTS))
    running.discard(ATTEMPTS[0])
    stopping.check()
    await clock.advance(ANSWER_S + 0.1)
    assert figures(told) == [(0, 1, 2)]
    running.clear()
    stopping.check()
    assert len(told.replies) == 1


async def test_a_cancel_that_met_nothing_that_runs_is_answered_at_once() -> None:
    stopping, clock, running = made()
    told, other = Told(), Told()
    stopping.begin(told, Cancelling(queued=2))
    assert figures(told) == [(2, 0, 0)]
    running.clear()
    stopping.begin(other, Cancelling(queued=0, attempts=ATTEMPTS))
    assert figures(other) == [(0, 3, 0)], "what had ended meanwhile counts as cancelled"
    await clock.advance(ANSWER_S + 1)
    assert len(told.replies) == len(other.replies) == 1


async def test_two_cancels_of_the_same_work_are_both_answered() -> None:
    stopping, _, running = made()
    first, second = Told(), Told()
    stopping.begin(first, Cancelling(queued=1, attempts=ATTEMPTS))
    stopping.begin(second, Cancelling(queued=0, attempts=ATTEMPTS[:1]))
    running.discard(ATTEMPTS[0])
    stopping.check()
    assert (figures(first), figures(second)) == ([], [(0, 1, 0)])
    running.clear()
    stopping.check()
    assert figures(first) == [(1, 3, 0)]
