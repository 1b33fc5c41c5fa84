"""A request is answered once, in its place among the facts, on its own socket (protocol.md, 2; rulings 46)."""

from typing import Any

import msgspec
import pytest

from agentd.actors.feed import Follower
from agentd.edge.ask import Ask, Sum
from agentd.protocol.errors import AgentdError, Conflict
from agentd.protocol.replies import ControlDone, Reply
from agentd.protocol.signals import Signal


class Client:
    """An asker that keeps what left it. `follower` stands for one of session `s`."""

    def __init__(self, *, follows: bool) -> None:
        self.session = "s"
        self.sent: list[dict[str, Any]] = []
        self.behind: list[tuple[int, dict[str, Any]]] = []
        self.marked: list[tuple[int, str | None]] = []
        self.left: list[Ask] = []
        self.errors: list[str] = []
        self.looked_up: list[str] = []
        self.follower: Any = self if follows else None

    @property
    def sink(self) -> Any:
        return self

    def send(self, frame: bytes, *, soon: bool = False) -> None:
        self.sent.append(msgspec.json.decode(frame))

    def reply(self, seq: int, frame: bytes) -> None:
        self.behind.append((seq, msgspec.json.decode(frame)))

    def answer_with(self, seq: int, request: str | None) -> None:
        self.marked.append((seq, request))

    def answered(self, ask: Ask) -> None:
        self.left.append(ask)

    def counted(self, error: AgentdError) -> None:
        self.errors.append(error.code)

    def now_ms(self) -> int:
        return 7

    def answer_repeated(self, ask: Ask, session: str, run: str) -> None:
        self.looked_up.append(run)


def done(session: str = "s") -> ControlDone:
    return ControlDone(session=session, ts=1, action="cancel")


def told(client: Client) -> list[str | None]:
    """The request ids of all frames, wherever they went."""
    return [frame.get("request") for frame in client.sent + [frame for _, frame in client.behind]]


@pytest.mark.parametrize("first", ["is_fact", "done", "refused"])
def test_whatever_comes_first_is_the_only_answer(first: str) -> None:
    client = Client(follows=True)
    ask = Ask(client, "q")
    for name in sorted(("is_fact", "done", "refused"), key=lambda name: name != first):
        match name:
            case "is_fact":
                ask.is_fact("s", 3, b'{"type":"run.accepted"}')
            case "done":
                ask.done("s", 3, done())
            case _:
                ask.refused("s", 3, Conflict("no"))
    ask.part(done())
    assert (len(client.marked) + len(client.behind) + len(client.sent), client.left, ask.open) == (1, [ask], False)
    assert client.errors == (["conflict"] if first == "refused" else [])


def test_a_fact_of_the_session_that_is_followed_is_the_reply_in_its_place_and_another_s_is_sent_apart() -> None:
    client = Client(follows=True)
    Ask(client, "q").is_fact("s", 3, b'{"type":"run.accepted"}')
    assert (client.marked, client.sent) == ([(3, "q")], [])
    Ask(client, "p").is_fact("elsewhere", 9, b'{"type":"run.accepted"}')
    assert client.sent == [{"type": "run.accepted", "request": "p"}]
    unborn = Client(follows=False)
    Ask(unborn, "q").is_fact("s", 3, b'{"type":"run.accepted"}')
    assert unborn.sent == [{"type": "run.accepted", "request": "q"}]


def test_a_reply_stands_behind_the_fact_of_its_step_where_facts_are_followed() -> None:
    client = Client(follows=True)
    Ask(client, "q").done("s", 5, done())
    Ask(client, "p").refused("elsewhere", 5, Conflict("no"))
    assert [(seq, frame["request"]) for seq, frame in client.behind] == [(5, "q")]
    assert [(frame["request"], frame["code"], frame["ts"]) for frame in client.sent] == [("p", "conflict", 7)]


def test_a_reply_of_several_frames_bears_the_request_on_each_and_ends_with_the_last() -> None:
    client = Client(follows=False)
    ask = Ask(client, "q")
    ask.part(done())
    ask.part(done())
    assert ask.open
    ask.done("s", 0, done())
    ask.part(done())
    assert told(client) == ["q"] * 3


def test_a_request_without_an_id_gets_a_reply_without_one() -> None:
    client = Client(follows=False)
    Ask(client, None).done("s", 0, done())
    assert "request" not in client.sent[0]


def test_a_repeated_key_is_looked_up_and_still_open() -> None:
    client = Client(follows=True)
    ask = Ask(client, "q", waits=True)
    ask.repeated("s", "run_1")
    assert (client.looked_up, ask.open, ask.waits) == (["run_1"], True, True)


def test_one_who_stands_for_many_answers_once_when_all_have_however_they_do() -> None:
    answers: list[list[Reply | Signal]] = []
    total = Sum(4, answers.append)
    total.done("a", 1, done("a"))
    total.refused("b", 0, Conflict("no"))
    total.is_fact("c", 1, b"{}")
    assert answers == []
    total.repeated("d", "run")
    assert [[reply.session for reply in found if isinstance(reply, ControlDone)] for found in answers] == [["a"]]


def test_one_who_stands_for_nobody_answers_at_once() -> None:
    answers: list[list[Reply | Signal]] = []
    Sum(0, answers.append)
    assert answers == [[]]


def test_a_follower_is_what_an_ask_takes_it_for() -> None:
    assert all(callable(getattr(Follower, name)) for name in ("reply", "answer_with"))
