"""A story: what clients, operators and misfortune do, drawn from a seed; then calm, in which everything has to end.

Each act carries its own numbers, so that the beginning of a longer story is the shorter one: that is how a failing
seed is made shorter (`shortest`).
"""

import asyncio
import os
import random
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import structlog

from agentd.actors import seat as seats
from agentd.actors import session as sessions
from agentd.core.state import Session
from agentd.tools.builtin import BUILTIN
from tests.simulation.clients import ALL, ASKS, NO_FRAMES, NONSENSE, SimClient
from tests.simulation.invariants import differing
from tests.simulation.loop import Spinning
from tests.simulation.provider import SimTool
from tests.simulation.world import World

ACTS = int(os.environ.get("AGENTD_ACTS", "150"))
CALM_S = 1_500.0
LOOK_S = 1.0
TOLD_S = 30  # a stalled reader has to come to its answers first
ROUNDS_MAX = 40
PEOPLE = (("ann", "local", "s0"), ("bob", "guest", "s1"), ("eve", "local", "s0"), ("op", "local", "s2"))
MISFORTUNES = {
    "cut": 6, "stall": 3, "kill": 2, "kill mid commit": 2, "drain": 1, "full disk": 3, "slow disk": 2, "unread": 2,
    "model fails": 4, "model hangs": 2, "healed": 4, "jump": 1, "slow reader": 2, "rest": 1,
}  # fmt: skip


BURSTS = {"flicker": 2, "again": 4}


class Act(NamedTuple):
    """Act `what` of person `who` after a wait; `one` and `other` are for it to choose by."""

    wait_s: float
    who: int
    what: str
    one: int
    other: int


class Broken(AssertionError):
    """A law was broken: the seed, the number of acts, and which law."""

    def __init__(self, seed: int, acts: int, name: str, what: str) -> None:
        self.seed, self.acts, self.name, self.what = seed, acts, name, what
        again = f"AGENTD_SEED={seed} AGENTD_ACTS={acts} python -m pytest tests/simulation -k one_seed"
        super().__init__(f"{name}: {what}\n  again: {again}")


def acts_of(seed: int, count: int) -> list[Act]:
    """The first `count` acts of a seed."""
    chance = random.Random(f"{seed}/acts")
    words = {**{name: weight for name, (weight, _) in ASKS.items()}, **BURSTS, "nonsense": 5, "no frame": 1}
    for_all = {name: weight for name, (weight, _) in ALL.items()}
    hurry = chance.choice((0.05, 0.4, 1.5))
    misfortune = chance.choice((0.0, 0.1, 0.25))
    acts = []
    for _ in range(count):
        luck, who = chance.random(), chance.randrange(len(PEOPLE))
        kinds = MISFORTUNES if luck < misfortune else for_all if luck > 0.92 else words
        what = chance.choices(list(kinds), list(kinds.values()))[0]
        wait_s = 0.0 if chance.random() < 0.3 else hurry * chance.random() * 2
        acts.append(Act(wait_s, who, what, chance.randrange(1_000), chance.randrange(1_000)))
    return acts


def run(seed: int, count: int | None = None) -> World:
    """Play a seed to its end. Raises Broken for the first law that is."""
    count = ACTS if count is None else count
    with simulated(seed):
        world = World(seed)
        story = _Story(world, acts_of(seed, count))
        try:
            world.loop.run_until_complete(story.play())
        except Spinning as error:
            world.breaches.append(("spins", str(error)))
        except RuntimeError as error:
            if not world.breaches:
                world.breaches.append(("liveness", str(error)))
        finally:
            world.bury()
        if world.breaches:
            raise Broken(seed, count, *world.breaches[0])
    return world


def shortest(broken: Broken) -> Broken:
    """The same seed with as few acts as break a law."""
    low, high = 0, broken.acts
    while low < high:
        middle = (low + high) // 2
        try:
            run(broken.seed, middle)
            low = middle + 1
        except Broken as found:
            if found.name == broken.name:
                high, broken = middle, found
            else:
                low = middle + 1
    return broken


@contextmanager
def simulated(seed: int) -> Iterator[None]:
    """Tools of the simulation, snapshots often; what is logged is heard and not shown."""
    chance = random.Random(f"{seed}/tools")
    tools = {"press": SimTool("press", "once", chance), "stroll": SimTool("stroll", "idempotent", chance)}
    with (
        mock.patch.dict(BUILTIN, tools),
        mock.patch.object(sessions, "SNAPSHOT_FACTS", 25),
        mock.patch.object(seats, "SNAPSHOT_FACTS", 6),
    ):
        before = structlog.get_config()["processors"]
        structlog.configure(processors=[_hear])
        try:
            yield
        finally:
            structlog.configure(processors=before)
            World.listening = None


def _hear(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if World.listening is not None:
        World.listening.heard_log(method, event)
    raise structlog.DropEvent


class _Story:
    def __init__(self, world: World, acts: list[Act]) -> None:
        self.world = world
        self.acts = acts
        self.chance = random.Random(f"{world.seed}/story")
        self.people = [SimClient(world, *person) for person in PEOPLE]

    async def play(self) -> None:
        world = self.world
        await world.boot()
        for act in self.acts:
            await asyncio.sleep(act.wait_s)
            for person in self.people:
                if person.socket is None:
                    person.connect()
            await self._do(act)
        await self._calm()

    # ---- acts -------------------------------------------------------------------------------------------------------

    async def _do(self, act: Act) -> None:
        world, person = self.world, self.people[act.who]
        world.note("act", repr(act))
        if act.what in MISFORTUNES:
            await self._misfortune(act, person)
        elif act.what == "nonsense":
            person.send(NONSENSE[act.one % len(NONSENSE)], refused=True)
        elif act.what == "no frame":
            person.send_raw(NO_FRAMES[act.one % len(NO_FRAMES)])
        elif act.what in BURSTS:
            await self._burst(act, person)
        elif act.what in ALL:
            self.people[-1].send(ALL[act.what][1](self.people[-1], act.one, act.other))
        else:
            frame = ASKS[act.what][1](person, act.one, act.other)
            decides = frame.get("action") in ("approve", "block")
            person.send(frame, refused=decides and person.principal == "guest")

    async def _burst(self, act: Act, person: SimClient) -> None:
        """Frames that belong together, one right after the other."""
        operator = self.people[-1]
        match act.what:
            case "flicker":
                operator.send({"type": "agent.control", "action": "pause", "session": "*"})
                await asyncio.sleep(act.other / 10_000)
                person.send({"type": "chat.send", "content": f"in between {act.one}"})
                operator.send({"type": "agent.control", "action": "resume", "session": "*"})
            case "again":
                if not person.running:
                    person.send({"type": "agent.control", "goal": f"again {act.one}"})
                for _ in range(40):  # until one of its tasks runs
                    if person.running:
                        break
                    await asyncio.sleep(0.05)
                task = person.running[act.one % len(person.running)] if person.running else "none"
                for action in ("cancel", "retry"):
                    person.send({"type": "agent.control", "action": action, "task": task})
                    await asyncio.sleep(act.other / 10_000)

    async def _misfortune(self, act: Act, person: SimClient) -> None:
        world, faults = self.world, self.world.faults
        strength = act.one / 1_000
        match act.what:
            case "cut":
                if person.socket is not None:
                    person.socket.disconnect()
            case "stall":
                person.stalled_until = world.loop.time() + 20 * strength
            case "slow reader":
                person.pace_s = strength if act.other % 2 else 0.0
            case "kill" | "kill mid commit":
                commits = world.commits
                for _ in range(0 if act.what == "kill" else 50):
                    if world.commits > commits:
                        break
                    await asyncio.sleep(0.01 * strength)
                world.kill()
                await world.boot()
            case "drain":
                await world.stop_in_order()
                await world.boot() if world.server is None else None
            case "full disk":
                faults.commit_fails = strength
            case "slow disk":
                faults.commit_s, faults.read_s = 0.2 * strength, 0.1 * strength
            case "unread":
                faults.read_fails = 0.3 * strength
            case "model fails":
                faults.model_fails = 0.5 * strength
            case "model hangs":
                faults.model_hangs = 0.2 * strength
            case "healed":
                faults.heal()
            case "jump":
                world.jump((act.other - 500) * 100)
            case "rest":
                await asyncio.sleep(10 * strength)

    # ---- calm -------------------------------------------------------------------------------------------------------

    async def _calm(self) -> None:
        """Nothing fails any more. First by itself, then with people's help, everything comes to its end."""
        world = self.world
        world.note("calm", "")
        world.faults.heal()
        for person in self.people:
            person.pace_s = person.stalled_until = 0.0
        await self._settled()
        for _ in range(ROUNDS_MAX):
            if not self._unfinished():
                break
            await self._help()
            await self._settled()
        else:
            world.breach("liveness", f"people can't bring these to an end: {self._unfinished()}")
        for _ in range(TOLD_S):
            await asyncio.sleep(1.0)
            if not any(person.asked for person in self.people):
                break
        self._all_told()
        self._all_quiet()
        world.kill()
        await world.boot()
        await self._rebuilt()

    async def _settled(self) -> None:
        """Until nothing moves but for people. Raises the breach `liveness` when that does not come."""
        world, until = self.world, self.world.loop.time() + CALM_S
        while world.loop.time() < until:
            for person in self.people:
                person.connect()
            await asyncio.sleep(LOOK_S)
            if not self._moving():
                return
        left = self._moving()
        name = next(name for name in ("liveness", "fact-missing", "unanswered") if name in left)
        world.breach(name, f"{CALM_S:.0f} s after all was healed: {left}")

    def _moving(self) -> dict[str, list[str]]:
        """What has still to happen by itself, by the law that says so."""
        world, server = self.world, self.world.server
        if server is None or not server.reception.ready:
            return {"liveness": ["no server"]}
        works, behind, asking = list[str](), list[str](), list[str]()
        for key, book in world.ledger.books.items():
            works.extend(f"{key}: {what}" for what in _works(book.state, world.ledger.server_mode))
        for seat in server.directory:
            if seat._arriving is not None or (seat.actor is not None and (seat.actor._at_work or seat.actor._attempts)):
                works.append(f"{seat.key} is at work")
        works.extend(f"{key} is compacted" for key in (*server.memory._working, *server.memory._waiting))
        for person in self.people:
            if person.socket is None or person.cursor != len(world.ledger.book(person.session).bodies):
                behind.append(f"{person.name} is at {person.cursor}")
            asking.extend(name for name, one in person.asked.items() if not one.waits)
        found = {"liveness": works, "fact-missing": behind, "unanswered": asking}
        return {name: what for name, what in found.items() if what}

    def _unfinished(self) -> list[str]:
        return [run for book in self.world.ledger.books.values() for run in book.state.runs]

    async def _help(self) -> None:
        """An operator lets everything go on and decides what waits."""
        operator, ledger = self.people[-1], self.world.ledger
        if ledger.server_mode == "paused":
            operator.send({"type": "agent.control", "action": "resume", "session": "*"})
            await asyncio.sleep(0.5)
        for key, book in list(ledger.books.items()):
            if book.state.mode == "paused":
                operator.send({"type": "agent.control", "action": "resume", "session": key})
            run = book.state.run
            if run is None:
                continue
            for name, gate in run.gates.items():
                if gate.status != "approved" and not gate.void and not gate.open_deps:
                    operator.send({"type": "agent.control", "action": "approve", "gate": name, "session": key})
                    await asyncio.sleep(0.05)
            for name, task in run.tasks.items():
                if task.status == "needs_review":
                    asks = task.spec.kind == "question"
                    frame = {"action": "answer", "value": "yes"} if asks else {"action": "approve"}
                    operator.send({"type": "agent.control", "task": name, "session": key, **frame})
                    await asyncio.sleep(0.05)

    # ---- the end ----------------------------------------------------------------------------------------------------

    def _all_told(self) -> None:
        for person in self.people:
            if person.asked or person.anonymous > 0:
                self.world.breach("unanswered", f"{person.name}: {list(person.asked)} {person.anonymous}")

    def _all_quiet(self) -> None:
        """Every counter is back at nothing."""
        server = self.world.server
        assert server is not None
        load, dispatcher = server.shared.load, server.shared.dispatcher
        found = {
            "reserved": load.reserved, "unfinished": load.unfinished, "queued": dispatcher.queued,
            "calls": server.provider.calls, "waiters": dispatcher.workers.waiting + dispatcher.models.waiting,
            "room": len(dispatcher._no_room),
            "workers": dispatcher.workers.in_use, "models": dispatcher.models.in_use,
        }  # fmt: skip
        for seat in server.directory:
            actor = seat.actor
            if actor is not None:
                left = (len(actor._mailbox), len(actor._attempts), len(actor._attempts._told))
                found[f"{seat.key} mailbox, attempts, told"] = sum(left)
                found[f"{seat.key} cancels, waits"] = len(actor._stopping) + len(actor._waiting)
        if any(found.values()):
            self.world.breach("not-quiet", f"{found}")

    async def _rebuilt(self) -> None:
        """A restarted server has the same sessions."""
        world, server = self.world, self.world.server
        assert server is not None
        for key, book in world.ledger.books.items():
            if key.startswith("_") or not book.bodies:
                continue
            seat = await server.directory.find(key)
            actor = await seat.awake() if seat is not None else None
            if actor is None or actor.state != book.state:
                what = differing(actor.state, book.state) if actor is not None else "it is not there"
                world.breach("state-differs", f"{key} is not rebuilt as it was: {what}")


def _works(state: Session, server_mode: str) -> list[str]:
    """Runs that have to go on by themselves."""
    if server_mode == "paused" or state.mode == "paused":
        current = state.run
        return [f"{current.id} runs"] if current is not None and current.attempts else []
    if state.run is None:
        return [f"{name} is queued" for name in state.queue]
    return [] if state.run.state == "waiting" and not state.run.attempts else [f"{state.run.id} is {state.run.state}"]
