"""What always holds, recomputed from what was committed and from nothing else; a breach has a name.

`Ledger` hears of each append when it is handed to the store, when it is on the disk, and when its actor was told. It
folds the facts by itself and keeps a checker for each run. It survives every crash: what a restarted server does is
measured by the same ledger. `audit` counts again what the actors of one server count.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from agentd.actors.session import SessionActor
from agentd.core.evolve import evolve
from agentd.core.intents import Caps, StartRun
from agentd.core.memory import protected
from agentd.core.replay import Difference, Replay
from agentd.core.server import KEY as SERVER
from agentd.core.state import Session
from agentd.core.trace import Checker
from agentd.protocol import facts as f
from agentd.protocol.codec import decode_fact
from agentd.store.store import Append, SessionRow, SnapshotRow
from tests.core.shell import recount
from tests.simulation.provider import label
from tests.store.memory_store import Disk

LAWS = {
    "seq-gap": "the facts of a session are numbered 1, 2, 3… without a gap or a double, also across crashes",
    "acknowledged-lost": "what an actor was told is stored is on the disk, also after a crash",
    "history-changed": "what was committed stays as it was",
    "state-differs": "the published state is the facts folded; a rebuilt one too",
    "snapshot-lags": "a snapshot is the state at its number",
    "row-lags": "the row of a session says what its state says",
    "trace": "every run is well formed",
    "replay": "the rules come to the same facts again, from what these say alone",
    "begun-while-paused": "nothing begins while its session or the server is paused",
    "late-result": "a result is taken from the attempt that runs and from no other",
    "key-twice": "one idempotency key starts one run",
    "figures": "the figures that are kept are those that one would count, and stay within their limits",
    "memory-budget": "working memory is within its budget, but for what is protected or pinned",
    "fan-out-before-commit": "no fact reaches anybody before it is on the disk",
    "fact-doubled": "no fact comes to a follower twice",
    "fact-missing": "no fact is left out for a follower",
    "fact-differs": "a follower gets the bytes that are stored",
    "delta-gap": "deltas of a message follow each other",
    "answered-twice": "no request is answered twice, none that was not asked",
    "unanswered": "every request of a socket that stays is answered",
    "answered-late": "no answer is `timeout`, but to who waits for a run that waits",
    "not-refused": "what makes no sense is refused",
    "internal": "no rule fails, nobody logs an error",
    "permits": "each permit is in one place, and who works holds one",
    "dispatch-cap": "never more attempts or model calls than permits",
    "counters": "the counters of the server are those that one would count",
    "not-begun": "no attempt is alive whose beginning is not stored",
    "spins": "time goes on",
    "liveness": "without faults every run ends, or waits for somebody",
    "not-quiet": "when all is quiet every counter is back at nothing",
}
_state = msgspec.json.Decoder(Session)
Breach = Callable[[str, str], None]


class Book:
    """What was committed of one session."""

    def __init__(self, key: str, caps: Caps) -> None:
        self.bodies: list[bytes] = []
        self.replay = Replay(key, caps)
        self.state = Session(key=key, agent="", owner="")
        self.states: dict[int, Session] = {}
        self.acknowledged = 0
        self.forgot = False


class Ledger:
    """All sessions. `caps` of the servers, which are the same for all of one world."""

    def __init__(self, caps: Caps, breach: Breach) -> None:
        self.books: dict[str, Book] = {}
        self.server_mode: f.Mode = "running"
        self.begun: set[tuple[str, str, int]] = set()
        self.ended: set[str] = set()
        self._caps = caps
        self._breach = breach
        self._checkers: dict[str, Checker] = {}
        self._keys: set[tuple[str, str]] = set()
        self._running: dict[tuple[str, str], int] = {}
        self._messages: set[str] = set()

    def book(self, key: str) -> Book:
        if key not in self.books:
            self.books[key] = Book(key, self._caps)
        return self.books[key]

    # ---- an append on its way ---------------------------------------------------------------------------------------

    def submitted(self, append: Append) -> None:
        """Decided: while the server is paused it begins nothing (rulings 49)."""
        if self.server_mode == "paused" and append.session != SERVER:
            for record in append.records:
                if record.type in ("agent.status", "agent.progress") and _begins(decode_fact(record.body)):
                    self._breach("begun-while-paused", f"{append.session} seq {record.seq}, the server is paused")

    def committed(self, append: Append) -> None:
        """On the disk."""
        book = self.book(append.session)
        for record in append.records:
            if record.seq != len(book.bodies) + 1:
                self._breach("seq-gap", f"{append.session}: {record.seq} after {len(book.bodies)}")
            book.bodies.append(record.body)
            fact = decode_fact(record.body)
            if append.session == SERVER:
                self._of_server(fact)
            else:
                self._fact(book, fact)
                self._replayed(append.session, book.replay.feed(record.step, fact))
        if append.session != SERVER and append.records:
            self._step(book, append)

    def _replayed(self, key: str, wrong: Difference | None) -> None:
        if wrong is not None:
            self._breach("replay", f"{key} seq {wrong.seq}: {wrong.why} {wrong.fields}")

    def acknowledged(self, append: Append) -> None:
        if append.records:
            book = self.book(append.session)
            book.acknowledged = max(book.acknowledged, append.records[-1].seq)
            if book.acknowledged > len(book.bodies):
                self._breach("acknowledged-lost", f"{append.session}: {book.acknowledged} is not on the disk")

    def restarted(self, disk: Disk) -> None:
        """A new process begins with this disk: it is what was committed, and holds all that was acknowledged."""
        for key, book in self.books.items():
            kept = [record.body for record in disk.facts.get(key, [])]
            if len(kept) < book.acknowledged:
                self._breach("acknowledged-lost", f"{key}: {book.acknowledged} were told, {len(kept)} are there")
            elif kept != book.bodies and not book.forgot:
                self._breach("history-changed", f"{key}: {len(kept)} facts, {len(book.bodies)} were committed")

    def snapshot(self, row: SnapshotRow) -> None:
        found = self.book(row.session).states.get(row.seq)
        if found is None or _state.decode(row.body) != found:
            self._breach("snapshot-lags", f"{row.session}: the snapshot of {row.seq} is another state")

    # ---- facts ------------------------------------------------------------------------------------------------------

    def _of_server(self, fact: f.AnyFact) -> None:
        if isinstance(fact, f.ServerMode):
            self.server_mode = fact.mode

    def _fact(self, book: Book, fact: f.AnyFact) -> None:
        if isinstance(fact, f.SessionCreated):
            book.state = msgspec.structs.replace(book.state, agent=fact.agent, owner=fact.owner)
        try:
            book.state = evolve(book.state, fact)
        except Exception as error:
            self._breach("trace", f"{fact.session} seq {fact.seq} can't follow: {error!r}")
        if isinstance(fact, f.MemoryEvent) and fact.event == "forget":
            book.forgot = True
        if _begins(fact) and book.state.mode == "paused":
            self._breach("begun-while-paused", f"{fact.session} seq {fact.seq}")
        if fact.run is not None and (fact.run in self._checkers or isinstance(fact, f.RunAccepted)):
            self._of_run(fact, fact.run)

    def _of_run(self, fact: f.AnyFact, run: str) -> None:
        checker = self._checkers.setdefault(run, Checker())
        for found in checker.feed(fact):
            self._breach("trace", f"{run}: {found}")
        match fact:
            case f.RunAccepted(key=str() as key):
                if (fact.session, key) in self._keys:
                    self._breach("key-twice", f"{fact.session} {key}: {run}")
                self._keys.add((fact.session, key))
            case f.AgentProgress(phase="planner", status="received"):
                self._begin(run, "planning", fact.attempt or 1)
            case f.AgentProgress(phase="execution", status="started"):
                self._begin(run, "answer", fact.attempt or 1)
            case f.AgentStatus(attempt=int() as attempt):
                self._attempt(fact, run, attempt)
            case f.SessionReceive():
                self._said(fact, run)
            case f.RunCompleted() | f.RunFailed() | f.RunCancelled():
                self.ended.add(run)
                open_ones = [task for name, task in self._running if name == run]
                if open_ones:
                    self._breach("trace", f"{run} ended before its attempts of {open_ones}")
            case _:
                pass

    def _begin(self, run: str, task: str, attempt: int) -> None:
        self.begun.add((run, task, attempt))

    def _attempt(self, fact: f.AgentStatus, run: str, attempt: int) -> None:
        if fact.status == "running":
            self._begin(run, fact.task, attempt)
            self._running[run, fact.task] = attempt
        elif fact.task not in ("planning", "answer") and self._running.pop((run, fact.task), None) != attempt:
            self._breach("late-result", f"{run}: {fact.task} attempt {attempt} is {fact.status}, and did not run")
        own = label(run, fact.task, attempt)
        if isinstance(fact.result, str) and fact.result.startswith("<") and not fact.result.startswith(own):
            self._breach("late-result", f"{own} has the result {fact.result[:60]}")

    def _said(self, fact: f.SessionReceive, run: str) -> None:
        if fact.message is not None and fact.message in self._messages:
            self._breach("late-result", f"{fact.message} was said twice")
        self._messages.add(fact.message or "")
        own = label(run, "answer", int((fact.message or "m0.0").rsplit(".", 2)[1][1:]))
        if fact.content.startswith("<") and not (fact.content.startswith(own) or own.startswith(fact.content)):
            self._breach("late-result", f"{own} said {fact.content[:60]}")

    # ---- steps ------------------------------------------------------------------------------------------------------

    def _step(self, book: Book, append: Append) -> None:
        state = book.states[book.state.seq] = book.state
        for row in append.rows:
            if isinstance(row, SnapshotRow):
                self.snapshot(row)
            elif isinstance(row, SessionRow) and (row.unfinished, row.mode, row.leaf, row.epoch) != (
                len(state.runs), state.mode, state.leaf, state.epoch,
            ):  # fmt: skip
                self._breach("row-lags", f"{row} beside {len(state.runs)} runs, {state.mode}")
        try:
            self._figures(state)
        except AssertionError as error:
            self._breach("figures", f"{state.key} seq {state.seq}: {str(error)[:300]}")
        self._memory(state)

    def _figures(self, state: Session) -> None:
        caps = self._caps
        for run in state.runs.values():
            recount(run)
            assert run.active <= caps.workers, f"{run.active} active"
            assert len(run.queued) <= caps.queued_per_session, f"{len(run.queued)} queued"
            assert len(run.queued) + run.active <= caps.dispatch, f"{len(run.queued)} queued, {run.active} active"
            assert len(run.workers) == run.active, "a worker each"
        assert len(state.queue) <= caps.runs_per_session + 1, f"{len(state.queue)} runs queued"

    def _memory(self, state: Session) -> None:
        caps, size = self._caps, sum(item.bytes for item in state.window)
        if size != state.window_bytes:
            self._breach("memory-budget", f"{state.key}: {size} bytes are held, {state.window_bytes} are told")
        if len(state.window) > caps.ram_entries or size > caps.ram_bytes:
            kept = protected(state)
            loose = [item.id for item in state.window if not item.pinned and item.id not in kept]
            if loose:
                self._breach("memory-budget", f"{state.key} seq {state.seq}: {len(state.window)} entries, {size} bytes")


def differing(one: Session, other: Session) -> str:
    """The fields in which two states differ."""
    fields = [name for name in one.__struct_fields__ if getattr(one, name) != getattr(other, name)]
    return "; ".join(f"{name}: {getattr(one, name)!r} and {getattr(other, name)!r}" for name in fields)[:600]


def _begins(fact: f.AnyFact) -> bool:
    if isinstance(fact, f.AgentStatus):
        return fact.status == "running" and fact.attempt is not None
    return isinstance(fact, f.AgentProgress) and (fact.phase, fact.status) in (
        ("planner", "received"), ("execution", "started"),
    )  # fmt: skip


# ---- the actors of one server ---------------------------------------------------------------------------------------


def audit(server: Any, ledger: Ledger) -> Iterator[tuple[str, str]]:
    """Breaches of a server as it stands between two turns; `server` is a `world.Server`."""
    actors: list[SessionActor] = [seat.actor for seat in server.directory if seat.actor is not None]
    yield from _permits(server, actors)
    yield from _counters(server, actors)
    for actor in actors:
        yield from _published(actor, ledger)


def _permits(server: Any, actors: list[SessionActor]) -> Iterator[tuple[str, str]]:
    dispatcher, summaries = server.shared.dispatcher, server.provider.summaries
    for permits, held in (
        (dispatcher.workers, [number for actor in actors for number in actor._held._workers]),
        (dispatcher.models, [number for actor in actors for number in actor._held._models]),
    ):
        kept = [number for numbers in permits._kept.values() for number in numbers]
        places = [*permits.free, *kept, *held]
        if len(set(places)) != len(places):
            yield "permits", f"a number stands twice: free {list(permits.free)}, kept {kept}, held {held}"
        missing = permits.capacity - len(places)
        draining = server.reception.draining_ms is not None  # what was begun as it came is not started any more
        if not draining and not 0 <= missing <= (len(server.memory._working) if permits is dispatcher.models else 0):
            which = "models" if permits is dispatcher.models else "workers"
            yield "permits", f"{missing} of {permits.capacity} {which} are nowhere, {summaries} for summaries"
    for actor in actors:
        alive, holds = actor._attempts, actor._held
        models = sum(one.model for one in alive._alive.values())
        if not alive.workers <= holds._workers or models > len(holds._models):
            yield "permits", f"{actor.state.key}: {sorted(alive.workers)} and {models} work without a permit"
    if server.provider.calls > dispatcher.models.capacity:
        yield "dispatch-cap", f"{server.provider.calls} calls of {dispatcher.models.capacity}"
    if sum(len(actor._attempts.workers) for actor in actors) > dispatcher.workers.capacity:
        yield "dispatch-cap", f"more attempts than {dispatcher.workers.capacity} workers"


def _counters(server: Any, actors: list[SessionActor]) -> Iterator[tuple[str, str]]:
    dispatcher, load = server.shared.dispatcher, server.shared.load
    queued = sum(actor._held._queued for actor in actors)
    if dispatcher.queued != queued:
        yield "counters", f"{dispatcher.queued} are queued, the sessions have {queued}"
    resting = sum(seat._brief.counted for seat in server.directory if seat._brief is not None)
    unfinished = sum(actor._counted for actor in actors) + resting
    if load.unfinished != unfinished:
        yield "counters", f"{load.unfinished} runs are unfinished, the sessions have {unfinished}"
    for actor in actors:
        counted = sum(run.state != "waiting" for run in actor.state.runs.values())
        if actor._counted != counted:
            yield "counters", f"{actor.state.key}: {actor._counted} runs are counted, there are {counted}"
    waiting = (envelope for actor in actors for envelope in actor._mailbox._waiting)
    arriving = (envelope for seat in server.directory for envelope in seat._arriving or ())
    asked = sum(isinstance(envelope.intent, StartRun) for envelope in itertools.chain(waiting, arriving))
    at_work = any(actor._at_work for actor in actors)
    if load.reserved < asked or (load.reserved > asked and not at_work):
        yield "counters", f"{load.reserved} runs are reserved, {asked} are asked for"


def _published(actor: SessionActor, ledger: Ledger) -> Iterator[tuple[str, str]]:
    state, book = actor.state, ledger.book(actor.state.key)
    if actor.feed.seq != state.seq:
        yield "state-differs", f"{state.key}: the feed is at {actor.feed.seq}, the state at {state.seq}"
    if state.seq > len(book.bodies):
        yield "fan-out-before-commit", f"{state.key}: {state.seq} is published, {len(book.bodies)} are on the disk"
    elif state.seq and state is not book.states.get(state.seq):
        if book.states.get(state.seq) != state:
            what = differing(state, book.states.get(state.seq, book.state))
            yield "state-differs", f"{state.key}: what is published at {state.seq} is not what the facts give: {what}"
        else:
            book.states[state.seq] = state  # equal: from here on it is one object, and looked at no more
    for work in actor._attempts._alive:
        if (work.run, work.task, work.attempt) not in ledger.begun:
            yield "not-begun", f"{work}"
