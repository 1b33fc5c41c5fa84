"""The checker over a recorded stream of a real server: a chat turn and a goal of three tasks. As it is it has no
breach; each test plants one fault and the checker names it, and nothing else that is not its consequence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentd.bench.checker import EXAMPLES_MAX, LAWS, Found, Request, StreamChecker, check
from agentd.bench.frames import decode

Frame = dict[str, Any]
LINES = (Path(__file__).parent / "recorded.ndjson").read_text(encoding="utf-8").splitlines()
CHAT, GOAL = "hello 17 [[chunks=20]]", "/goal name a; name b; name c"
SENT = [("17", Request(CHAT, 20)), ("na", Request(GOAL))]


def recorded() -> list[Frame]:
    return [json.loads(line) for line in LINES]


def breaches(frames: list[Frame], sent: list[tuple[str, Request]] = SENT) -> list[str]:
    """The names of the laws that were broken."""
    return [breach.name for breach in check([json.dumps(frame) for frame in frames], sent)]


def at(kind: str, nth: int = 0, **fields: Any) -> int:
    """Where the nth such frame stands."""
    places = [
        place
        for place, frame in enumerate(recorded())
        if frame["type"] == kind and all(frame.get(name) == value for name, value in fields.items())
    ]
    return places[nth]


def without(place: int) -> list[Frame]:
    frames = recorded()
    del frames[place]
    return frames


def doubled(place: int) -> list[Frame]:
    frames = recorded()
    frames.insert(place, frames[place])
    return frames


def changed(place: int, **fields: Any) -> list[Frame]:
    frames = recorded()
    frames[place].update(fields)
    return frames


def with_figures(place: int, **figures: Any) -> list[Frame]:
    frames = recorded()
    frames[place]["backpressure"].update(figures)
    return frames


def test_what_a_sound_server_sent_breaks_no_law() -> None:
    assert breaches(recorded()) == []


STATUS = at("agent.status", 3)
LATE = at("agent.progress", phase="execution", status="complete", nth=1)
READY = at("agent.progress", phase="planner", status="ready")
ONE_FAILED = {"total": 3, "done": 2, "failed": 1, "cancelled": 0, "skipped": 0, "dropped": 0}
FIRST_DELTA = at("session.delta")
RECEIVE = at("session.receive")


@pytest.mark.parametrize(
    ("frames", "named"),
    [
        (lambda: doubled(at("run.completed")), {"seq-repeated", "ended-twice"}),
        (lambda: without(at("run.completed", 1)), {"never-ended"}),
        (lambda: without(at("agent.progress", phase="execution")), {"seq-missing", "run-seq"}),
        (lambda: without(at("run.started")), {"seq-missing", "run-seq"}),
        (lambda: doubled(at("run.started")), {"seq-repeated", "run-seq"}),
        (lambda: changed(at("run.started"), run_seq=3), {"run-seq"}),
        (lambda: with_figures(STATUS + 3, active=1), {"figures-law"}),
        (lambda: with_figures(STATUS + 3, settled=2, pending=1, active=0), set()),
        (lambda: with_figures(LATE, settled=2, pending=1), {"figures-plan"}),
        (lambda: with_figures(LATE, total=4, settled=4), {"figures-plan"}),
        (lambda: with_figures(LATE, accepted=4), {"figures-plan"}),
        (lambda: with_figures(LATE, settled=4, pending=-1), {"figures-law", "figures-plan"}),
        (lambda: with_figures(LATE, dropped_ids=["t1"]), {"figures-law"}),
        (lambda: with_figures(READY, active=17, total=17), {"figures-limit", "figures-plan"}),
        (lambda: changed(at("run.completed", 1), counts=ONE_FAILED), {"counts"}),
        (lambda: without(FIRST_DELTA), {"reply-cut"}),
        (lambda: without(FIRST_DELTA + 1), {"reply-cut"}),
        (lambda: changed(FIRST_DELTA, text="Hallo!"), {"reply-cut"}),
        (lambda: changed(RECEIVE, content="Hello! agentd here,"), {"reply-cut", "reply-words"}),
        (lambda: changed(at("run.accepted"), request=None), {"unanswered"}),
        (lambda: changed(at("run.started"), request="17"), {"answered-twice"}),
        (lambda: changed(at("run.started"), request="18"), {"answer-unasked"}),
        (lambda: changed(at("run.accepted", 1), content="/goal of somebody else"), {"run-unasked"}),
        (lambda: changed(at("run.completed"), type="run.failed", cause={"code": "internal"}), {"run-failed"}),
        (lambda: changed(at("run.started"), seq="three"), {"unreadable", "seq-missing", "run-seq"}),
        (lambda: [*recorded(), {"type": "error", "code": "internal", "message": "ours"}], {"error"}),
    ],
)  # fmt: skip
def test_a_planted_fault_is_named(frames: Callable[[], list[Frame]], named: set[str]) -> None:
    assert set(breaches(frames())) == named


def test_a_reply_that_is_short_everywhere_is_known_by_its_words() -> None:
    frames = without(FIRST_DELTA + 1)
    place = next(place for place, frame in enumerate(frames) if frame["type"] == "session.receive")
    frames[place]["content"] = "Hello!"
    assert breaches(frames) == ["reply-words"]


def test_a_run_that_completes_in_silence_is_named() -> None:
    frames = [frame for frame in recorded() if frame["type"] not in ("session.receive", "session.delta")]
    numbers = iter(range(1, 100))
    for frame in frames[1:]:
        if "seq" in frame:
            frame["seq"] = next(numbers)
    assert "reply-missing" in breaches(frames)


def test_a_refused_request_leaves_nothing() -> None:
    refusal = {"type": "error", "code": "overloaded", "message": "full", "request": "17"}
    frames = changed(at("run.accepted"), request=None)
    frames.insert(1, refusal)
    assert breaches(frames) == ["refused-has-facts"]


def test_a_refusal_for_load_is_no_breach_another_error_is() -> None:
    sent = [*SENT, ("19", Request("hello 19"))]
    refusal = {"type": "error", "code": "overloaded", "message": "full", "request": "19", "details": {"cap": "mailbox"}}
    assert breaches([*recorded(), refusal], sent) == []
    assert breaches([*recorded(), {**refusal, "code": "internal"}], sent) == ["error"]


def test_the_figures_of_a_refusal_obey_the_law_too() -> None:
    figures = next(frame["backpressure"] for frame in recorded() if "backpressure" in frame)
    refusal = {
        "type": "error", "code": "overloaded", "message": "full", "request": "19",
        "details": {"cap": "runs_global", "backpressure": {**figures, "scope": "server", "total": 1}},
    }  # fmt: skip
    assert breaches([*recorded(), refusal], [*SENT, ("19", Request("hello 19"))]) == ["figures-law"]


def test_deltas_may_be_missing_after_the_socket_was_told_that_it_lagged() -> None:
    frames = without(FIRST_DELTA + 1)
    frames.insert(FIRST_DELTA, {"type": "stream.lagged", "last_seq": 4, "seq": 5, "reason": "outbox"})
    assert breaches(frames) == []
    frames[FIRST_DELTA + 1]["text"] = "Hallo!"
    assert breaches(frames) == ["reply-cut"]


def test_a_resumed_socket_begins_after_its_cursor_and_is_shown_no_old_deltas() -> None:
    kept = [frame for frame in recorded() if frame.get("seq", 0) > 7 and frame["type"] != "session.delta"]
    ack = {"type": "session.ack", "seq": 24}
    lines = [json.dumps(frame) for frame in [ack, *kept]]
    sent = [("na", Request(GOAL))]
    assert check(lines, sent, after=7) == []
    assert [breach.name for breach in check(lines, sent, after=6)] == ["seq-missing"]


def test_a_socket_that_came_in_the_middle_knows_no_first_facts() -> None:
    place = at("agent.status", 2)
    rest = [json.dumps(frame) for frame in [{"type": "session.ack", "seq": 15}, *recorded()[place:]]]
    found = Found()
    checker = StreamChecker(found, "late", alone=False)
    for line in rest:
        checker.feed(decode(line))
    checker.finish()
    assert found.breaches() == []


def test_breaches_are_counted_and_only_the_first_are_told() -> None:
    found = Found()
    for number in range(20):
        found.add("seq-missing", f"number {number}")
    other = Found()
    other.add("ended-twice", "run r")
    other.merge(found.breaches())
    merged = {breach.name: breach for breach in other.breaches()}
    assert merged["seq-missing"].count == 20
    assert merged["seq-missing"].examples == [f"number {number}" for number in range(EXAMPLES_MAX)]
    assert set(merged) <= set(LAWS)
