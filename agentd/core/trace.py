"""What a well-formed run looks like: the rules that its facts obey, each breach named with its place (N4).

A `Checker` takes the facts one by one and keeps only what is open, so that a run of any length is checked in the memory
of its plan. Scopes, by id: the run itself (opened by run.accepted), attempts of its tasks (agent.status running), of
its planning and its answer, tool calls inside an attempt, and inputs that wait to be placed. The same tables that rule
the live state rule here, but nothing else is shared, so that a fault in `evolve` is seen.

Rules: start, end, run, session, run_seq, seq, ts, state, task, scope, order, counts, figures.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from agentd.core.lifecycle import GATE_MOVES, RUN_MOVES, TASK_MOVES
from agentd.core.state import TERMINAL
from agentd.protocol import facts as f

PROBLEMS_MAX = 100
OPEN_MAX = 10_000
"""Tool calls of one attempt, and inputs of one run, that are remembered: more than any run may have."""
ENDED = ("completed", "failed", "cancelled")


class Breach(msgspec.Struct, frozen=True):
    """A rule that the fact `seq` broke; `seq` is None for what is missing at the end."""

    rule: str
    what: str
    seq: int | None

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}" + ("" if self.seq is None else f", at seq {self.seq}")


def problems(facts: Sequence[f.AnyFact], *, ended: bool = False) -> list[str]:
    """Every breach, `rule: what, at seq N`; none for a well-formed run. With `ended` it has to have its end."""
    checker = Checker()
    found: list[Breach] = []
    for fact in facts:
        found += checker.feed(fact)
        if len(found) >= PROBLEMS_MAX:
            return [str(breach) for breach in found[:PROBLEMS_MAX]]
    return [str(breach) for breach in [*found, *checker.finish(ended=ended)]]


class Checker:
    """The facts of one run, in order: `feed` each, then `finish`."""

    def __init__(self, run: str | None = None) -> None:
        """`run`: whose facts they have to be; else those of the first fact's run."""
        self.run = run
        self.session: str | None = None
        self.state: str | None = None
        self.count = 0
        self._seq = 0
        self._run_seq = 0
        self._ts = 0
        self._tasks: dict[str, _Task] = {}
        self._gates: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._reserved = {"planning": _Attempts(), "answer": _Attempts()}
        self._inputs: set[int] = set()
        self._inputs_seen = 0
        self._found: list[Breach] = []

    def feed(self, fact: f.AnyFact) -> list[Breach]:
        """The next fact; what it breaks."""
        self._found = []
        self._numbers(fact)
        if self.state in ENDED:
            self._say("end", f"a fact after the end ({_name(fact)})", fact)
        elif self.state is None and not isinstance(fact, f.RunAccepted):
            self._say("start", f"the first fact is {_name(fact)}, not run.accepted", fact)
            self.state = "running"
        elif self.state == "queued" and isinstance(fact, _WORK):
            self._say("state", f"{_name(fact)} of a run that has not started", fact)
        rule = _RULES.get(type(fact))
        if rule is not None:
            rule(self, fact)
        self.count += 1
        return self._found

    def finish(self, *, ended: bool = False) -> list[Breach]:
        """No fact is left; what is missing. With `ended` the end is."""
        if not self.count:
            return [Breach("start", "there are no facts", None)]
        if ended and self.state not in ENDED:
            return [Breach("end", f"the run has no end, it is {self.state}", None)]
        return []

    def _say(self, rule: str, what: str, fact: f.AnyFact) -> None:
        self._found.append(Breach(rule, what, fact.seq))

    # ---- numbers ----------------------------------------------------------------------------------------------------

    def _numbers(self, fact: f.AnyFact) -> None:
        self.run = self.run if self.run is not None else fact.run
        self.session = self.session if self.session is not None else fact.session
        if fact.run != self.run or fact.run is None:
            self._say("run", f"a fact of run {fact.run} among those of {self.run}", fact)
        if fact.session != self.session:
            self._say("session", f"a fact of session {fact.session} among those of {self.session}", fact)
        if fact.run_seq != self._run_seq + 1:
            self._say("run_seq", f"{fact.run_seq} after {self._run_seq}", fact)
        if fact.seq <= self._seq:
            self._say("seq", f"{fact.seq} after {self._seq}", fact)
        if fact.ts < self._ts:
            self._say("ts", f"{fact.ts} after {self._ts}", fact)
        self._run_seq = fact.run_seq if fact.run_seq is not None else self._run_seq + 1
        self._seq, self._ts = fact.seq, fact.ts

    # ---- the run ----------------------------------------------------------------------------------------------------

    def _accepted(self, fact: f.RunAccepted) -> None:
        if self.state is not None:
            self._say("start", "a second start", fact)
        self.state = "queued"

    def _moved(self, fact: f.AnyFact) -> None:
        name = _name(fact)
        moved = RUN_MOVES.get((self.state or "", name))
        if moved is None and self.state not in ENDED:  # after the end it is told as such
            self._say("state", f"{name} of a run that is {self.state}", fact)
        self.state = moved or name.removeprefix("run.").replace("continued", "running").replace("started", "running")

    def _ended(self, fact: f.RunCompleted | f.RunFailed | f.RunCancelled) -> None:
        if self.state in ENDED:
            return
        self._moved(fact)
        for name, task in self._tasks.items():
            if task.attempts.open:
                self._say("scope", f"attempt {task.attempts.last} of {name} is never closed", fact)
        if isinstance(fact, f.RunCompleted):
            for number in sorted(self._inputs):
                self._say("scope", f"input {number} is never placed", fact)
        tally = dict.fromkeys(("done", "failed", "cancelled", "skipped", "dropped"), 0)
        for task in self._tasks.values():
            if task.status in tally:
                tally[task.status] += 1
        if fact.counts != f.Counts(total=len(self._tasks), **tally):
            self._say("counts", f"the end counts {_shown(fact.counts)}, the facts {_shown(tally)}", fact)

    def _input(self, fact: f.RunInput) -> None:
        if fact.entry is None:
            if fact.input <= self._inputs_seen or len(self._inputs) >= OPEN_MAX:
                self._say("scope", f"input {fact.input} is taken twice", fact)
            self._inputs_seen = max(self._inputs_seen, fact.input)
            self._inputs.add(fact.input)
        elif fact.input not in self._inputs:
            self._say("scope", f"input {fact.input} is placed without waiting to be", fact)
        else:
            self._inputs.remove(fact.input)

    def _progress(self, fact: f.AgentProgress) -> None:
        load = fact.backpressure
        if load is not None and load.total != load.pending + load.queued + load.active + load.settled + load.dropped:
            self._say("figures", f"{load.total} is not the sum of its parts", fact)
        match fact.phase, fact.status:
            case "planner", "received":
                self._open("planning", self._reserved["planning"], fact.attempt or 1, fact)
            case "execution", "started":
                self._open("answer", self._reserved["answer"], fact.attempt or 1, fact)
            case "execution", "complete":
                if not self._reserved["answer"].open:
                    self._say("scope", "the answer is closed without being open", fact)
                self._reserved["answer"].open = False
            case _:
                pass

    def _received(self, fact: f.SessionReceive) -> None:
        if not self._reserved["answer"].open:
            self._say("scope", "words of an answer that is not open", fact)

    # ---- the plan ---------------------------------------------------------------------------------------------------

    def _planned(self, fact: f.AgentPlan) -> None:
        """A further revision keeps what its tasks and gates had come to."""
        self._reserved["planning"].open = False
        kept, gates = self._tasks, self._gates
        self._tasks = {}
        for spec in fact.tasks:
            task = kept.get(spec.id) or _Task(status=spec.status)
            task.depends, task.joins = spec.depends_on, spec.kind == "join"
            self._tasks[spec.id] = task
        for name, task in kept.items():
            if task.attempts.open and name not in self._tasks:
                self._say("scope", f"attempt {task.attempts.last} of {name} is never closed", fact)
        self._gates = {
            spec.id: (gates[spec.id][0] if spec.id in gates else spec.status, spec.depends_on) for spec in fact.gates
        }

    def _status(self, fact: f.AgentStatus) -> None:
        attempts = self._reserved.get(fact.task)
        if attempts is not None:
            self._close(fact.task, attempts, fact.attempt or attempts.last, fact)
            return
        task = self._tasks.get(fact.task)
        if task is None:
            self._say("task", f"task {fact.task} is not in the plan", fact)
            return
        moved = TASK_MOVES.get((task.status, fact.status))
        if moved is None:
            self._say("state", f"task {fact.task} is {task.status} and is told {fact.status}", fact)
        task.status = moved or ("pending" if fact.status == "retrying" else fact.status)
        if fact.status == "running":
            self._settled_before(fact, fact.task, task.depends, joins=task.joins)
        if fact.attempt is None:
            return
        if fact.status == "running":
            self._open(fact.task, task.attempts, fact.attempt, fact)
        else:
            self._close(fact.task, task.attempts, fact.attempt, fact)

    def _gate(self, fact: f.GateDecided) -> None:
        found = self._gates.get(fact.gate)
        if found is None:
            self._say("task", f"gate {fact.gate} is not in the plan", fact)
            return
        status, depends = found
        if (status, fact.status) not in GATE_MOVES:
            self._say("state", f"gate {fact.gate} is {status} and is told {fact.status}", fact)
        self._settled_before(fact, fact.gate, depends, joins=False)
        self._gates[fact.gate] = (fact.status, depends)

    def _settled_before(self, fact: f.AnyFact, name: str, depends: Iterable[str], *, joins: bool) -> None:
        """All that it depends on has ended: well, or for a join in any way."""
        for dep in depends:
            if not (self._good(dep) or (joins and self._over(dep, set()))):
                self._say("order", f"{name} goes on before {dep} has ended", fact)

    def _good(self, node: str) -> bool:
        task = self._tasks.get(node)
        return task.status == "done" if task is not None else self._gates.get(node, ("", ()))[0] == "approved"

    def _over(self, node: str, seen: set[str]) -> bool:
        """A gate is over too when what it looks at has ended and not all of it well: nobody will be asked."""
        task = self._tasks.get(node)
        if task is not None:
            return task.status in TERMINAL
        if node not in self._gates or node in seen:
            return False
        seen.add(node)
        status, depends = self._gates[node]
        ended = all(self._over(dep, seen) for dep in depends)
        return status == "approved" or (ended and not all(map(self._good, depends)))

    # ---- attempts and calls -----------------------------------------------------------------------------------------

    def _open(self, name: str, attempts: "_Attempts", number: int, fact: f.AnyFact) -> None:
        if attempts.open or number <= attempts.last:
            self._say("scope", f"attempt {number} of {name} is opened twice", fact)
        elif number != attempts.last + 1:
            self._say("scope", f"attempt {number} of {name} is opened after attempt {attempts.last}", fact)
        if self.state != "running":
            self._say("state", f"attempt {number} of {name} is opened in a run that is {self.state}", fact)
        attempts.last, attempts.open = max(number, attempts.last), True
        attempts.calls = {}

    def _close(self, name: str, attempts: "_Attempts", number: int, fact: f.AnyFact) -> None:
        if not attempts.open or number != attempts.last:
            self._say("scope", f"attempt {number} of {name} is closed without being open", fact)
            return
        attempts.open = False
        for call, open_ in attempts.calls.items():
            if open_:
                self._say("scope", f"call {call} is never closed", fact)
        attempts.calls = {}

    def _called(self, fact: f.ToolCalled) -> None:
        calls = self._calls(fact, fact.task, fact.attempt)
        if calls is None:
            return
        if fact.call in calls or len(calls) >= OPEN_MAX:
            self._say("scope", f"call {fact.call} is opened twice", fact)
        calls[fact.call] = True

    def _returned(self, fact: f.ToolResult | f.ToolFailed) -> None:
        calls = self._calls(fact, fact.task, fact.attempt)
        if calls is None:
            return
        if not calls.get(fact.call, False):
            self._say("scope", f"call {fact.call} is closed without being open", fact)
        calls[fact.call] = False

    def _calls(self, fact: f.AnyFact, name: str, attempt: int) -> dict[str, bool] | None:
        """The calls of that attempt, which has to be open."""
        task = self._tasks.get(name)
        attempts = task.attempts if task is not None else self._reserved.get(name)
        if attempts is None or not attempts.open or attempts.last != attempt:
            self._say("scope", f"a tool call outside of attempt {attempt} of {name}", fact)
            return None
        return attempts.calls


class _Attempts:
    """Attempts of one task: the number of the last one, whether it is open, and its calls (open or ended)."""

    __slots__ = ("calls", "last", "open")

    def __init__(self) -> None:
        self.last = 0
        self.open = False
        self.calls: dict[str, bool] = {}


class _Task:
    """A task as far as it has come."""

    __slots__ = ("attempts", "depends", "joins", "status")

    def __init__(self, status: str) -> None:
        self.status = status
        self.depends: tuple[str, ...] = ()
        self.joins = False
        self.attempts = _Attempts()


_WORK = (f.AgentPlan, f.AgentProgress, f.AgentStatus, f.GateDecided, f.SessionReceive, f.ToolCalled)

_RULES: dict[type, Callable[[Checker, Any], None]] = {
    f.RunAccepted: Checker._accepted,
    f.RunStarted: Checker._moved,
    f.RunWaiting: Checker._moved,
    f.RunContinued: Checker._moved,
    f.RunCancelling: Checker._moved,
    f.RunCompleted: Checker._ended,
    f.RunFailed: Checker._ended,
    f.RunCancelled: Checker._ended,
    f.RunInput: Checker._input,
    f.SessionReceive: Checker._received,
    f.AgentPlan: Checker._planned,
    f.AgentProgress: Checker._progress,
    f.AgentStatus: Checker._status,
    f.GateDecided: Checker._gate,
    f.ToolCalled: Checker._called,
    f.ToolResult: Checker._returned,
    f.ToolFailed: Checker._returned,
}


def _name(fact: f.AnyFact) -> str:
    return str(fact.__struct_config__.tag)


def _shown(counts: object) -> str:
    values = counts if isinstance(counts, dict) else msgspec.structs.asdict(counts)  # type: ignore[arg-type]
    return ", ".join(f"{count} {word}" for word, count in values.items() if word != "total" and count) or "none"
