"""A shell of values around the rules: it grants permits, lets attempts end, loses the process, and watches every fact.

What the real shell does with actors, a log and a clock is done here by hand, one command at a time, so that a test can
take any order. `tell` checks each decision against the laws that hold whatever is done; `heal` lets everything end.
"""

from typing import Any

import msgspec

from agentd.core import intents as i
from agentd.core.admission import session_figures
from agentd.core.evolve import evolve
from agentd.core.graph import may_start
from agentd.core.replay import Replay
from agentd.core.session import Decision, Work, decide, due
from agentd.core.state import PERMIT_KINDS, SETTLED, TERMINAL, Run, Session
from agentd.core.trace import problems
from agentd.protocol import facts as f
from agentd.protocol.codec import decode_fact, encode

BY = f.By(principal="local", via="ws")
AGENT = f.By(principal="agentd", via="timer")
RECOVERY = f.By(principal="agentd", via="recovery")
MODELS = 4
HEAL_STEPS = 2_000
ENDS = ("done", "failed", "cancelled", "needs_review", "retrying")
_state = msgspec.json.Decoder(Session)


class Shell:
    """One session and all that is around it."""

    def __init__(self, caps: i.Caps | None = None) -> None:
        self.caps = caps or i.Caps(dispatch=4, workers=3, queued_per_session=6, tasks_per_plan=30, runs_per_session=4)
        self.state = Session(key="s", agent="default", owner="local")
        self.facts: list[f.AnyFact] = []
        self.replay = Replay("s", i.Caps())
        self.now = 1_000
        self.workers = self.caps.workers
        self.models = MODELS
        self.server_paused = False
        self.runs = 0
        self.results: dict[str, Any] = {}
        self.cancelled: set[str] = set()
        self.ended: set[str] = set()
        self.started: dict[tuple[str, str], int] = {}
        self.attempts: set[tuple[str, str, int]] = set()

    # ---- asked of the rules ----------------------------------------------------------------------------------------

    def given(self) -> i.Given:
        run = self.state.run
        busy = run.workers if run is not None else frozenset()
        free = [number for number in range(1, self.caps.workers + 1) if number not in busy]
        return i.Given(
            now=self.now,
            workers=tuple(free[: max(self.workers - len(busy), 0)]),
            models=max(min(self.models, MODELS) - (run.models if run is not None else 0), 0),
            server_paused=self.server_paused,
            results=dict(self.results),
            ended_runs=frozenset(self.ended),
            caps=self.caps,
        )

    def tell(self, intent: i.AnyIntent) -> i.Answer | None:
        """Decide, store, check. What is refused leaves nothing."""
        before, given = self.state, self.given()
        decision = decide(before, intent, given)
        self._check(before, decision)
        for fact in decision.facts:
            self.facts.append(decode_fact(encode(fact)))
            assert self.replay.feed(decision.facts[0].seq, self.facts[-1]) is None
            if isinstance(fact, f.AgentStatus) and fact.status == "done":
                self.results[fact.task] = fact.result
            if isinstance(fact, f.RunStarted):
                self.results = {}
        self.state = decision.state
        assert self.replay.finish() is None, f"the facts tell what led to them: {intent}"
        assert (self.replay.unjudged, self.replay.assumed) == (0, 0)
        assert not self.facts or self.replay.state == self.state
        return decision.answer

    def name(self) -> str:
        self.runs += 1
        return f"run_{self.runs:04}"

    def chat(self, **more: Any) -> str:
        name = self.name()
        self.tell(i.StartRun(by=BY, run=name, kind="chat", content=f"words {name}", **more))
        return name

    def goal(self, **more: Any) -> str:
        name = self.name()
        self.tell(i.StartRun(by=BY, run=name, kind="goal", content=f"goal {name}", **more))
        return name

    def plan(self, *tasks: f.PlanTask, gates: tuple[f.PlanGate, ...] = (), **more: Any) -> str:
        """A goal whose plan is these tasks, as far as it gets at once."""
        name = self.goal(**{key: more.pop(key) for key in ("overflow",) if key in more})
        run = self.state.runs[name]
        self.tell(
            i.PlanProposed(by=AGENT, run=name, attempt=run.planning.number, goal="g", tasks=tasks, gates=gates, **more)
        )
        return name

    def wake(self, seconds: float = 0) -> None:
        self.now += round(seconds * 1000)
        self.tell(i.Wake(by=AGENT))

    def end(self, work: Work, outcome: i.Outcome = "done", result: Any = "r", **more: Any) -> None:
        """An attempt that is alive ends."""
        if work.task == "planning":
            self.tell(i.PlanProposed(by=AGENT, run=work.run, attempt=work.attempt, tasks=(model("t1"),)))
            return
        cause = f.Cause(code="x", message="x") if outcome != "done" else None
        self.tell(
            i.AttemptEnded(
                by=AGENT, run=work.run, task=work.task, attempt=work.attempt, step=work.step, outcome=outcome,
                result=result if outcome == "done" else None, cause=cause, message_id=f"{work.run}.m", **more,
            )
        )  # fmt: skip

    def crash(self, *, drained: bool = False) -> None:
        """The process is gone: the state is what the log gives, then one `Recovered`."""
        state = Session(key="s", agent="default", owner="local")
        for fact in self.facts:
            state = evolve(state, fact)
        assert state == self.state, "the log gives the state back"
        self.tell(i.Recovered(by=RECOVERY, drained=drained))

    def heal(self) -> None:
        """Everything is granted, answered and ended; every run has to end."""
        self.server_paused, self.workers, self.models = False, self.caps.workers, MODELS
        self.tell(i.SetMode(by=BY, mode="running"))
        self.wake()
        for _ in range(HEAL_STEPS):
            if not self.state.runs:
                break
            self._heal_one()
        assert not self.state.runs, f"stuck: {self.state.run}"
        for name in self.ended:
            mine = [fact for fact in self.facts if fact.run == name]
            assert problems(mine, ended=True) == []

    def _heal_one(self) -> None:
        works = due(self.state)
        run = self.state.run
        if works:
            self.end(works[0])
        elif run is not None and run.attempts:
            self.tell(self._lingering(run))
        elif run is not None and not self._person(run):
            self.wake(seconds=5)

    def _lingering(self, run: Run) -> i.AnyIntent:
        """An attempt that `due` does not name any more ends as cancelled."""
        if run.planning.active:
            return i.AttemptEnded(
                by=AGENT, run=run.id, task="planning", attempt=run.planning.number, outcome="cancelled"
            )
        if run.answer.active:
            return i.AttemptEnded(
                by=AGENT, run=run.id, task="answer", attempt=run.answer.number, step=run.answer.step,
                outcome="cancelled", cause=f.Cause(code="cancelled", message=""),
            )  # fmt: skip
        task = run.tasks[run.running[0]]
        return i.AttemptEnded(
            by=AGENT, run=run.id, task=task.spec.id, attempt=task.attempt, outcome="cancelled",
            cause=f.Cause(code="cancelled", message=""),
        )  # fmt: skip

    def _person(self, run: Run) -> bool:
        """A person decides one thing; False when there is nothing to decide."""
        for name, gate in run.gates.items():
            if gate.status != "approved" and not gate.open_deps and not gate.void:
                self.tell(i.DecideGate(by=BY, approve=True, gate=name))
                return True
        for name, task in run.tasks.items():
            if task.status == "needs_review" and task.spec.kind == "question":
                self.tell(i.AnswerQuestion(by=BY, task=name, value="yes"))
                return True
            if task.status == "needs_review":
                self.tell(i.DecideGate(by=BY, approve=True, task=name))
                return True
        return False

    # ---- what always holds -----------------------------------------------------------------------------------------

    def _check(self, before: Session, decision: Decision) -> None:
        state, mode = before, before.mode
        for fact in decision.facts:
            state = evolve(state, decode_fact(encode(fact)))
            if isinstance(fact, f.SessionMode):
                mode = fact.mode
            self._check_fact(fact, mode == "paused" or self.server_paused)
        assert state == decision.state, "the facts are the whole decision"
        assert _state.decode(encode(state)) == state, "a snapshot gives the state back"
        seqs = [fact.seq for fact in decision.facts]
        assert seqs == list(range(before.seq + 1, before.seq + 1 + len(seqs)))
        run = state.run
        if run is not None:
            recount(run)
            assert run.active <= self.caps.workers
            assert len(run.queued) <= self.caps.queued_per_session
            assert len(run.queued) + run.active <= self.caps.dispatch
            assert run.models <= MODELS
            assert len(run.workers) == run.active, "a worker each"
        law(session_figures(state, self.caps, 0))

    def _check_fact(self, fact: f.AnyFact, held: bool) -> None:
        run = fact.run or ""
        if isinstance(fact, f.AgentProgress) and fact.backpressure is not None:
            law(fact.backpressure)
        begins = isinstance(fact, f.AgentProgress) and (fact.phase, fact.status) in (
            ("planner", "received"), ("execution", "started"),
        )  # fmt: skip
        if begins or (isinstance(fact, f.AgentStatus) and fact.status == "running" and fact.attempt is not None):
            assert run not in self.cancelled, "nothing of a run starts after its cancel"
            assert run not in self.ended
            assert not held, "nothing starts while paused"
        if isinstance(fact, f.AgentStatus) and fact.attempt is not None:
            key = (run, fact.task, fact.attempt)
            if fact.status == "running":
                assert key not in self.attempts, "an attempt starts once"
                self.attempts.add(key)
                self.started[run, fact.task] = fact.attempt
            elif fact.task not in ("planning", "answer"):
                assert self.started.get((run, fact.task)) == fact.attempt, "only what runs ends"
                del self.started[run, fact.task]
        if isinstance(fact, f.RunCancelling | f.RunCancelled):
            self.cancelled.add(run)
        if isinstance(fact, f.RUN_ENDS):
            assert run not in self.ended, "a run ends once"
            assert not [key for key in self.started if key[0] == run], "no attempt outlives its run"
            self.ended.add(run)


def law(figures: f.Backpressure) -> None:
    parts = figures.pending + figures.queued + figures.active + figures.settled + figures.dropped
    assert figures.total == parts
    assert min(figures.pending, figures.queued, figures.active, figures.settled, figures.dropped) >= 0
    assert figures.active <= figures.limit.workers
    assert figures.dropped == len(figures.dropped_ids)


def recount(run: Run) -> None:
    """The counts that are kept as facts come are those that one would count."""

    def ended(name: str) -> bool:
        if name in run.tasks:
            return run.tasks[name].status in TERMINAL
        gate = run.gates[name]
        return gate.status == "approved" or (gate.void and gate.open_deps == 0)

    for task in run.tasks.values():
        assert task.open_deps == sum(not ended(dep) for dep in task.spec.depends_on), task.spec.id
    for gate in run.gates.values():
        assert gate.open_deps == sum(not ended(dep) for dep in gate.spec.depends_on), gate.spec.id
    by_status: dict[str, set[str]] = {}
    for name, task in run.tasks.items():
        by_status.setdefault(task.status, set()).add(name)
    assert set(run.running) == by_status.get("running", set())
    assert set(run.queued) <= by_status.get("pending", set())
    open_ones = {name for name in by_status.get("pending", set()) if not run.tasks[name].open_deps}
    assert set(run.ready) == open_ones - set(run.queued)
    looked_at = {name for name in run.ready if run.tasks[name].spec.kind not in PERMIT_KINDS}
    timed = {name for name in run.ready if run.tasks[name].resume_at is not None}
    lost = {name for name in run.ready if not may_start(run, run.tasks[name])}
    assert set(run.watched or ()) == looked_at | timed | lost
    assert run.settled == sum(task.status in SETTLED for task in run.tasks.values())
    assert set(run.dropped_ids) == by_status.get("dropped", set())
    assert run.accepted_tasks == sum(task.admitted for task in run.tasks.values())


def model(name: str, *depends_on: str, **more: Any) -> f.PlanTask:
    return f.PlanTask(id=name, title=name, kind="model", status="pending", depends_on=depends_on, **more)


def task(kind: f.TaskKind, name: str, *depends_on: str, **more: Any) -> f.PlanTask:
    return f.PlanTask(id=name, title=name, kind=kind, status="pending", depends_on=depends_on, **more)


def gate(name: str, *depends_on: str) -> f.PlanGate:
    return f.PlanGate(id=name, title=name, depends_on=depends_on, status="pending")
