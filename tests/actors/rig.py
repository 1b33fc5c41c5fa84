"""The actors of a server without sockets: real sessions over a store in memory, and a model that follows a script."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from agentd.actors.calibration import Calibration
from agentd.actors.directory import Directory
from agentd.actors.dispatcher import Dispatcher
from agentd.actors.identity_files import IdentityFiles
from agentd.actors.load import Load
from agentd.actors.memory_manager import MemoryManager
from agentd.actors.seat import Seat
from agentd.actors.shared import Shared
from agentd.clock import SystemClock
from agentd.core import intents as i
from agentd.core.replay import Replay
from agentd.core.server import KEY as SERVER
from agentd.protocol import facts as f
from agentd.protocol.codec import decode_fact
from agentd.protocol.errors import AgentdError
from agentd.protocol.replies import Reply
from agentd.protocol.signals import Signal
from agentd.providers.provider import Events, ModelReply, ModelRequest, ToolCall
from agentd.settings import Settings
from agentd.store.store import Record
from agentd.supervisor import Supervisor
from tests.store.memory_store import Disk, MemoryStore

BY = f.By(principal="local", via="ws")
WAIT_S = 10.0
Answer = str | dict[str, Any] | list[Any] | ModelReply | Exception
Script = Callable[[ModelRequest], "Answer | Awaitable[Answer]"]


class Scripted:
    """A provider whose replies a test writes; `asked` keeps every request."""

    name = "scripted"
    model = "script-1"

    def __init__(self, script: Script, *, offline: bool = False) -> None:
        self.offline = offline
        self.asked: list[ModelRequest] = []
        self._script = script

    async def complete(self, request: ModelRequest, events: Events) -> ModelReply:
        self.asked.append(request)
        answer = self._script(request)
        if isinstance(answer, Awaitable):
            answer = await answer
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, ModelReply):
            return answer
        text = answer if isinstance(answer, str) else json.dumps(answer)
        events.text(text)
        usage = f.Usage(model=self.model, input_tokens=7, output_tokens=3, calls=1)
        return ModelReply(content=text, usage=usage, finish_reason="stop")

    async def check(self) -> str | None:
        return None

    async def close(self) -> None:
        pass

    def for_(self, purpose: str) -> list[ModelRequest]:
        return [request for request in self.asked if request.purpose == purpose]


def calls(*asked: tuple[str, dict[str, Any]]) -> ModelReply:
    """A reply that asks for these tools."""
    made = tuple(ToolCall(f"c{n}", name, json.dumps(given)) for n, (name, given) in enumerate(asked))
    return ModelReply(content="", usage=f.Usage(calls=1), finish_reason="tool_calls", tool_calls=made)


class Rig:
    """One server's actors. Close it with `end`."""

    def __init__(
        self, script: Script, settings: Settings | None = None, *, offline: bool = False, disk: Disk | None = None
    ) -> None:
        """`disk`: what another process left."""
        self.settings = settings or Settings()
        limits = self.settings.limits
        self.clock = SystemClock()
        self.fatal: list[str] = []
        self.replays = True  # False where a test writes to the log beside its session
        self.supervisor = Supervisor(self.clock, self.fatal.append)
        self.store = MemoryStore(clock=self.clock, supervisor=self.supervisor, disk=disk)
        self.model = Scripted(script, offline=offline)
        self.shared = Shared(
            settings=self.settings,
            caps=i.Caps(
                dispatch=limits.dispatch, workers=limits.workers, ram_entries=limits.ram_entries,
                ram_bytes=limits.ram_bytes, high_water=self.settings.memory.high_water,
                low_water=self.settings.memory.low_water, tasks_per_plan=limits.tasks_per_plan,
                steer_all=self.settings.runs.steer == "all",
            ),
            clock=self.clock,
            supervisor=self.supervisor,
            store=self.store,
            term=1,
            dispatcher=Dispatcher(limits.workers, limits.model_calls, limits.queued_global),
            load=Load(self.clock, limits.runs_global),
            provider=self.model,
            identity=IdentityFiles(Path("identity"), 32_768),
            known_secrets=frozenset(),
            notices=[],
            loop_lag_s=lambda: 0.0,
            calibration=Calibration(),
            look=lambda state: self.memory.look(state),
        )  # fmt: skip
        self.directory = Directory(self.shared)
        self.memory = MemoryManager(self.shared, self.directory)

    async def session(self, key: str = "s") -> Seat:
        return await self.directory.open(key, "default", "local", operator=False)

    async def tell(self, seat: Seat, intent: i.AnyIntent) -> Any:
        """A command and its answer: a fact, or a reply; a refusal is raised."""
        heard = Heard()
        if isinstance(intent, i.StartRun):
            assert self.shared.load.reserve()
        seat.tell(intent, "control", heard)
        return await asyncio.wait_for(heard.answer, WAIT_S)

    async def start(self, seat: Seat, content: str, kind: f.RunKind = "chat") -> str:
        run = self.clock.new_id("run")
        await self.tell(seat, i.StartRun(by=BY, run=run, kind=kind, content=content))
        return run

    async def ended(self, seat: Seat, run: str) -> list[f.AnyFact]:
        """The run's facts once it has its end."""
        await self.until(seat, lambda fact: fact.run == run and isinstance(fact, f.RUN_ENDS))
        return [fact for fact in await self.facts(seat) if fact.run == run]

    async def goal(self, content: str) -> list[f.AnyFact]:
        """A goal on a session of its own, to its end."""
        seat = await self.session()
        return await self.ended(seat, await self.start(seat, content, "goal"))

    async def facts(self, seat: Seat) -> list[f.AnyFact]:
        page = await self.store.read(seat.key, 0, 10_000, 1 << 30)
        return [decode_fact(body) for body in page.bodies]

    async def until(self, seat: Seat, wanted: Callable[[f.AnyFact], bool]) -> f.AnyFact:
        """The first fact that is wanted, stored or to come."""
        sink = Sink()
        follower = seat.feed.add(sink, 0)
        follower.follow()
        try:
            async with asyncio.timeout(WAIT_S):
                while True:
                    fact = await sink.next()
                    if fact is not None and wanted(fact):
                        return fact
        finally:
            seat.feed.remove(follower)

    async def end(self) -> None:
        """Everything stops; what was written has to replay."""
        await self.store.close()
        await self.supervisor.stop(5)
        assert not self.fatal
        for key, records in self.store.disk.facts.items():
            if self.replays and key != SERVER:
                replayed(key, records, self.shared.caps)


class Sink:
    """A follower that has room for everything."""

    full = False
    closed = False
    on_drained: Callable[[], None] | None = None

    def __init__(self) -> None:
        self._frames: asyncio.Queue[bytes] = asyncio.Queue()

    def send(self, frame: bytes, *, soon: bool = False) -> None:
        self._frames.put_nowait(frame)

    def close(self, code: int, reason: str, *, last: bytes | None = None) -> None:
        self.closed = True

    async def next(self) -> f.AnyFact | None:
        """The next fact; None for what is none."""
        frame = await self._frames.get()
        return decode_fact(frame) if b'"seq":' in frame and b'"session.delta"' not in frame[:40] else None


class Heard:
    """A caller that keeps what it was told."""

    def __init__(self) -> None:
        self.waits = False
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def is_fact(self, session: str, seq: int, body: bytes) -> None:
        self.answer.set_result(decode_fact(body))

    def done(self, session: str, seq: int, reply: Reply | Signal) -> None:
        self.answer.set_result(reply)

    def refused(self, session: str, seq: int, error: AgentdError) -> None:
        self.answer.set_exception(error)

    def repeated(self, session: str, run: str) -> None:
        self.answer.set_result(run)


def replayed(key: str, records: Sequence[Record], caps: i.Caps) -> Replay:
    """The rules come to the same facts again, from what these say alone."""
    replay = Replay(key, caps)
    for record in records:
        fact = decode_fact(record.body)
        assert not isinstance(fact, f.RunStarted) or fact.identity is not None
        wrong = replay.feed(record.step, fact)
        assert wrong is None, wrong
    wrong = replay.finish()
    assert wrong is None, wrong
    return replay


def plan(*tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A plan as a model would write it."""
    return {"tasks": [{"title": one["id"], **one} for one in tasks], **more}


def said(request: ModelRequest) -> str:
    """All that a model was told, in one text."""
    return "\n".join(message.content for message in request.messages)


def statuses(facts: list[f.AnyFact]) -> dict[str, str]:
    return {fact.task: fact.status for fact in facts if isinstance(fact, f.AgentStatus)}


def warnings(facts: list[f.AnyFact]) -> list[str]:
    return [fact.code for fact in facts if isinstance(fact, f.Warned)]


def as_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
