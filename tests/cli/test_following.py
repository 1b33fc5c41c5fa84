"""A stream that breaks off goes on where it was; what can not be repaired is told."""

from collections.abc import Iterator

import pytest

from agentd.cli.address import Server
from agentd.cli.download import Event
from agentd.cli.failure import UNREACHABLE, Failure
from agentd.cli.following import RECONNECT_S, follow
from agentd.clock import SystemClock
from tests.cli.fake_http import HEAD, answering


def event(number: int, kind: str = "warning") -> bytes:
    return b'id: %d\nevent: %b\ndata: {"seq":%d}\n\n' % (number, kind.encode(), number)


class Impatient(SystemClock):
    """Waits are over at once, and time goes by as if they had not been."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        self.now_s += delay_s


def heard(url: str, clock: SystemClock | None = None) -> Iterator[Event]:
    return follow(lambda: Server(url, "token", local=False), "/v1/runs/r/events", clock or Impatient())


def test_events_come_as_they_were_sent_and_comments_are_passed_over() -> None:
    opened = b'event: stream.opened\ndata: {"first":1}\n\n'
    with answering((opened, b": ping\n\n", event(1), event(2, "run.completed"), event(3))) as url:
        found = list(heard(url))
    assert found == [
        Event(None, "stream.opened", b'{"first":1}'),
        Event("1", "warning", b'{"seq":1}'),
        Event("2", "run.completed", b'{"seq":2}'),
    ]


def test_a_stream_that_breaks_off_or_ends_early_goes_on() -> None:
    half = event(3)[:10]
    with answering((event(1), None), (event(2),), (half, None), (event(3, "run.failed"),)) as url:
        assert [one.id for one in heard(url)] == ["1", "2", "3"]


def test_a_server_that_has_no_more_to_say_ends_it() -> None:
    with answering((), head=b"HTTP/1.1 204 No Content\r\n\r\n") as url:
        assert list(heard(url)) == []


def test_a_server_that_stays_away_is_given_up_after_a_while() -> None:
    clock = Impatient()
    with answering((event(1), None)) as url:
        stream = heard(url, clock)
        assert next(stream).id == "1"
    with pytest.raises(Failure) as caught:
        list(stream)
    assert caught.value.code == UNREACHABLE
    assert clock.now_s > RECONNECT_S


def test_a_server_that_was_never_there_is_told_at_once() -> None:
    clock = Impatient()
    with pytest.raises(Failure) as caught:
        list(heard("http://127.0.0.1:1", clock))
    assert (caught.value.code, clock.now_s) == (UNREACHABLE, 0.0)


def test_a_refusal_is_told_in_the_servers_words() -> None:
    refusal = HEAD.replace(b"200 OK", b"403 Forbidden")
    error = b'{"type":"error","code":"forbidden","message":"not yours"}'
    with answering((error,), head=refusal) as url, pytest.raises(Failure, match="not yours"):
        list(heard(url))
    with answering((b"<html>",), head=refusal) as url, pytest.raises(Failure, match="403"):
        list(heard(url))
