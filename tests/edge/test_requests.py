"""What a frame asks for is bounded before anything looks through it."""

import json
from collections.abc import Mapping

import pytest

from agentd.core import intents as i
from agentd.core import scrub
from agentd.edge import requests
from agentd.edge.requests import Acting, Border, asked, starts
from agentd.protocol import commands as c
from agentd.protocol.codec import decode_command
from agentd.protocol.errors import InvalidPayload, TooLarge
from agentd.protocol.facts import By

LIMIT = 1_000
BORDER = Border(By(principal="local", via="ws"), "run_1", LIMIT, "defer", frozenset())


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "chat.send", "content": "é" * LIMIT},
        {"type": "agent.control", "action": "goal", "goal": "x" * (LIMIT + 1)},
        {"type": "agent.control", "action": "answer", "task": "t", "value": [[n] for n in range(LIMIT)]},
        {"type": "agent.control", "action": "approve", "gate": "g", "note": "x" * (LIMIT + 1)},
    ],
    ids=["content", "goal", "value", "note"],
)
def test_what_is_too_large_is_refused_before_it_is_looked_through(
    frame: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value of a hundred thousand parts took 200 ms of the loop to be searched for secrets."""

    def searched(*_: object) -> scrub.Scrubbed:
        raise AssertionError("it was looked through")

    monkeypatch.setattr(requests, "scrub", searched)
    command = decode_command(json.dumps(frame).encode())
    assert isinstance(command, c.ChatSend | c.AgentControl)
    with pytest.raises(TooLarge) as told:
        asked(command, BORDER)
    name = next(name for name in ("content", "goal", "value", "note") if name in frame)
    assert told.value.details == {"limit": LIMIT, "path": f"$.{name}"}


def test_a_text_of_just_the_limit_is_taken() -> None:
    command = decode_command(json.dumps({"type": "chat.send", "content": "x" * LIMIT}).encode())
    assert isinstance(command, c.ChatSend)
    assert asked(command, BORDER).scope == "chat"


# ---- what each frame asks for ---------------------------------------------------------------------------------------

BY = BORDER.by
START = {"by": BY, "run": "run_1", "overflow": "defer"}
TABLE: list[tuple[dict[str, object], i.AnyIntent, str, str, bool]] = [
    ({"type": "chat.send", "content": "hi"}, i.StartRun(kind="chat", content="hi", **START), "work", "chat", False),  # type: ignore[arg-type]
    ({"type": "chat.send", "text": "hi", "wait": True, "leaf_id": "e", "input_mode": "reject"},
     i.StartRun(kind="chat", content="hi", leaf_id="e", mode="reject", **START), "work", "chat", True),  # type: ignore[arg-type]
    ({"type": "session.send", "content": "/goal go"},
     i.StartRun(kind="goal", content="/goal go", **START), "work", "chat", False),  # type: ignore[arg-type]
    ({"type": "chat.send", "content": "/goals are good"},
     i.StartRun(kind="chat", content="/goals are good", **START), "work", "chat", False),  # type: ignore[arg-type]
    ({"type": "chat.send", "content": "/new"}, i.NewEpoch(by=BY), "control", "chat", False),
    ({"type": "chat.send", "content": "/new or old"},
     i.StartRun(kind="chat", content="/new or old", **START), "work", "chat", False),  # type: ignore[arg-type]
    ({"type": "chat.send", "content": "also", "input_mode": "steer"},
     i.AddInput(by=BY, mode="steer", content="also"), "control", "chat", False),
    ({"type": "agent.control", "goal": "go", "overflow": "drop"},
     i.StartRun(by=BY, run="run_1", kind="goal", content="go", overflow="drop"), "work", "chat", False),
    ({"type": "agent.control", "action": "plan", "text": "go", "input_mode": "interrupt"},
     i.StartRun(kind="goal", content="go", mode="interrupt", **START), "work", "chat", False),  # type: ignore[arg-type]
    ({"type": "agent.control", "action": "pause", "reason": "lunch"},
     i.SetMode(by=BY, mode="paused", reason="lunch"), "control", "chat", False),
    ({"type": "agent.control", "action": "resume"}, i.SetMode(by=BY, mode="running"), "control", "chat", False),
    ({"type": "agent.control", "action": "cancel", "run": "r", "task": "t"},
     i.Cancel(by=BY, run="r", task="t"), "control", "chat", False),
    ({"type": "agent.control", "action": "follow_up", "text": "then", "run": "r"},
     i.AddInput(by=BY, mode="follow_up", content="then", run="r"), "control", "chat", False),
    ({"type": "agent.control", "action": "retry", "task": "t"}, i.RetryTask(by=BY, task="t"), "control", "chat", False),
    ({"type": "agent.control", "action": "approve", "gate": "g", "note": "fine"},
     i.DecideGate(by=BY, approve=True, gate="g", note="fine"), "control", "operator", False),
    ({"type": "agent.control", "action": "block", "task": "t", "run": "r"},
     i.DecideGate(by=BY, approve=False, task="t", run="r"), "control", "operator", False),
    ({"type": "agent.control", "action": "answer", "task": "q", "value": {"n": 1}},
     i.AnswerQuestion(by=BY, task="q", value={"n": 1}), "control", "chat", False),
    ({"type": "agent.control", "action": "clear_saturation"}, i.ClearSaturation(by=BY), "control", "chat", False),
    ({"type": "session.new", "reason": "over"}, i.NewEpoch(by=BY, reason="over"), "control", "chat", False),
    ({"type": "session.reset"}, i.NewEpoch(by=BY, request_type="session.reset"), "control", "chat", False),
    ({"type": "session.set_leaf", "leaf_id": "e"}, i.SetLeaf(by=BY, leaf="e"), "control", "chat", False),
    ({"type": "memory.load", "memory_id": "e"}, i.LoadMemory(by=BY, id="e"), "control", "chat", False),
    ({"type": "memory.evict", "memory_id": "e"}, i.EvictMemory(by=BY, id="e"), "control", "chat", False),
    ({"type": "memory.update", "memory_id": "e", "pinned": False},
     i.UpdateMemory(by=BY, id="e", pinned=False), "control", "chat", False),
    ({"type": "memory.update", "memory_id": "e", "content": "new"},
     i.UpdateMemory(by=BY, id="e", content="new"), "control", "chat", False),
    ({"type": "memory.summarize", "memory_id": "e"},
     i.SummarizeMemory(by=BY, ids=("e",), summary="sum_1"), "control", "chat", False),
    ({"type": "memory.summarize", "memory_ids": ["e", "f"], "content": "short"},
     i.SummarizeMemory(by=BY, ids=("e", "f"), summary="sum_1", content="short"), "control", "chat", False),
]  # fmt: skip


def acting(frame: Mapping[str, object]) -> Acting:
    command = decode_command(json.dumps(frame).encode())
    assert isinstance(command, Acting)
    return command


@pytest.mark.parametrize(("frame", "intent", "lane", "scope", "waits"), TABLE, ids=[str(row[0]) for row in TABLE])
def test_a_frame_is_one_intent_with_its_lane_and_scope(
    frame: dict[str, object], intent: i.AnyIntent, lane: str, scope: str, waits: bool
) -> None:
    """protocol.md, 4; rulings 16: approve and block need an operator, everything else of an own session does not."""
    found = asked(acting(frame), BORDER)
    assert found.intent == intent
    assert (found.lane, found.scope, found.waits) == (lane, scope, waits)


@pytest.mark.parametrize(
    ("frame", "path"),
    [
        ({"type": "chat.send"}, "$.content"),
        ({"type": "chat.send", "content": ""}, "$.content"),
        ({"type": "chat.send", "text": ""}, "$.text"),
        ({"type": "chat.send", "content": "/goal "}, "$.content"),
        ({"type": "chat.send", "text": "/goal   "}, "$.text"),
        ({"type": "chat.send", "content": "/goal"}, "$.content"),
        ({"type": "agent.control"}, "$.goal"),
        ({"type": "agent.control", "action": "goal", "goal": ""}, "$.goal"),
        ({"type": "agent.control", "action": "steer"}, "$.text"),
        ({"type": "agent.control", "action": "retry"}, "$.task"),
        ({"type": "agent.control", "action": "answer", "value": 1}, "$.task"),
        ({"type": "agent.control", "action": "approve"}, "$.gate"),
        ({"type": "agent.control", "action": "state"}, "$.action"),
        ({"type": "session.new", "archive": False}, "$.archive"),
        ({"type": "memory.update", "memory_id": "e"}, "$.content"),
        ({"type": "memory.update", "memory_id": "e", "content": ""}, "$.content"),
        ({"type": "memory.summarize"}, "$.memory_id"),
    ],
    ids=str,
)
def test_what_is_missing_is_told_with_its_path(frame: dict[str, object], path: str) -> None:
    with pytest.raises(InvalidPayload) as told:
        asked(acting(frame), BORDER)
    assert told.value.details == {"path": path}


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ({"type": "chat.send", "content": "x"}, True), ({"type": "chat.send", "content": "/new"}, False),
        ({"type": "chat.send", "content": "x", "input_mode": "steer"}, False), ({"type": "agent.control"}, True),
        ({"type": "agent.control", "action": "plan"}, True), ({"type": "agent.control", "action": "cancel"}, False),
        ({"type": "agent.control", "goal": "x", "input_mode": "steer"}, False), ({"type": "session.new"}, False),
    ],
    ids=str,
)  # fmt: skip
def test_what_starts_a_run_is_seen_before_its_words_are_looked_at(frame: dict[str, object], expected: bool) -> None:
    """Rulings 28: the refusal for load is decided in the frame's callback."""
    assert starts(acting(frame)) is expected


def test_a_key_covers_everything_that_shapes_the_run_and_nothing_else() -> None:
    """F9: the same key with another body is a conflict; what only says how to be answered is no other body."""
    base = {"type": "chat.send", "content": "x", "idempotency_key": "k"}

    def body(frame: Mapping[str, object]) -> str | None:
        intent = asked(acting(frame), BORDER).intent
        assert isinstance(intent, i.StartRun)
        assert intent.key == "k"
        return intent.body_hash

    same = body(base)
    assert same is not None
    assert body({**base, "id": "other", "wait": True}) == same
    for other in ({"content": "y"}, {"leaf_id": "e"}, {"input_mode": "interrupt"}, {"content": "/goal x"}):
        assert body({**base, **other}) != same
    with_goal = {"type": "agent.control", "goal": "x", "idempotency_key": "k"}
    assert body(with_goal) != same, "a goal is no chat"
    assert body({**with_goal, "overflow": "drop"}) != body(with_goal)


def test_what_looks_like_a_secret_is_taken_out_of_every_text_and_told_by_its_rule() -> None:
    """L14: scrubbed at the border, before it is decided on."""
    border = Border(BY, "run_1", LIMIT, "defer", frozenset({"hunter2hunter2"}))
    for frame in (
        {"type": "chat.send", "content": "it is hunter2hunter2"},
        {"type": "agent.control", "action": "steer", "text": "it is hunter2hunter2"},
        {"type": "agent.control", "action": "pause", "reason": "it is hunter2hunter2"},
        {"type": "agent.control", "action": "answer", "task": "q", "value": {"deep": ["hunter2hunter2"]}},
        {"type": "memory.update", "memory_id": "e", "content": "it is hunter2hunter2"},
    ):
        found = asked(acting(frame), border).intent
        assert "hunter2" not in repr(found)
        assert len(found.scrubbed) == 1
