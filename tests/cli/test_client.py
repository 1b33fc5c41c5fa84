"""Each fact once and in order, whatever becomes of the connection; a request that was not answered counts once."""

import asyncio
import socket
from typing import Any

import pytest

from agentd.cli.address import Server
from agentd.cli.client import Client
from agentd.cli.failure import DENIED, FAILED, NOT_FOUND, UNREACHABLE, Failure
from tests.cli.fake_server import FakeServer, QuickClock, Talk, fake_server

ERROR = {"type": "error", "code": "internal", "message": "no", "retryable": False}


def client(fake: FakeServer, session: str | None = "s", **more: Any) -> Client:
    return Client(fake.address, QuickClock(), session=session, **more)


async def hold(talk: Talk) -> None:
    await talk.ack()
    await talk.connection.wait_closed()


async def test_the_token_goes_in_the_header_and_never_in_the_address() -> None:
    async with fake_server(hold) as fake, client(fake, session="a b"):
        assert fake.paths == ["/v1/agents/default/stream?session=a%20b"]
        assert fake.headers[0]["authorization"] == "Bearer the-token"
        assert "the-token" not in repr(fake.address())


async def test_facts_follow_each_other_over_a_broken_connection_once_each() -> None:
    async def first(talk: Talk) -> None:
        await talk.ack(seq=4)
        await talk.fact(5)
        await talk.fact(6)
        await talk.break_off()

    async def second(talk: Talk) -> None:
        await talk.ack(seq=8)
        for seq in (6, 7, 8):
            await talk.fact(seq)
        await talk.connection.wait_closed()

    async with fake_server(first, second) as fake, client(fake) as following:
        seen = [(frame.type, frame.get("seq")) for frame in [await following.read() for _ in range(5)]]
        assert seen == [("warning", 5), ("warning", 6), ("session.ack", 8), ("warning", 7), ("warning", 8)]
        assert fake.paths[1].endswith("?session=s&after=6&log=log_1")


async def test_the_address_is_looked_up_again_because_a_new_server_may_have_another() -> None:
    async def killed(talk: Talk) -> None:
        await talk.ack()
        await talk.break_off()

    async with fake_server(killed) as old, fake_server(hold) as new:
        addresses = [old.address(), new.address()]
        following = Client(lambda: addresses.pop(0), QuickClock(), session="s")
        async with following:
            assert (await following.read()).type == "session.ack"
        assert len(new.paths) == 1


async def test_an_unanswered_request_with_a_key_is_sent_again_and_an_answered_one_is_not() -> None:
    got: list[dict[str, Any]] = []

    async def first(talk: Talk) -> None:
        await talk.ack()
        one, two = await talk.receive(), await talk.receive()
        await talk.fact(1, type="run.accepted", request=one["id"])
        got.extend((one, two))
        await talk.break_off()

    async def second(talk: Talk) -> None:
        await talk.ack(seq=1)
        got.append(await talk.receive())
        await talk.send(type="run.accepted", session="s", ts=1, run="r", repeated=True, request=got[-1]["id"])
        await talk.connection.wait_closed()

    async with fake_server(first, second) as fake, client(fake) as following:
        await following.send({"type": "chat.send", "idempotency_key": "k1"})
        request = await following.send({"type": "chat.send", "idempotency_key": "k2"})
        while True:
            frame = await following.read()
            if frame.request == request:
                break
        assert [frame["idempotency_key"] for frame in got] == ["k1", "k2", "k2"]
        assert got[1]["id"] == got[2]["id"] == request


async def test_a_request_that_may_not_be_repeated_ends_with_its_connection() -> None:
    async def first(talk: Talk) -> None:
        await talk.ack()
        await talk.receive()
        await talk.break_off()

    async with fake_server(first, hold) as fake, client(fake) as following:
        with pytest.raises(Failure, match="before the answer came") as caught:
            await following.ask({"type": "agent.control", "action": "steer", "text": "x"})
        assert caught.value.code == UNREACHABLE


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [(401, "unauthorized", DENIED), (403, "forbidden", DENIED), (404, "not_found", NOT_FOUND), (409, "conflict", 1)],
)
async def test_a_refused_upgrade_ends_with_the_words_of_the_server(status: int, code: str, exit_code: int) -> None:
    error = {"type": "error", "code": code, "message": "because", "retryable": False, "hint": "do this"}
    async with fake_server((status, error)) as fake:
        with pytest.raises(Failure) as caught:
            await client(fake).open()
        assert (caught.value.message, caught.value.hint) == (f"because ({code})", "do this")
        assert caught.value.code == exit_code


async def test_a_server_that_is_still_starting_is_waited_for() -> None:
    starting = (503, {"code": "draining", "message": "the server is starting"})
    async with fake_server(starting, starting, hold) as fake, client(fake) as following:
        assert following.connected
        assert len(fake.paths) == 3


async def test_a_server_that_never_gets_ready_is_given_up_in_its_own_words() -> None:
    starting = (503, {"code": "draining", "message": "the server is starting"})
    async with fake_server(*[starting] * 100) as fake:
        with pytest.raises(Failure, match="the server is starting") as caught:
            await client(fake).open()
        assert caught.value.code == UNREACHABLE


async def test_where_nobody_listens_it_is_said_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        clock = QuickClock()
        with pytest.raises(Failure, match=f"no server answers at {url}") as caught:
            await Client(lambda: Server(url, "t", local=True), clock).open()
    assert (caught.value.code, clock.slept_s) == (UNREACHABLE, 0.0)


async def test_a_lost_server_that_stays_away_is_given_up_after_the_deadline() -> None:
    async def killed(talk: Talk) -> None:
        await talk.ack()
        await talk.break_off()

    async with fake_server(killed) as fake:
        clock = QuickClock()
        following = Client(fake.address, clock, session="s", reconnect_s=20.0)
        await following.open()
        assert fake.server is not None
        away = Server("http://127.0.0.1:1", "t", local=True)
        following._locate = lambda: away
        with pytest.raises(Failure, match="no server answers") as caught:
            await following.read()
    assert caught.value.code == UNREACHABLE
    assert 10.0 < clock.slept_s < 21.0


async def test_something_that_is_no_websocket_server_is_named_as_such() -> None:
    async def shout(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(shout, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(Failure) as caught:
            await Client(lambda: Server(url, "t", local=True), QuickClock()).open()
    assert caught.value.code == UNREACHABLE


async def test_another_http_server_is_told_from_agentd() -> None:
    async with fake_server((200, {"hello": 1})) as fake:
        with pytest.raises(Failure, match="answered 200 and is no agentd") as caught:
            await client(fake).open()
    assert caught.value.code == UNREACHABLE


async def test_a_close_for_the_credential_is_final_and_told_by_the_error_before_it() -> None:
    async def revoked(talk: Talk) -> None:
        await talk.ack()
        await talk.send(type="error", code="unauthorized", message="revoked", retryable=False)
        await talk.connection.close(1008, "unauthorized")

    async with fake_server(revoked) as fake, client(fake) as following:
        assert (await following.read()).type == "error"
        with pytest.raises(Failure, match="revoked") as caught:
            await following.read()
        assert caught.value.code == DENIED
        assert len(fake.paths) == 1


async def test_a_gap_in_the_facts_is_never_passed_over() -> None:
    async def gap(talk: Talk) -> None:
        await talk.ack(seq=1)
        await talk.fact(3)
        await talk.connection.wait_closed()

    async with fake_server(gap) as fake, client(fake) as following:
        with pytest.raises(Failure, match="left out the facts 2 to 2") as caught:
            await following.read()
        assert caught.value.code == FAILED


async def test_after_a_reset_the_facts_begin_where_the_server_says() -> None:
    async def first(talk: Talk) -> None:
        await talk.ack(seq=90)
        await talk.fact(91)
        await talk.break_off()

    async def second(talk: Talk) -> None:
        await talk.ack(seq=4, first=3, reset="other_log", log="log_2")
        await talk.fact(3)
        await talk.fact(4)
        await talk.connection.wait_closed()

    async with fake_server(first, second) as fake, client(fake) as following:
        seqs = [(await following.read()).get("seq") for _ in range(4)]
        assert seqs == [91, 4, 3, 4]


async def test_facts_of_another_session_do_not_move_the_cursor() -> None:
    async def other(talk: Talk) -> None:
        await talk.ack(seq=1)
        await talk.fact(77, session="elsewhere", request="cli-1")
        await talk.fact(2)
        await talk.connection.wait_closed()

    async with fake_server(other) as fake, client(fake) as following:
        assert [(await following.read()).get("seq") for _ in range(2)] == [77, 2]
        assert following.seq == 2


async def test_cancelling_a_read_loses_no_frame() -> None:
    go = asyncio.Event()

    async def later(talk: Talk) -> None:
        await talk.ack()
        await go.wait()
        await talk.fact(1)
        await talk.connection.wait_closed()

    async with fake_server(later) as fake, client(fake) as following:
        reading = asyncio.create_task(following.read())
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait({reading})
        go.set()
        assert (await following.read()).get("seq") == 1


async def test_an_error_reply_ends_the_question() -> None:
    async def refuse(talk: Talk) -> None:
        await talk.ack()
        asked = await talk.receive()
        await talk.send(**{**ERROR, "code": "overloaded", "retry_after_ms": 1500, "request": asked["id"]})
        await talk.connection.wait_closed()

    async with fake_server(refuse) as fake, client(fake) as following:
        with pytest.raises(Failure, match="overloaded") as caught:
            await following.ask({"type": "session.list"})
        assert caught.value.hint == "Try again in 1.5 s."
