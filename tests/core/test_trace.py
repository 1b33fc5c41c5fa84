"""The validator: every run that the rules can make is accepted, and each way to spoil one is refused by its rule."""

import random
from collections.abc import Callable
from functools import cache

import pytest
from msgspec.structs import replace

from agentd.core import intents as i
from agentd.core.evolve import evolve
from agentd.core.session import decide, due
from agentd.core.trace import OPEN_MAX, PROBLEMS_MAX, Breach, Checker, problems
from agentd.protocol import facts as f
from agentd.protocol.errors import AgentdError
from tests.test_traces import BY, CAPS, STORIES, Story, task

Facts = list[f.AnyFact]
Place = int | None
KINDS = ("", "", "", "join:", "question:", "delay:", "switch:")


class Walk(Story):
    """A session that is told anything that it may be told, at random, until its runs have ended."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.open: list[tuple[str, str, int, str]] = []
        self.calls = 0

    def tell(self, intent: i.AnyIntent) -> None:
        self.now += self.random.choice((1, 10, 3_000))
        run = self.state.run if not isinstance(intent, i.Recovered) else None
        busy = run.workers if run is not None else frozenset()
        free = tuple(number for number in range(1, CAPS.workers + 1) if number not in busy)
        try:
            decision = decide(self.state, intent, i.Given(now=self.now, workers=free, models=8, caps=CAPS))
        except AgentdError:
            return
        for fact in decision.facts:
            self.state = evolve(self.state, fact)
        self.facts.extend(decision.facts)

    def go(self, steps: int) -> None:
        for number in range(steps):
            self.tell(self._next(number))
        for _ in range(3 * steps):
            if not self.state.runs:
                return
            self.tell(self._end() or i.Cancel(by=BY))
        raise AssertionError("its runs do not end")

    def _next(self, number: int) -> i.AnyIntent:
        if not self.state.runs or self.random.random() < 0.05:
            kind: f.RunKind = self.random.choice(("chat", "goal", "goal"))
            drop: f.Overflow = self.random.choice(("defer", "drop"))
            return i.StartRun(by=BY, run=f"r{number}", kind=kind, content="do", overflow=drop)
        others: list[Callable[[], i.AnyIntent | None]] = [self._end, self._end, self._end, self._call, self._person]
        return self.random.choice(others)() or i.Wake(by=BY)

    def _end(self) -> i.AnyIntent | None:
        works = due(self.state)
        if self.state.run is not None and self.state.run.state == "cancelling" and not works:
            return self._cut_off()
        if not works:
            return None
        work = self.random.choice(works)
        if work.task == "planning":
            return self._plan(i.PlanProposed(by=BY, run=work.run, attempt=work.attempt, goal="g"))
        outcome: i.Outcome = self.random.choice(("done", "done", "done", "failed"))
        cause = f.Cause(code="provider_error", kind="network", message="no answer") if outcome == "failed" else None
        return i.AttemptEnded(
            by=BY, run=work.run, task=work.task, attempt=work.attempt, step=work.step, outcome=outcome, result="done",
            cause=cause, message_id="m",
        )  # fmt: skip

    def _cut_off(self) -> i.AnyIntent | None:
        """What the shell says of attempts that are not wanted any more."""
        run = self.state.run
        assert run is not None
        for name in run.running:
            return i.AttemptEnded(by=BY, run=run.id, task=name, attempt=run.tasks[name].attempt, outcome="cancelled")
        name, attempt = ("answer", run.answer) if run.answer.active else ("planning", run.planning)
        return i.AttemptEnded(
            by=BY, run=run.id, task=name, attempt=attempt.number, step=attempt.step, outcome="cancelled"
        )

    def _plan(self, empty: i.PlanProposed) -> i.PlanProposed:
        names = [f"t{number}" for number in range(self.random.randint(1, 6))]
        gates = self.random.random() < 0.3
        tasks: list[f.PlanTask] = []
        for place, name in enumerate(names):
            kind = self.random.choice(KINDS)
            deps = self.random.sample(names[:place], self.random.randint(0, min(place, 2)))
            made = task(f"{kind}{name}" + (f"<{','.join(deps)}" if deps else ""))
            made = replace(made, cases=(), otherwise=(), retry=self.random.choice((None, f.Retry(attempts=2))))
            tasks.append(
                replace(made, depends_on=(*made.depends_on, "g")) if gates and place == len(names) - 1 else made
            )
        gate = f.PlanGate(id="g", title="g", depends_on=("t0",) if len(names) > 1 else (), status="pending")
        policy: f.FailPolicy = self.random.choice(("stop_all", "continue", "retry"))
        return replace(empty, tasks=tuple(tasks), gates=(gate,) if gates else (), fail_policy=policy)

    def _call(self) -> i.AnyIntent | None:
        run = self.state.run
        running = [name for name in run.running if run.tasks[name].attempt] if run is not None else []
        if run is None or not running:
            return None
        task = run.tasks[self.random.choice(running)]
        name, number = task.spec.id, task.attempt
        if task.calls and self.random.random() < 0.7:
            call = task.calls[0].call
            return i.CallEnded(by=BY, run=run.id, task=name, attempt=number, call=call, tool="calculate", output="1")
        self.calls += 1
        effect: f.Effect = self.random.choice(("none", "once"))
        call = f"c{self.calls}"
        return i.CallBegan(
            by=BY, run=run.id, task=name, attempt=number, call=call, tool="calculate", input={}, effect=effect
        )

    def _person(self) -> i.AnyIntent | None:
        run = self.state.run
        tasks = list(run.tasks) if run is not None else []
        name = self.random.choice(tasks) if tasks else "t0"
        crashed = f.By(principal="agentd", via="recovery")
        choices: tuple[i.AnyIntent, ...] = (
            i.DecideGate(by=BY, approve=self.random.random() < 0.7, gate="g"),
            i.DecideGate(by=BY, approve=self.random.random() < 0.5, task=name),
            i.AnswerQuestion(by=BY, task=name, value="blue"),
            i.RetryTask(by=BY, task=name),
            i.AddInput(by=BY, mode=self.random.choice(("steer", "follow_up")), content="shorter"),
            i.SetMode(by=BY, mode=self.random.choice(("paused", "running", "running"))),
            i.Cancel(by=BY, task=name if self.random.random() < 0.8 else None),
            i.Recovered(by=crashed, drained=self.random.random() < 0.5),
        )
        return self.random.choice(choices)


@cache
def traces() -> list[Facts]:
    """Every run of the stored stories and of random walks, each that has ended."""
    sessions = []
    for path in STORIES:
        story = Story()
        for block in path.read_text().strip().split("\n\n"):
            story.play(next(line for line in block.split("\n") if not line.startswith("#")))
        sessions.append(story.facts)
    for seed in range(60):
        walk = Walk(seed)
        walk.go(60)
        sessions.append(walk.facts)
    runs = [
        [fact for fact in facts if fact.run == run]
        for facts in sessions
        for run in dict.fromkeys(fact.run for fact in facts if fact.run is not None)
    ]
    return [run for run in runs if isinstance(run[-1], f.RUN_ENDS)]


def test_every_run_that_the_rules_made_is_accepted() -> None:
    assert len(traces()) > 150
    for facts in traces():
        assert problems(facts, ended=True) == []


@pytest.mark.parametrize("end", [f.RunCompleted, f.RunFailed, f.RunCancelled])
def test_runs_of_every_end_are_among_them(end: type) -> None:
    assert any(isinstance(facts[-1], end) for facts in traces())


def test_a_run_that_goes_on_has_no_problem_but_that() -> None:
    for facts in traces():
        for length in range(1, len(facts)):
            assert problems(facts[:length]) == []
    found = problems(traces()[0][:2], ended=True)
    assert found == ["end: the run has no end, it is running"]


def test_facts_that_only_tell_may_stand_anywhere_in_a_run() -> None:
    facts = traces()[0]
    told = f.Warned(session="s", seq=1, ts=facts[0].ts, run=facts[0].run, code="c", message="m", source="s")
    for place in range(1, len(facts)):
        told = replace(told, ts=facts[place].ts)
        assert problems(numbered([*facts[:place], told, *facts[place:]]), ended=True) == []


def test_nothing_is_no_run() -> None:
    assert problems([]) == ["start: there are no facts"]


# ---- spoiling ---------------------------------------------------------------------------------------------------


def numbered(facts: Facts) -> Facts:
    """With run_seq and seq in order again, so that only what was meant is wrong."""
    first = facts[0].seq
    return [replace(fact, run_seq=number, seq=first + number) for number, fact in enumerate(facts, 1)]


def at(facts: Facts, kind: type, **fields: object) -> Place:
    """Where the first fact of that kind with these fields is."""
    for place, fact in enumerate(facts):
        if isinstance(fact, kind) and all(getattr(fact, name) == value for name, value in fields.items()):
            return place
    return None


def changed(facts: Facts, place: Place, **fields: object) -> Facts | None:
    if place is None:
        return None
    return [*facts[:place], replace(facts[place], **fields), *facts[place + 1 :]]


def without(facts: Facts, place: Place) -> Facts | None:
    return None if place is None else numbered([*facts[:place], *facts[place + 1 :]])


def doubled(facts: Facts, place: Place) -> Facts | None:
    return None if place is None else numbered([*facts[: place + 1], *facts[place:]])


def depends_on_the_last(facts: Facts) -> Facts | None:
    """As if the first task that started had had to wait for the one that ended last."""
    plan, start = at(facts, f.AgentPlan), at(facts, f.AgentStatus, status="running")
    ends = [fact for fact in facts if isinstance(fact, f.AgentStatus) and fact.status == "done" and fact.attempt]
    if plan is None or start is None or not ends:
        return None
    first, last, made = facts[start], ends[-1], facts[plan]
    assert isinstance(first, f.AgentStatus)
    assert isinstance(made, f.AgentPlan)
    if first.task == last.task:
        return None
    tasks = tuple(replace(spec, depends_on=(last.task,)) if spec.id == first.task else spec for spec in made.tasks)
    return changed(facts, plan, tasks=tasks)


def gate_of_something_unfinished(facts: Facts) -> Facts | None:
    plan, decided = at(facts, f.AgentPlan), at(facts, f.GateDecided)
    if plan is None or decided is None:
        return None
    made = facts[plan]
    assert isinstance(made, f.AgentPlan)
    behind = next((spec.id for spec in made.tasks if "g" in spec.depends_on), None)
    return (
        changed(facts, plan, gates=tuple(replace(spec, depends_on=(behind,)) for spec in made.gates))
        if behind
        else None
    )


def counted_wrong(facts: Facts) -> Facts | None:
    counts = facts[-1].counts  # type: ignore[union-attr]
    return changed(facts, len(facts) - 1, counts=replace(counts, done=counts.done + 1))


def summed_wrong(facts: Facts) -> Facts | None:
    place = at(facts, f.AgentProgress)
    if place is None:
        return None
    load = facts[place].backpressure  # type: ignore[union-attr]
    return changed(facts, place, backpressure=replace(load, pending=load.pending + 1)) if load else None


def other_attempt(facts: Facts) -> Facts | None:
    place = at(facts, f.ToolCalled)
    return changed(facts, place, attempt=9)


def attempt_skipped(facts: Facts) -> Facts | None:
    """The first attempt says that it is the second."""
    place = at(facts, f.AgentStatus, status="running", attempt=1)
    return changed(facts, place, attempt=2)


def begun(task: str = "") -> Callable[[Facts], Place]:
    """Where planning, the answer, or the first attempt of a task begins."""

    def found(facts: Facts) -> Place:
        match task:
            case "planning":
                return at(facts, f.AgentProgress, phase="planner", status="received")
            case "answer":
                return at(facts, f.AgentProgress, phase="execution", status="started")
        return at(facts, f.AgentStatus, status="running", attempt=1)

    return found


def never_waited(facts: Facts) -> Facts | None:
    return without(facts, at(facts, f.RunWaiting)) if at(facts, f.RunContinued) is not None else None


def call_left_open(facts: Facts) -> Facts | None:
    place = at(facts, f.ToolResult)
    return without(facts, place if place is not None else at(facts, f.ToolFailed))


def call_opened_twice(facts: Facts) -> Facts | None:
    return doubled(facts, at(facts, f.ToolCalled))


def attempt_left_open(facts: Facts) -> Facts | None:
    """The last attempt of a task that came to nothing is not told to have ended."""
    ends = [place for place, fact in enumerate(facts)
            if isinstance(fact, f.AgentStatus) and fact.attempt and fact.status in ("failed", "cancelled")
            and fact.task not in ("answer", "planning")]  # fmt: skip
    return without(facts, ends[-1]) if ends else None


def input_placed_twice(facts: Facts) -> Facts | None:
    place = next((n for n, fact in enumerate(facts) if isinstance(fact, f.RunInput) and fact.entry), None)
    return doubled(facts, place)


def input_taken_twice(facts: Facts) -> Facts | None:
    return doubled(facts, at(facts, f.RunInput, entry=None))


def input_forgotten(facts: Facts) -> Facts | None:
    if not isinstance(facts[-1], f.RunCompleted):
        return None
    place = next((n for n, fact in enumerate(facts) if isinstance(fact, f.RunInput) and fact.entry), None)
    return without(facts, place)


SPOILED: dict[str, tuple[str, Callable[[Facts], Facts | None]]] = {
    "a fact of another run": ("run", lambda facts: changed(facts, len(facts) // 2, run="r_other")),
    "a fact of no run": ("run", lambda facts: changed(facts, len(facts) // 2, run=None)),
    "a fact of another session": ("session", lambda facts: changed(facts, len(facts) // 2, session="other")),
    "no start": ("start", lambda facts: without(facts, 0)),
    "two starts": ("start", lambda facts: doubled(facts, 0)),
    "no end": ("end", lambda facts: facts[:-1]),
    "two ends": ("end", lambda facts: doubled(facts, len(facts) - 1)),
    "a fact after the end": ("end", lambda facts: numbered([*facts, facts[1]])),
    "a gap in run_seq": ("run_seq", lambda facts: [*facts[:1], *facts[2:]] if len(facts) > 2 else None),
    "a repeat in run_seq": ("run_seq", lambda facts: changed(facts, 1, run_seq=1)),
    "two facts that changed places": ("run_seq", lambda facts: [*facts[:-2], facts[-1], facts[-2]]),
    "a seq that does not rise": ("seq", lambda facts: changed(facts, 1, seq=facts[0].seq)),
    "a time that goes back": ("ts", lambda facts: changed(facts, len(facts) - 1, ts=1)),
    "a run that works without having started": ("state", lambda facts: without(facts, at(facts, f.RunStarted))),
    "a run that starts twice": ("state", lambda facts: doubled(facts, at(facts, f.RunStarted))),
    "a run that goes on without waiting": ("state", never_waited),
    "a task that is done twice": ("state", lambda facts: doubled(facts, at(facts, f.AgentStatus, status="done"))),
    "a task that is skipped twice": ("state", lambda facts: doubled(facts, at(facts, f.AgentStatus, status="skipped"))),
    "a gate that is decided twice": ("state", lambda facts: doubled(facts, at(facts, f.GateDecided))),
    "a task of no plan": ("task", lambda facts: changed(facts, at(facts, f.AgentStatus, status="running"), task="x")),
    "a gate of no plan": ("task", lambda facts: changed(facts, at(facts, f.GateDecided), gate="x")),
    "a task that starts too early": ("order", depends_on_the_last),
    "a gate that is decided too early": ("order", gate_of_something_unfinished),
    "an attempt that starts twice": ("scope", lambda facts: doubled(facts, begun()(facts))),
    "an attempt that is passed over": ("scope", attempt_skipped),
    "an attempt that never ends": ("scope", attempt_left_open),
    "a call outside of its attempt": ("scope", other_attempt),
    "a call that begins twice": ("scope", call_opened_twice),
    "a call that never ends": ("scope", call_left_open),
    "a call that ends twice": ("scope", lambda facts: doubled(facts, at(facts, f.ToolResult))),
    "a call that fails twice": ("scope", lambda facts: doubled(facts, at(facts, f.ToolFailed))),
    "a call that was not begun": ("scope", lambda facts: without(facts, at(facts, f.ToolCalled))),
    "a planning that begins twice": ("scope", lambda facts: doubled(facts, begun("planning")(facts))),
    "an answer that begins twice": ("scope", lambda facts: doubled(facts, begun("answer")(facts))),
    "words without an answer": ("scope", lambda facts: without(facts, begun("answer")(facts))),
    "an answer that ends twice": ("scope", lambda facts: doubled(facts, at(facts, f.AgentProgress, status="complete"))),
    "an input that is placed twice": ("scope", input_placed_twice),
    "an input that is taken twice": ("scope", input_taken_twice),
    "an input that is forgotten": ("scope", input_forgotten),
    "an end that counts wrong": ("counts", counted_wrong),
    "figures that do not add up": ("figures", summed_wrong),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_run_is_refused_by_its_rule(name: str) -> None:
    rule, spoil = SPOILED[name]
    tried = 0
    for facts in traces():
        spoiled = spoil(facts)
        if spoiled is None:
            continue
        tried += 1
        found = problems(spoiled, ended=True)
        assert rule in {problem.partition(":")[0] for problem in found}, (found, facts)
    assert tried, "no run to spoil in this way"


def test_a_breach_names_its_place() -> None:
    facts = next(facts for facts in traces() if len(facts) > 4)
    spoiled = changed(facts, 3, run="r_other")
    assert spoiled is not None
    assert problems(spoiled) == [f"run: a fact of run r_other among those of {facts[0].run}, at seq {facts[3].seq}"]


def test_whose_facts_they_have_to_be_can_be_said() -> None:
    checker = Checker("r_wanted")
    assert [breach.rule for breach in checker.feed(traces()[0][0])] == ["run"]


def test_what_is_told_is_bounded() -> None:
    facts = traces()[0]
    assert len(problems(facts * (PROBLEMS_MAX + 1))) == PROBLEMS_MAX


def test_a_join_may_start_when_a_gate_can_not_be_reached_any_more() -> None:
    story = Story()
    for line in ("goal r1 do", "plan r1 1 continue t1 gate:g<t1 t2<g join:j<g,t2", "ended r1 t1 1 failed"):
        story.play(line)
    story.play("ended r1 answer 1.0 done")
    facts = [fact for fact in story.facts if fact.run == "r1"]
    assert problems(facts, ended=True) == []
    assert any(isinstance(fact, f.AgentStatus) and fact.task == "j" and fact.status == "done" for fact in facts)


def test_gates_in_a_circle_are_told_and_end_the_search() -> None:
    """No plan has them, but a file may."""
    story = Story()
    for line in ("goal r1 do", "plan r1 1 continue t1 join:j<t1", "ended r1 t1 1 done"):
        story.play(line)
    facts = [fact for fact in story.facts if fact.run == "r1"]
    place = at(facts, f.AgentPlan)
    assert place is not None
    plan = facts[place]
    assert isinstance(plan, f.AgentPlan)
    gates = tuple(f.PlanGate(id=a, title=a, depends_on=(b,), status="pending") for a, b in (("g1", "g2"), ("g2", "g1")))
    tasks = tuple(replace(spec, depends_on=("g1",)) if spec.id == "j" else spec for spec in plan.tasks)
    spoiled = changed(facts, place, tasks=tasks, gates=gates)
    assert spoiled is not None
    assert "order" in {problem.partition(":")[0] for problem in problems(spoiled)}


def test_calls_beyond_any_measure_are_told_and_not_remembered() -> None:
    story = Story()
    for line in ("goal r1 do", "plan r1 1 continue t1"):
        story.play(line)
    checker = Checker()
    for fact in story.facts[1:]:
        checker.feed(fact)
    last = story.facts[-1]
    found: list[Breach] = []
    for number in range(1, OPEN_MAX + 3):
        found += checker.feed(
            f.ToolCalled(
                session="s", seq=last.seq + number, ts=last.ts, run="r1", run_seq=(last.run_seq or 0) + number,
                task="t1", attempt=1, call=f"c{number}", tool="t", input={},
            )
        )  # fmt: skip
    assert [breach.rule for breach in found] == ["scope", "scope"]


def test_a_further_revision_of_the_plan_keeps_what_its_tasks_came_to() -> None:
    story = Story()
    for line in ("goal r1 do", "plan r1 1 continue t1 t2<t1", "ended r1 t1 1 done"):
        story.play(line)
    facts = [fact for fact in story.facts if fact.run == "r1"]
    place = at(facts, f.AgentPlan)
    assert place is not None
    again = replace(facts[place], revision=2, ts=facts[-1].ts)
    assert problems(numbered([*facts, again])) == []
    assert isinstance(again, f.AgentPlan)
    fewer = replace(again, tasks=again.tasks[:1])
    assert [problem.partition(":")[0] for problem in problems(numbered([*facts, fewer]))] == ["scope"]
