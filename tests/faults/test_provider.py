"""The model's server in trouble, under a whole agentd: each fault has its kind, is told, and passes."""

import time

import pytest

from tests.child import all_facts, ask, of_type, until
from tests.faults.conftest import MAKE, MODEL

# What the model's server does, how the run ends, the kind that is told, and how often it was asked.
FAULTS = {
    "500 once": ("fake:status=500,times=1", "completed", None, 2),
    "429 with a wait, twice": ("fake:status=429,retry_after=0,times=2", "completed", None, 3),
    "401": ("fake:status=401", "failed", "auth", 1),
    "429 that asks for an hour": ("fake:status=429,retry_after=3600", "failed", "rate_limit", 1),
    "a context that is too long": ("fake:error=context_length_exceeded", "failed", "context_length", 1),
    "a refusal by the server": ("fake:error=content_filter", "failed", "refused", 1),
    "no HTTP": ("fake:badhttp=1,times=1", None, None, None),
}


async def test_each_fault_of_the_model_ends_its_run_with_its_kind_and_the_next_run_is_untouched(
    make: MAKE, model: MODEL
) -> None:
    fake, settings = model
    server = make(*settings)
    await server.start()
    async with server.connect("faults") as socket:
        while not any(path.endswith("/models") for path in fake.paths):  # the check at the start is no part of this
            assert (await ask(socket, type="ping"))["type"] == "pong"
        for name, (behaviour, state, kind, asks) in FAULTS.items():
            before = len(fake.requests)
            fake.asks.clear()
            fake.behaviour = behaviour
            result = await ask(socket, type="chat.send", content=name, wait=True)
            asked = sum("messages" in request for request in fake.requests[before:])
            if state is not None:
                assert (result["state"], asked) == (state, asks), name
                assert (result.get("cause") or {}).get("kind") == kind, name
            fake.behaviour = ""
            assert (await ask(socket, type="chat.send", content="and now?", wait=True))["state"] == "completed", name
    told = await all_facts(server, "faults")
    ends = [fact for fact in told if fact["type"] in ("run.completed", "run.failed")]
    assert len(ends) == 2 * len(FAULTS)
    retries = [fact for fact in told if fact["type"] == "warning" and fact["code"] == "provider_retry"]
    assert len(retries) >= 3
    assert all(fact["details"]["kind"] in ("unavailable", "rate_limit", "network") for fact in retries)


@pytest.mark.parametrize(
    ("cut", "kind"),
    [
        ("cut=3", "network"),
        ("cut=3,how=reset", "network"),
        ("stops=4,nodone=1", "network"),
        ("garbage=3", "malformed_output"),
        ("fault=3", "unavailable"),
    ],
)
async def test_a_stream_that_breaks_fails_the_run_and_keeps_what_was_shown(
    make: MAKE, model: MODEL, cut: str, kind: str
) -> None:
    """Words that somebody has read are not taken back: they are a fact, and the run says why it is not all."""
    fake, settings = model
    server = make(*settings)
    await server.start()
    async with server.connect("cut") as socket:
        fake.behaviour = f"fake:{cut},split=1"
        await socket.send('{"type": "chat.send", "content": "hello"}')
        heard = await until(socket, lambda frame: frame["type"] in ("run.completed", "run.failed"))
        fake.behaviour = "fake:chunks=5"
        result = await ask(socket, type="chat.send", content="again", wait=True)
    assert (heard[-1]["type"], heard[-1]["cause"]["kind"]) == ("run.failed", kind)
    (receive,) = [frame for frame in heard if frame["type"] == "session.receive"]
    assert "".join(frame["text"] for frame in heard if frame["type"] == "session.delta") == receive["content"]
    assert receive["content"] == "word word word"
    assert result["content"] == "word word word word word"


@pytest.mark.parametrize("hang", ["headers", "stream"])
async def test_a_model_that_hangs_is_cancelled_at_once_and_holds_up_nobody(make: MAKE, model: MODEL, hang: str) -> None:
    fake, settings = model
    fake.behaviour = f"fake:hang={hang},split=1"
    server = make(*settings, "AGENTD_LIMITS__MODEL_CALLS=2")
    await server.start()
    async with server.connect("hangs") as socket, server.connect("other") as other:
        run = (await ask(socket, type="chat.send", content="hello"))["run"]
        await fake.streaming.wait()
        fake.behaviour = ""
        began = time.monotonic()
        assert (await ask(other, type="chat.send", content="hello", wait=True))["state"] == "completed"
        state = await ask(socket, type="agent.control", action="state")
        assert [each["run"] for each in state["runs"]] == [run]
        done = await ask(socket, type="agent.control", action="cancel")
        assert (done["active_cancelled"], done["still_running"]) == (1, 0)
        assert time.monotonic() - began < 2.0
        assert (await ask(socket, type="chat.send", content="again", wait=True))["state"] == "completed"
    told = await all_facts(server, "hangs")
    assert [fact["type"] for fact in told if fact["type"].startswith("run.c") and fact["run"] == run][-1] == (
        "run.cancelled"
    )


async def test_an_outage_fails_runs_by_name_and_ends_with_the_outage(make: MAKE, model: MODEL) -> None:
    """Nobody listens at the model's address: told at the start, in the ack, and by each run."""
    _, settings = model
    port = settings[3].rsplit(":", 1)[1]
    server = make(*settings[:3], f"OPENAI_BASE_URL=http://127.0.0.1:1/{port}")
    await server.start()
    async with server.connect("outage") as socket:
        result = await ask(socket, type="chat.send", content="hello", wait=True)
        assert (result["state"], result["cause"]["kind"]) == ("failed", "network")
        assert result["cause"]["hint"]
    async with server.connect("outage") as socket:
        ack = (await until(socket, of_type("session.ack")))[0]
        assert "provider_unreachable" in {notice["code"] for notice in ack["warnings"]}
