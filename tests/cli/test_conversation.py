"""One run followed to its end: nothing shown twice, nobody else's work taken for it, an interrupt cancels it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agentd.cli.client import Client, Frame
from agentd.cli.conversation import Conversation
from agentd.cli.failure import DONE, FAILED, NOT_FOUND, Failure
from agentd.cli.screen import Screen
from agentd.supervisor import Supervisor
from tests.cli.fake_server import FakeServer, QuickClock, Talk, fake_server

CHAT = {"type": "chat.send", "content": "hello"}
COUNTS = {"total": 0, "done": 0, "failed": 0, "cancelled": 0, "skipped": 0, "dropped": 0}
END: dict[str, Any] = {"cause": None, "counts": COUNTS}

Out = pytest.CaptureFixture[str]


@asynccontextmanager
async def conversation(fake: FakeServer, *, json: bool = False, all_runs: bool = False) -> AsyncIterator[Conversation]:
    clock = QuickClock()
    supervisor = Supervisor(clock, lambda _: None)
    async with Client(fake.address, clock, session="s") as client:
        yield Conversation(client, Screen(json=json), clock, supervisor, all_runs=all_runs)
    assert await supervisor.stop(1.0) == []


async def shown(talk: Conversation, type: str) -> None:
    """Wait until a frame of this type was shown."""
    event, show = asyncio.Event(), talk.screen.show

    def showing(frame: Frame) -> None:
        show(frame)
        if frame.type == type:
            event.set()

    talk.screen.show = showing  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        await event.wait()


async def accept(talk: Talk, seq: int = 1, run: str = "r", **more: Any) -> None:
    asked = await talk.receive()
    await talk.fact(seq, type="run.accepted", run=run, state="running", request=asked["id"], **more)


async def answer(talk: Talk, seq: int, text: str, run: str = "r") -> None:
    await talk.fact(seq, type="session.receive", run=run, message="m", content=text)
    await talk.fact(seq + 1, type="run.completed", run=run, **END)


async def delta(talk: Talk, offset: int, text: str, **more: Any) -> None:
    await talk.send(type="session.delta", session="s", ts=1, run="r", message="m", offset=offset, text=text, **more)


async def test_the_answer_goes_to_stdout_as_it_comes_and_once(capsys: Out) -> None:
    async def script(talk: Talk) -> None:
        await talk.ack()
        await accept(talk)
        await delta(talk, 0, "a task's words", task="t1")
        await delta(talk, 0, "Hel")
        await delta(talk, 3, "lo")
        await answer(talk, 2, "Hello!")
        await talk.connection.wait_closed()

    async with fake_server(script) as fake, conversation(fake) as talk:
        assert await talk.turn(CHAT, wait=True) == DONE
    assert capsys.readouterr() == ("Hello!\n", "")


async def test_a_server_that_is_killed_in_the_middle_costs_no_word_and_repeats_none(capsys: Out) -> None:
    async def killed(talk: Talk) -> None:
        await talk.ack()
        await accept(talk)
        await delta(talk, 0, "Hello, ")
        await talk.connection.wait_closed()

    async def again(talk: Talk) -> None:
        await talk.ack(seq=1)
        await delta(talk, 0, "Hello, wor")
        await answer(talk, 2, "Hello, world")
        await talk.connection.wait_closed()

    async with fake_server(killed, again) as fake, conversation(fake) as talk:
        turn = asyncio.create_task(talk.turn(CHAT, wait=True))
        assert fake.server is not None
        await shown(talk, "session.delta")
        for connection in list(fake.server.connections):
            connection.transport.abort()
        assert await turn == DONE
    assert capsys.readouterr() == ("Hello, world\n", "connected again\n")


async def test_a_run_whose_reply_was_lost_is_known_by_its_key(capsys: Out) -> None:
    keys = []

    async def killed(talk: Talk) -> None:
        await talk.ack()
        keys.append((await talk.receive())["idempotency_key"])
        await talk.break_off()

    async def again(talk: Talk) -> None:
        await talk.ack(seq=3)
        await talk.fact(1, type="run.accepted", run="r", state="running", key=keys[0])
        await answer(talk, 2, "once")
        asked = await talk.receive()
        await talk.send(type="run.accepted", session="s", ts=1, run="r", state="completed", repeated=True,
                        request=asked["id"])  # fmt: skip
        await talk.connection.wait_closed()

    async with fake_server(killed, again) as fake, conversation(fake) as talk:
        assert await talk.turn(CHAT, wait=True) == DONE
    assert capsys.readouterr().out == "once\n"


async def test_the_runs_of_others_are_shown_only_where_that_is_wanted(capsys: Out) -> None:
    async def script(talk: Talk) -> None:
        await talk.ack()
        await accept(talk)
        await answer(talk, 2, "theirs", run="other")
        await talk.fact(4, type="session.receive", run="r", message="m2", content="mine")
        await talk.fact(5, type="run.completed", run="r", **END)
        await talk.connection.wait_closed()

    for all_runs, expected in ((False, "mine\n"), (True, "theirs\nmine\n")):
        async with fake_server(script) as fake, conversation(fake, all_runs=all_runs) as talk:
            assert await talk.turn(CHAT, wait=True) == DONE
        assert capsys.readouterr().out == expected


async def test_a_failed_run_tells_its_cause_on_stderr_and_exits_1(capsys: Out) -> None:
    async def script(talk: Talk) -> None:
        await talk.ack()
        await accept(talk)
        cause = {"code": "provider_error", "kind": "network", "message": "no route", "hint": "check the cable"}
        await talk.fact(2, type="run.failed", run="r", **{**END, "cause": cause})
        await talk.connection.wait_closed()

    async with fake_server(script) as fake, conversation(fake) as talk:
        assert await talk.turn(CHAT, wait=True) == FAILED
    assert capsys.readouterr() == ("", "error: no route (network)\nhint: check the cable\n")


async def test_as_json_every_frame_of_the_run_is_a_line_as_it_came(capsys: Out) -> None:
    async def script(talk: Talk) -> None:
        await talk.ack()
        await accept(talk)
        await delta(talk, 0, "Hi")
        await answer(talk, 2, "Hi")
        await talk.connection.wait_closed()

    async with fake_server(script) as fake, conversation(fake, json=True) as talk:
        await talk.turn(CHAT, wait=True)
    lines = capsys.readouterr().out.splitlines()
    types = [line.split('"type": "')[1].split('"')[0] for line in lines]
    assert types == ["run.accepted", "session.delta", "session.receive", "run.completed"]


async def test_without_wait_the_run_is_named_and_left_alone(capsys: Out) -> None:
    async def script(talk: Talk) -> None:
        await talk.ack()
        await accept(talk)
        await talk.connection.wait_closed()

    async with fake_server(script) as fake, conversation(fake) as talk:
        assert await talk.turn(CHAT, wait=False) == DONE
    assert capsys.readouterr().out == "accepted: r\n"


async def test_an_interrupt_cancels_the_run_once(capsys: Out) -> None:
    cancelled: list[dict[str, Any]] = []

    async def script(talk: Talk) -> None:
        await talk.ack()
        await accept(talk)
        await delta(talk, 0, "half a")
        cancelled.append(await talk.receive())
        await talk.fact(2, type="run.cancelled", run="r", **END)
        await talk.connection.wait_closed()

    async with fake_server(script) as fake, conversation(fake) as talk:
        assert not talk.interrupt()
        turn = asyncio.create_task(talk.turn(CHAT, wait=True))
        await shown(talk, "session.delta")
        assert talk.interrupt()
        assert not talk.interrupt()
        assert await turn == FAILED
    assert [(frame["action"], frame["run"]) for frame in cancelled] == [("cancel", "r")]
    assert capsys.readouterr() == ("half a\n", "cancelled\n")


async def test_a_server_that_came_back_without_the_run_ends_the_wait() -> None:
    async def killed(talk: Talk) -> None:
        await talk.ack()
        await accept(talk)
        await talk.break_off()

    async def empty(talk: Talk) -> None:
        await talk.ack(seq=0, reset="other_log")
        asked = await talk.receive()
        assert (asked["type"], asked["run"]) == ("events.read", "r")
        await talk.send(type="error", code="not_found", message="no run r", retryable=False, request=asked["id"])
        await talk.connection.wait_closed()

    async with fake_server(killed, empty) as fake, conversation(fake) as talk:
        with pytest.raises(Failure, match="without this run") as caught:
            await talk.turn(CHAT, wait=True)
    assert caught.value.code == NOT_FOUND


async def test_while_a_line_is_waited_for_what_comes_is_shown(capsys: Out) -> None:
    async def script(talk: Talk) -> None:
        await talk.ack()
        await answer(talk, 1, "from elsewhere", run="other")
        await talk.connection.wait_closed()

    async with fake_server(script) as fake, conversation(fake, all_runs=True) as talk:
        line: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        waiting = asyncio.create_task(talk.listen_until(line))
        await shown(talk, "run.completed")
        line.set_result("next")
        assert await waiting == "next"
        assert talk.client.connected
    assert capsys.readouterr().out == "from elsewhere\n"


async def test_a_server_that_is_gone_for_good_ends_the_wait_for_a_line() -> None:
    async def gone(talk: Talk) -> None:
        await talk.ack()
        await talk.send(type="error", code="unauthorized", message="revoked", retryable=False)
        await talk.connection.close(1008)

    async with fake_server(gone) as fake, conversation(fake) as talk:
        line: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        with pytest.raises(Failure, match="revoked"):
            await talk.listen_until(line)
