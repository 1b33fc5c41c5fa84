"""Simulated clients and operators: what they ask, in frames, what they hear; each request is answered once.

A client knows only what it has read: runs, tasks, gates and entries come from frames. It follows one session, comes
back with its cursor after every cut, and compares what it reads with what it has read before.
"""

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

from agentd.edge.door import Upgrade
from agentd.protocol.errors import AgentdError
from tests.simulation.sockets import FACTS, NO_FACTS, Frame, SimSocket
from tests.simulation.world import LOG, Server, World

RETRY_S = 0.5
KNOWN_MAX = 30
WAITS_S = 600.0


class Asked:
    """A request on its way. `refused`: only an error will do. `key`: what it was to start under."""

    def __init__(self, at_s: float, refused: bool, waits: bool, key: tuple[str, str] | None) -> None:
        self.at_s = at_s
        self.refused = refused
        self.waits = waits
        self.key = key


class SimClient:
    """One person, or program, with one socket at a time. `operator` holds the scope."""

    def __init__(self, world: World, name: str, principal: str, session: str) -> None:
        self.world = world
        self.name = name
        self.principal = principal
        self.session = session
        self.pace_s = 0.0
        self.stalled_until = 0.0
        self.socket: SimSocket | None = None
        self.cursor = 0
        self.asked: dict[str, Asked] = {}
        self.anonymous = 0
        self.runs: list[str] = []
        self.tasks: list[str] = ["nothing"]
        self.running: list[str] = []
        self.gates: list[str] = []
        self.entries: list[str] = []
        self.answers: dict[str, int] = {}
        self.state_runs: list[Any] = []
        self._heard: dict[int, bytes] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._chance = random.Random(f"{world.seed}/{name}")
        self._number = 0
        self._connecting: Server | None = None

    # ---- the connection ---------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Come in from the cursor; tried again until a server admits it."""
        server = self.world.server
        if self.socket is not None or server is None or not server.reception.ready or self._connecting is server:
            return
        self._connecting = server
        server.supervisor.start("admit", self._admit(server))

    async def _admit(self, server: Server) -> None:
        try:
            after = self.cursor if self.cursor or self._chance.random() < 0.5 else None
            query = [("session", self.session), ("log", LOG)]
            if after is not None:
                query.append(("after", str(after)))
            late = self._chance.random() < 0.2  # it sends its token in the first frame
            headers = (("host", "127.0.0.1"),) if late else (("authorization", f"Bearer {self.principal}"),)
            upgrade = Upgrade("/v1/agents/default/stream", tuple(query), headers, "127.0.0.1", False)
            make = await server.gateway.admit(upgrade)
            await asyncio.sleep(self._chance.choice((0.0, 0.0, 0.01)))
            if server.dead:
                return
            limits = self._chance.choice((6, 40, 2_000))
            world = self.world
            socket = SimSocket(
                world.loop, self._chance, self, self.session, after, world.ledger, world.breach, limits
            )  # fmt: skip
            self.socket = socket
            world.sockets.append(socket)
            socket.peer = make(socket)
            if late:
                self.send({"type": "connect", "token": self.principal})
        except AgentdError as error:
            if error.code not in ("overloaded", "draining", "storage_unavailable", "conflict", "forbidden"):
                self.world.breach("internal", f"{self.name} was not admitted: {error!r}")
        except TimeoutError:
            self.world.breach("answered-late", f"{self.name} was not admitted in time")
        finally:
            if self._connecting is server:
                self._connecting = None

    def lost(self, socket: SimSocket) -> None:
        """Cut off: what was not answered never will be."""
        if socket in self.world.sockets:
            self.world.sockets.remove(socket)
        if self.socket is socket:
            self.socket = None
            self.asked.clear()
            self.anonymous = 0

    # ---- asking -----------------------------------------------------------------------------------------------------

    def send(self, frame: dict[str, Any], *, refused: bool = False) -> str | None:
        """One request; its id, None when there is no connection."""
        if self.socket is None:
            return None
        self._number += 1
        name = f"{self.name}.{self._number}"
        key = frame.get("idempotency_key")
        body = json.dumps(
            [frame.get(field) for field in ("content", "goal", "leaf_id", "input_mode", "overflow", "session")]
        )
        self.asked[name] = Asked(
            self.world.loop.time(), refused, bool(frame.get("wait")), (key, body) if key is not None else None
        )  # fmt: skip
        self.world.note("sent", f"{name} {json.dumps(frame)}")
        self.socket.receive(json.dumps({**frame, "id": name}).encode())
        return name

    def send_raw(self, text: str) -> None:
        """Something that is no request: answered by an error that names none."""
        if self.socket is not None:
            self.anonymous += 1
            self.socket.receive(text.encode())

    # ---- hearing ----------------------------------------------------------------------------------------------------

    def hear(self, frame: Frame, raw: bytes) -> None:
        self.world.note("heard", self.name.encode() + raw)
        if frame.request is not None:
            self._answered(frame)
        elif frame.type == "error":
            self.anonymous -= 1
            if self.anonymous < 0 and frame.code not in ("draining", "unauthorized"):
                self.world.breach("answered-twice", f"{self.name} hears {raw[:200]!r} and asked nothing")
        if frame.type == "session.ack" and self.cursor == 0:
            self.cursor = self.socket.cursor or 0 if self.socket is not None else 0
        elif frame.type == "session.resumed":
            self.cursor = frame.from_ or 0
        elif frame.seq is not None and frame.type in FACTS and frame.type not in NO_FACTS and not frame.repeated:
            if frame.session == self.session:
                self._fact(frame.seq, raw)
            self._learn(frame)

    def _fact(self, seq: int, raw: bytes) -> None:
        self.cursor = seq
        bare = raw.split(b',"request":', 1)[0].rstrip(b"}")
        known = self._heard.setdefault(seq, bare)
        if known != bare and not self.world.ledger.book(self.session).forgot:
            self.world.breach("history-changed", f"{self.name}: seq {seq} was {known!r} and is {bare!r}")

    def _answered(self, frame: Frame) -> None:
        if frame.type == "trace.page":
            return
        asked = self.asked.pop(frame.request or "", None)
        if asked is None:
            self.world.breach("answered-twice", f"{self.name}: {frame.type} for {frame.request}")
            return
        what = frame.code or frame.type
        self.answers[what] = self.answers.get(what, 0) + 1
        if frame.code == "internal":
            self.world.breach("internal", f"{self.name}: {frame.request} is answered `internal`")
        if frame.code == "timeout" and not asked.waits:
            self.world.breach("answered-late", f"{self.name}: {frame.request}, asked at {asked.at_s:.3f}")
        if asked.refused and frame.code is None:
            self.world.breach("not-refused", f"{self.name}: {frame.request} is answered {frame.type}")
        if asked.key is not None and frame.run is not None:
            known = self._keys.setdefault(asked.key, frame.run)
            if known != frame.run:
                self.world.breach("key-twice", f"{self.name}: {asked.key} is {frame.run} and {known}")

    def _learn(self, frame: Frame) -> None:
        if frame.type == "run.accepted" and frame.run is not None:
            self.runs = [*self.runs, frame.run][-KNOWN_MAX:]
        if frame.type == "agent.plan":
            self.tasks = [task["id"] for task in frame.tasks or ()] or self.tasks
            self.gates = [gate["id"] for gate in frame.gates or ()]
        if frame.type == "agent.status" and frame.task is not None:
            others = [task for task in self.running if task != frame.task]
            self.running = [*others, frame.task] if frame.status == "running" else others
        if frame.entry is not None:
            self.entries = [*self.entries, frame.entry][-KNOWN_MAX:]


# ---- what may be asked ----------------------------------------------------------------------------------------------


def _pick(found: list[str], number: int, otherwise: str) -> str:
    return found[number % len(found)] if found else otherwise


def _start(client: SimClient, one: int, other: int, **more: Any) -> dict[str, Any]:
    frame: dict[str, Any] = {"type": "chat.send", "content": f"say {one} of {other}", **more}
    if other % 5 == 0:
        frame["wait"] = True
    if other % 7 == 0:
        frame |= {"content": f"keyed {one % 3}", "idempotency_key": f"{client.session}.k{one % 4}"}
    if other % 11 == 0 and client.entries:
        frame["leaf_id"] = _pick(client.entries, one, "")
    return frame


def _control(action: str, **fields: Any) -> dict[str, Any]:
    return {"type": "agent.control", "action": action, **{name: value for name, value in fields.items() if value}}


Ask = Callable[[SimClient, int, int], dict[str, Any]]
ASKS: dict[str, tuple[int, Ask]] = {
    "chat": (10, _start),
    "goal": (24, lambda c, one, other: _start(c, one, other, content=f"/goal reach {one}; then {other}")),
    "goal drop": (3, lambda c, one, other: _control("goal", goal=f"drop {one}; then {other}", overflow="drop")),
    "interrupt": (2, lambda c, one, other: _start(c, one, other, input_mode="interrupt")),
    "reject": (2, lambda c, one, other: _start(c, one, other, input_mode="reject")),
    "steer": (4, lambda c, one, other: _control("steer", text=f"rather {one}")),
    "follow up": (3, lambda c, one, other: _control("follow_up", text=f"and {one}")),
    "pause": (2, lambda c, one, other: _control("pause")),
    "resume": (4, lambda c, one, other: _control("resume")),
    "cancel": (2, lambda c, one, other: _control("cancel")),
    "cancel run": (2, lambda c, one, other: _control("cancel", run=_pick(c.runs, one, "run_x"))),
    "cancel task": (3, lambda c, one, other: _control("cancel", task=_pick(c.tasks, one, "t"))),
    "retry": (1, lambda c, one, other: _control("retry", task=_pick(c.tasks, one, "t"))),
    "approve": (3, lambda c, one, other: _control("approve" if other % 4 else "block", gate=_pick(c.gates, one, "g"))),
    "review": (2, lambda c, one, other: _control("approve" if other % 3 else "block", task=_pick(c.tasks, one, "t"))),
    "answer": (3, lambda c, one, other: {**_control("answer", task=_pick(c.tasks, one, "t")), "value": "yes"}),
    "clear": (1, lambda c, one, other: _control("clear_saturation")),
    "new": (1, lambda c, one, other: {"type": "session.new"}),
    "state": (3, lambda c, one, other: _control("state")),
    "heartbeat": (1, lambda c, one, other: {"type": "agent.heartbeat"}),
    "history": (1, lambda c, one, other: {"type": "session.history", "limit": 1 + one % 9}),
    "tree": (1, lambda c, one, other: {"type": "session.tree"}),
    "context": (1, lambda c, one, other: {"type": "session.context"}),
    "recall": (1, lambda c, one, other: {"type": "memory.recall", "include_archived": bool(other % 2)}),
    "query": (1, lambda c, one, other: {"type": "memory.query", "topic": f"w{one % 5}"}),
    "load": (1, lambda c, one, other: {"type": "memory.load", "memory_id": _pick(c.entries, one, "e")}),
    "evict": (1, lambda c, one, other: {"type": "memory.evict", "memory_id": _pick(c.entries, one, "e")}),
    "pin": (1, lambda c, one, other: {"type": "memory.update", "memory_id": _pick(c.entries, one, "e"),
                                      "pinned": bool(other % 2)}),
    "rewrite": (1, lambda c, one, other: {"type": "memory.update", "memory_id": _pick(c.entries, one, "e"),
                                          "content": f"other words {other}"}),
    "summarize": (1, lambda c, one, other: {"type": "memory.summarize", "memory_id": _pick(c.entries, one, "e")}),
    "forget": (1, lambda c, one, other: {"type": "memory.forget", "memory_ids": [_pick(c.entries, one, "e")]}),
    "leaf": (1, lambda c, one, other: {"type": "session.set_leaf", "leaf_id": _pick(c.entries, one, "e")}),
    "branch": (1, lambda c, one, other: {"type": "session.branch", "leaf_id": _pick(c.entries, one, "e"),
                                         "new_session": f"{c.session}.b{other % 3}"}),
    "events": (1, lambda c, one, other: {"type": "events.read", "after": one % 20}),
    "trace": (1, lambda c, one, other: {"type": "trace.get", "run": _pick(c.runs, one, "run_x")}),
    "resume cursor": (2, lambda c, one, other: {"type": "session.resume", "after": c.cursor * (one % 4) // 3}),
    "ping": (1, lambda c, one, other: {"type": "ping"}),
}  # fmt: skip
ALL: dict[str, tuple[int, Ask]] = {
    "pause all": (2, lambda c, one, other: _control("pause", session="*")),
    "resume all": (4, lambda c, one, other: _control("resume", session="*")),
    "cancel all": (1, lambda c, one, other: _control("cancel", session="*")),
    "state all": (1, lambda c, one, other: _control("state", session="*")),
    "elsewhere": (3, lambda c, one, other: {**_start(c, one, other), "session": f"s{one % 3}"}),
    "cancel elsewhere": (1, lambda c, one, other: _control("cancel", session=f"s{one % 3}")),
    "list": (1, lambda c, one, other: {"type": "session.list"}),
}  # fmt: skip
NONSENSE: tuple[dict[str, Any], ...] = (
    {"type": "agent.control", "action": "fly"},
    {"type": "agent.control", "action": "cancel", "run": "run_of_nobody"},
    {"type": "agent.control", "action": "approve"},
    {"type": "agent.control", "action": "approve", "gate": "no such gate"},
    {"type": "agent.control", "action": "retry", "task": "no such task"},
    {"type": "agent.control", "action": "answer", "task": "no such task", "value": 1},
    {"type": "agent.control", "action": "steer", "text": "x", "run": "run_of_nobody"},
    {"type": "agent.control", "action": "pause", "session": "_server"},
    {"type": "agent.control", "action": "retry"},
    {"type": "chat.send", "content": ""},
    {"type": "chat.send", "content": 7},
    {"type": "chat.send", "content": "x", "leaf_id": "no such entry"},
    {"type": "chat.send", "content": "/goal  "},
    {"type": "task.finished", "run": "run_x", "outcome": "done"},
    {"type": "memory.load", "memory_id": "no such entry"},
    {"type": "session.set_leaf", "leaf_id": "no such entry"},
    {"type": "session.branch", "leaf_id": "no such entry", "new_session": "b"},
    {"type": "session.resume", "after": -1},
)
NO_FRAMES = ("", "{", "[]", "7", '{"type": 7}', "[" * 900, '{"type": "ping", "id": ' + '"' + "x" * 200 + '"}')
