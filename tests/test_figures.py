"""The page of the metrics: the log's histograms, and what happened in a whole server."""

import json
import re
from pathlib import Path

import httpx2
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from agentd import __version__
from agentd.app import App
from agentd.figures import LogHistograms
from agentd.store.figures import CommitFigures
from agentd.telemetry import Metrics
from tests.child import of_type, until
from tests.edge.served import app, token_of
from tests.events import Events


def test_what_the_log_counted_is_told_in_cumulative_buckets_and_seconds() -> None:
    figures = CommitFigures()
    for facts, ms in ((1, 0.4), (3, 0.9), (600, 3.0)):
        figures.batch_facts.observe(facts)
        figures.commit_ms.observe(ms)
    registry = CollectorRegistry()
    registry.register(LogHistograms(figures))
    lines = generate_latest(registry).decode().splitlines()
    told = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert told['agentd_commit_facts_bucket{le="4.0"}'] == "2.0"
    assert told['agentd_commit_facts_bucket{le="+Inf"}'] == told["agentd_commit_facts_count"] == "3.0"
    assert told["agentd_commit_facts_sum"] == "604.0"
    assert told['agentd_commit_seconds_bucket{le="0.001"}'] == "2.0"
    assert float(told["agentd_commit_seconds_sum"]) * 1000 == 4.3


# ---- a whole server's page ------------------------------------------------------------------------------------------


async def page(server: App) -> dict[str, float]:
    async with httpx2.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"{server.url}/metrics")).text
    lines = (line.removeprefix("agentd_") for line in text.splitlines() if line.startswith("agentd_"))
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def socket_of(server: App, state: Path, session: str, **query: object) -> connect:
    more = "".join(f"&{name}={value}" for name, value in query.items())
    url = f"{server.url.replace('http', 'ws')}/v1/agents/default/stream?session={session}{more}"
    return connect(url, additional_headers={"Authorization": f"Bearer {token_of(state)}"})


async def test_what_happens_is_on_the_page_under_its_name(tmp_path: Path) -> None:
    """L17: each figure is filled where the thing happens."""
    async with app(tmp_path) as server:
        async with socket_of(server, tmp_path, "s") as socket:
            await until(socket, of_type("session.ack"))
            for frame in (
                {"type": "chat.send", "content": "hello"},
                {"type": "agent.control", "goal": 'work it out [[tool=calculate {"expression": "2+3"}]]; say so'},
                {"type": "chat.send", "content": "[[fail=auth]]"},
            ):
                await socket.send(json.dumps(frame))
            ends = ("run.completed", "run.failed")
            for _ in range(3):
                await until(socket, lambda one: one["type"] in ends)
            await socket.send(json.dumps({"type": "nonsense", "id": "x"}))
            await until(socket, of_type("error"))
        async with socket_of(server, tmp_path, "s", after=1) as socket:
            await until(socket, of_type("run.failed"))
        async with socket_of(server, tmp_path, "s", after=9_999) as socket:
            await until(socket, of_type("session.ack"))
        with pytest.raises(InvalidStatus):
            await connect(f"{server.url.replace('http', 'ws')}/v1/agents/default/stream?token=x")
        async with Events(server.url, "/v1/sessions/s/events?after=3", token_of(tmp_path)) as events:
            await events.next()
            told = await page(server)
        calls = told['model_calls_total{outcome="ok"}']
        assert calls >= 5, "an answer, a plan or none, two tasks with a tool, an answer"
        assert told['model_calls_total{outcome="auth"}'] == 1
        assert told["model_call_seconds_count"] == calls + 1
        assert 1 <= told["model_first_token_seconds_count"] <= calls
        assert told['runs_accepted_total{kind="chat"}'] == 2
        assert told['runs_accepted_total{kind="goal"}'] == 1
        assert told["runs_started_total"] == 3
        assert told['runs_ended_total{state="completed"}'] == 2
        assert told['runs_ended_total{state="failed"}'] == 1
        assert told['run_seconds_count{state="completed"}'] == 2
        assert told['tasks_ended_total{status="done"}'] == told["task_seconds_count"] == 2
        assert told['tool_calls_total{outcome="ok"}'] == told["tool_call_seconds_count"] == 1
        assert told['errors_total{code="unknown_type"}'] == 1
        assert told['upgrades_refused_total{code="invalid_payload"}'] == 1
        assert told["reconnects_total"] == 3, "two sockets and a stream"
        assert told["replays_total"] == 3
        assert told['replays_reset_total{reason="ahead"}'] == 1
        assert told["replayed_facts_total"] >= told["facts_total"] - 10
        assert (told["streams"], told["streams_opened_total"]) == (1, 1)
        assert told["sockets_opened_total"] == 3
        assert told["outbox_bytes_max"] >= 0
        assert told[f'build_info{{version="{__version__}"}}'] == 1


async def test_what_was_found_at_the_start_and_what_a_checkpoint_moved_is_told(tmp_path: Path) -> None:
    async with app(tmp_path) as server, socket_of(server, tmp_path, "s") as socket:
        await socket.send(json.dumps({"type": "agent.control", "action": "pause"}))
        await socket.send(json.dumps({"type": "chat.send", "content": "later"}))
        await until(socket, of_type("run.accepted"))
        assert (await page(server))["sessions_recovered_total"] == 0
    async with app(tmp_path) as server:
        assert (await page(server))["sessions_recovered_total"] == 1
        server.shared.store.figures.wal_pages = 3  # as a checkpoint leaves it
        assert (await page(server))["wal_bytes"] == 3 * 4_096


async def test_the_same_is_not_counted_twice_and_a_session_that_left_takes_nothing_along(tmp_path: Path) -> None:
    async with app(tmp_path) as server:
        server.shared.followed.lagged = 3
        assert (await page(server))["deltas_lagged_total"] == 3
        assert (await page(server))["deltas_lagged_total"] == 3
        async with socket_of(server, tmp_path, "s") as socket:
            await until(socket, of_type("session.ack"))
            seat = server.directory.get("s")
            assert seat is not None
            seat.feed.followed.lagged += 1
        server.directory.let_go(float("inf"), float("inf"))
        assert (await page(server))["deltas_lagged_total"] == 4


def test_the_documents_name_only_figures_that_there_are() -> None:
    known = {family.name for family in Metrics().registry.collect()} | {"agentd_commit_facts", "agentd_commit_seconds"}
    docs = Path(__file__).resolve().parents[1] / "docs"
    for path in [*docs.glob("*.md"), *docs.glob("drills/*.md"), docs.parent / "README.md"]:
        for name in re.findall(r"\bagentd_[a-z_]+", path.read_text()):
            bare = re.sub(r"_(total|bucket|sum|count)$", "", name)
            assert name in known or bare in known, f"{path.name} names {name}"


def test_every_figure_that_is_declared_is_filled_somewhere() -> None:
    """A name that nothing counts is a promise that is not kept."""
    code = "".join(
        path.read_text() for path in (Path(__file__).resolve().parents[1] / "agentd").rglob("*.py")
        if path.name != "telemetry.py"
    )  # fmt: skip
    own = {"limit", "loop_lag_seconds", "gc_pause_seconds"}  # telemetry fills these itself
    declared = {name for name, value in vars(Metrics()).items() if hasattr(value, "collect") and name != "registry"}
    assert {name for name in declared - own if not re.search(rf"metrics\.{name}\b", code)} == set()
