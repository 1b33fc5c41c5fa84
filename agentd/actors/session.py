"""The one appender of its session: takes its mailbox as a step, decides, stores, publishes, acts (design 1.2 to 1.5).

A step: read ahead what the rules may need; decide each command on the state the one before left, with the permits
taken in the same loop turn; one append; then publish the state, answer, hand bytes to the followers, and bring what is
alive in line with what is due. Nothing leaves before the append has been acknowledged. When it fails, clients hear
`storage_unavailable`, everything else is tried again after a wait, and the state is the last published one.

The actor's task exists only while its mailbox holds something.
"""

import asyncio
from collections import ChainMap
from collections.abc import Sequence
from typing import Any

import structlog
from msgspec.structs import replace

from agentd.actors import counting
from agentd.actors.ahead import Ahead, Path, Paths, know, read_ahead, run_paths
from agentd.actors.alarm import Alarm
from agentd.actors.attempts import SELF, Attempts, Outcome, given_up
from agentd.actors.caller import Caller
from agentd.actors.context import Words
from agentd.actors.feed import Feed
from agentd.actors.mailbox import Envelope, Lane, Mailbox
from agentd.actors.permits import Held
from agentd.actors.retries import Retries
from agentd.actors.shared import Shared
from agentd.actors.shown import answer_with, state_shown
from agentd.actors.steady import Steady
from agentd.actors.step import Step, Taken, append_of
from agentd.actors.stopping import Stopping
from agentd.actors.waiting import Waiting
from agentd.actors.worker import Worker
from agentd.core import intents as i
from agentd.core.session import Work, begun, decide, due, next_timer, wants
from agentd.core.state import Session
from agentd.protocol import facts as f
from agentd.protocol.codec import encode
from agentd.protocol.errors import AgentdError, Internal, Overloaded, StorageUnavailable
from agentd.protocol.signals import AgentState

SNAPSHOT_FACTS = 1_000

log = structlog.get_logger(__name__)


class SessionActor:
    """One session that is awake. `state` is the published one; questions read it without asking."""

    def __init__(self, shared: Shared, state: Session, words: Words, feed: Feed | None = None) -> None:
        self.shared = shared
        self.state = state
        self.words = words
        self.feed = feed or Feed(state.key, state.seq, shared.store, shared.clock, shared.supervisor, shared.followed)
        self.touched_s = shared.clock.monotonic_s()
        self._mailbox = Mailbox(shared.settings.limits.mailbox, shared.settings.limits.control)
        self._held = Held(state.key, shared.dispatcher, shared.caps.dispatch)
        self._worker = Worker(self)
        self._attempts = Attempts(
            shared.clock, shared.supervisor, self._worker.attempt, self._attempt_over, self._abandoned
        )
        self._stopping = Stopping(state.key, shared.clock, self._runs, lambda: self.feed.seq)
        self._waiting = Waiting(state.key, shared.clock)
        self._at_work = False
        self._task: asyncio.Task[Any] | None = None
        self.alarm = Alarm(shared.clock, self.wake)
        self._steady = Steady(shared.clock, state.ts)
        self._decided_ms = state.ts
        self.snapshot_seq = state.seq - state.seq % SNAPSHOT_FACTS
        self._retries = Retries(shared.clock, self._put_back)
        self._counted = 0
        self._paths = Paths()
        self.broken: str | None = None
        self.first = 1

    # ---- asked from outside ---------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Nobody would miss it: no work, no followers, nothing in the mailbox."""
        return not (self._busy or self._attempts or self.feed.followers or self.state.runs)

    @property
    def restful(self) -> bool:
        """Its state may leave memory: nothing runs, nothing waits for a permit, nobody waits for an answer of it."""
        if self._busy or self._attempts or self._waiting or self._stopping or self.feed.stream:
            return False
        return not any(wants(self.state, self.shared.load.server_paused, self.shared.caps.dispatch))

    @property
    def _busy(self) -> bool:
        """It has commands, be it that they wait to be tried again."""
        return bool(self._at_work or self._mailbox or self._retries.waiting)

    @property
    def attempts(self) -> Attempts:
        return self._attempts

    @property
    def waiting(self) -> int:
        return len(self._mailbox)

    def tell(self, intent: i.AnyIntent, lane: Lane, caller: Caller | None = None) -> None:
        """Put a command into the mailbox.

        Raises:
            Overloaded: its lane is full; nothing was written.
            Internal: this session stopped because its log does not make sense.
        """
        if self.broken is not None:
            raise Internal(self.broken)
        if not self._mailbox.put(Envelope(intent, lane, caller)):
            cap = "mailbox" if lane == "work" else "control"
            limit = self._mailbox.limit[lane]
            self.shared.load.refuse(cap)
            raise Overloaded(
                "this session's mailbox is full",
                retry_after_ms=self.shared.load.retry_after_ms(self.state.mode == "paused"),
                details={"cap": cap, "used": limit, "limit": limit, "backpressure": self.figures().backpressure},
            )
        self.touched_s = self.shared.clock.monotonic_s()
        self._start_work()

    def wake(self) -> None:
        """Look again at what may start."""
        if self.broken is None:
            self.tell(i.Wake(by=SELF), "result")

    def mode_changed(self) -> None:
        """The server's mode changed: who follows is told, and what may go on goes on."""
        self.feed.state_changed(lambda: encode(self.figures()))
        if self.state.runs or self._busy:  # a step on its way to the log was decided under the other mode
            self.wake()
        self._set_timer()

    def figures(self) -> AgentState:
        """The session's load now, without a request."""
        return state_shown(self.state, self.shared)

    async def quiet(self) -> None:
        """Return when its mailbox has been worked off."""
        while self._task is not None and not self._task.done():
            await asyncio.wait({self._task})

    async def attempts_ended(self) -> None:
        """Return when nothing of it runs and what ended is stored."""
        while len(self._attempts) or self._at_work:
            await self._attempts.ended_one()
            await self.quiet()

    def drain(self) -> None:
        """Start nothing any more; attempts that run may finish."""
        self._attempts.draining = True

    # ---- the step -------------------------------------------------------------------------------------------------

    def _start_work(self) -> None:
        if not self._at_work:
            self._at_work = True
            self._task = self.shared.supervisor.start(f"session {self.state.key}", self._work())

    async def _work(self) -> None:
        try:
            while self._mailbox and self.broken is None:
                await self._step(self._mailbox.take_all())
            if self.broken is not None:
                self._not_stored(self._mailbox.take_all(), Internal(self.broken))
        finally:
            self._at_work = False

    async def _step(self, envelopes: list[Envelope]) -> None:
        try:
            intents = [envelope.intent for envelope in envelopes]
            ahead = await read_ahead(self.shared, self.state, intents, self._paths, self.words.contents)
        except AgentdError as error:
            self._not_stored(envelopes, error)
            return
        before = self.state
        facts, taken = self._decide(envelopes, ahead)
        if self._paths.contents or ahead.contents or self.words.ahead:
            self.words.ahead = {**self._paths.contents, **ahead.contents}
        if facts:
            after = taken.state
            try:
                bodies = [encode(fact) for fact in facts]
                await self.shared.store.append(
                    append_of(before, facts, bodies, after, self.shared, self._snapshot_due(after))
                )
            except StorageUnavailable as error:
                self._settle(waited=False)
                self._not_stored(envelopes, error)
                return
            except Exception as error:
                self._not_stored(envelopes, self._break(error))
                return
            self._retries.stored()
            self._publish(before, facts, bodies, after, taken.commands)
        else:
            self._reply(taken.commands, ())
        self._settle(waited=bool(facts))
        self._attempts.decided(envelope.intent for envelope in envelopes)
        self._attempts.reconcile(self.state, due(self.state))
        self._stopping.check()
        self._set_timer()

    def _settle(self, *, waited: bool) -> None:
        state = self.state if self.broken is None else replace(self.state, runs={}, queue=(), current=None)
        self._held.settle(state, self._attempts.workers, self._attempts.lingering(state), self.wake, waited)

    def _break(self, error: Exception) -> Internal:
        """The log says that somebody else appended, or that these facts do not fit; or they can't be written at all:
        stop, say so, and do not try the same again. What runs is ended; its permits are for the others."""
        self.broken = self.shared.clock.new_id("fault")
        log.error("session.broken", session=self.state.key, fault=self.broken, reason=str(error), exc_info=error)
        self._attempts.reconcile(self.state, ())
        self._settle(waited=False)
        return Internal(self.broken)

    def know(self, leaf: str, path: Path) -> None:
        """A path that a command on its way will need."""
        self._paths.know(leaf, path)

    async def know_paths(self) -> None:
        """After a load: read again where queued runs will start."""
        for leaf in run_paths(self.state):
            await know(self.shared, self.state, self._paths, leaf)

    def _decide(self, envelopes: Sequence[Envelope], ahead: Ahead) -> tuple[list[f.AnyFact], Step]:
        """Each command on the state the one before left; one `now` for all (rulings 2)."""
        now = self._decided_ms = self._steady.now_ms(self.state.ts, timed=self.alarm.is_set)
        state, facts, commands, nth = self.state, list[f.AnyFact](), list[Taken](), 1
        step = self._given_step(now, ahead)
        for envelope in envelopes:
            try:
                decision = decide(state, envelope.intent, self._given(step, envelope.intent, state, ahead, nth))
            except AgentdError as error:
                commands.append(Taken(envelope, None, error, state.seq))
                continue
            except Exception:
                commands.append(Taken(envelope, None, self._fault(envelope), state.seq))
                continue
            if decision.facts:
                ahead.learn(decision)
                state = decision.state
                self._held.take(state, self._attempts.lingering(state))
                facts.extend(decision.facts)
                nth += 1
            commands.append(Taken(envelope, decision.answer, None, state.seq))
        return facts, Step(state, commands)

    def _given_step(self, now: int, ahead: Ahead) -> i.Given:
        """What all commands of a step are given alike."""
        load = self.shared.load
        return i.Given(
            now=now, server_paused=load.server_paused, retry_after_ms=load.retry_after_ms(self.state.mode == "paused"),
            paths=self._paths.windows, path_summaries=self._paths.summaries, items=ahead.items,
            contents=ahead.contents, identity=ahead.identity, results=ChainMap(ahead.results, self.words.results),
            caps=self.shared.caps_now(),
        )  # fmt: skip

    def _given(self, step: i.Given, intent: i.AnyIntent, state: Session, ahead: Ahead, nth: int) -> i.Given:
        key = intent.key if isinstance(intent, i.StartRun) else None
        return replace(
            step,
            nth=nth,
            workers=self._held.free_workers(state, self._attempts.workers),
            models=self._held.free_models(state, self._attempts.lingering(state)),
            queue_room=self._held.room(),
            used_key=ahead.keys.get(key) if key is not None else None,
            ended_runs=frozenset(ahead.ended_runs),
        )

    def _fault(self, envelope: Envelope) -> Internal:
        """A rule failed: that command is refused, the state stays (design 8)."""
        fault = self.shared.clock.new_id("fault")
        log.exception("decide.failed", fault=fault, session=self.state.key, intent=type(envelope.intent).__name__)
        return Internal(fault)

    def _snapshot_due(self, after: Session) -> bool:
        return after.seq - self.snapshot_seq >= SNAPSHOT_FACTS

    def _publish(
        self,
        before: Session,
        facts: Sequence[f.AnyFact],
        bodies: Sequence[bytes],
        after: Session,
        commands: list[Taken],
    ) -> None:
        """Stored: from here on everybody may see it."""
        self.state = after
        if self._snapshot_due(after):
            self.snapshot_seq = after.seq
        self.words.heard(facts, before, after)
        self._paths.heard(facts, after)
        if any(isinstance(fact, (f.SessionReceive, *f.RUN_ENDS)) for fact in facts):
            self.feed.end_message()
        if before.current is not None and after.current != before.current:
            self._worker.run_ended()
        for taken in commands:
            if isinstance(taken.answer, i.Accepted) and taken.envelope.caller is not None:
                self._accepted(taken.envelope.caller, taken.answer, bodies[taken.answer.seq - before.seq - 1])
        self.feed.publish(facts[0].seq, bodies)
        self._waiting.heard(facts)
        self._count(after)
        self.shared.load.heard(facts)
        counting.count(self.shared.metrics, facts, before)
        self._reply(commands, facts)
        self.feed.state_changed(lambda: encode(self.figures()))
        self.shared.look(self.state)

    def _accepted(self, caller: Caller, answer: i.Accepted, body: bytes) -> None:
        if caller.waits:
            self._waiting.add(answer.run, caller)
        else:
            caller.is_fact(self.state.key, answer.seq, body)

    def _reply(self, commands: Sequence[Taken], facts: Sequence[f.AnyFact]) -> None:
        for taken in commands:
            caller = taken.envelope.caller
            if isinstance(taken.envelope.intent, i.StartRun):
                self.shared.load.reserved -= 1
            if caller is None:
                continue
            if taken.error is not None:
                caller.refused(self.state.key, taken.seq, taken.error)
            elif isinstance(taken.answer, i.Cancelling):
                self._stopping.begin(caller, taken.answer)
            elif isinstance(taken.answer, i.Repeated) and caller.waits and taken.answer.run in self.state.runs:
                self._waiting.add(taken.answer.run, caller)
            elif taken.answer is not None and not isinstance(taken.answer, i.Accepted):
                answer_with(self.state, self.shared, caller, taken.answer, taken.seq)

    def _not_stored(self, envelopes: Sequence[Envelope], error: AgentdError) -> None:
        """Only clients' requests are answered; results, timers and recovery are tried again (rulings 3)."""
        again = []
        for envelope in envelopes:
            if envelope.caller is None or (envelope.lane == "result" and self.broken is None):
                again.append(envelope)
                continue
            if isinstance(envelope.intent, i.StartRun):
                self.shared.load.reserved -= 1
            envelope.caller.refused(self.state.key, self.state.seq, error)
        if again and self.broken is None:
            self._retries.later(again)

    def _put_back(self, envelopes: list[Envelope]) -> None:
        self._mailbox.put_back(envelopes)
        self._start_work()

    # ---- what is alive --------------------------------------------------------------------------------------------

    def _runs(self, attempt: tuple[str, str, int]) -> bool:
        """Its work has not ended, or the end is not stored yet."""
        open_ones = [(work.run, work.task, work.attempt) for work in begun(self.state)]
        return attempt in open_ones or self._attempts.running(*attempt)

    def _attempt_over(self, outcome: Outcome | None) -> None:
        if self.broken is not None:
            self._settle(waited=False)
            return
        self.tell(outcome if outcome is not None else i.Wake(by=SELF), "result")

    def _abandoned(self, work: Work) -> None:
        if self.broken is not None:
            return
        for intent in given_up(work):
            self.tell(intent, "result")

    def _set_timer(self) -> None:
        """What became due while the last step was stored has not been decided on: it counts from that step's time."""
        now = self._steady.now_ms(self.state.ts, timed=True)  # what was decided a moment ago stays the reference
        after = max(self._decided_ms, self.state.ts)
        self.alarm.set(next_timer(self.state, self.shared.load.server_paused, self.shared.caps.warning_s, after), now)

    def _count(self, state: Session) -> None:
        """Unfinished runs that count against the server's cap; those that wait for a person do not (rulings 26)."""
        counted = sum([run.state != "waiting" for run in state.runs.values()])
        self.shared.load.unfinished += counted - self._counted
        self._counted = counted

    def enter(self) -> None:
        """It is its session from here on, and counts; one that is still being read may come to nothing."""
        self._count(self.state)

    def leave(self) -> int:
        """Out of memory: nothing stays behind. How many unfinished runs it had counted."""
        self.alarm.cancel()
        counted, self._counted = self._counted, 0
        self.shared.load.unfinished -= counted
        self._held.leave()
        self.shared.dispatcher.forget(self.state.key)
        return counted
