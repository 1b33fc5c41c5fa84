"""What a frame asks for is bounded before anything looks through it."""

import json

import pytest

from agentd.core import scrub
from agentd.edge import requests
from agentd.edge.requests import Border, asked
from agentd.protocol import commands as c
from agentd.protocol.codec import decode_command
from agentd.protocol.errors import TooLarge
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
