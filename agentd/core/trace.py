"""What a well-formed run looks like: the rules that its facts obey, each breach named with its place (N4).

Scopes are the run (opened by run.accepted), attempts of its tasks (agent.status running), tool calls, and waiting. The
same tables that rule the live state rule here, but nothing else is shared, so that a fault in `evolve` is seen.
"""

from collections.abc import Sequence

from agentd.core.lifecycle import RUN_MOVES, TASK_MOVES
from agentd.core.state import TERMINAL
from agentd.protocol import facts as f

PROBLEMS_MAX = 100
RESERVED = ("answer", "planning")


def problems(facts: Sequence[f.AnyFact]) -> list[str]:
    """Every breach, `rule: what, at seq N`; none for a well-formed run, also one that has not ended."""
    check = _Check()
    for fact in facts:
        check.take(fact)
        if len(check.found) >= PROBLEMS_MAX:
            break
    check.end()
    return check.found[:PROBLEMS_MAX]


class _Check:
    def __init__(self) -> None:
        self.found: list[str] = []
        self.run: str | None = None
        self.state: str | None = None
        self.seq = 0
        self.run_seq = 0
        self.tasks: dict[str, str] = {}
        self.depends: dict[str, tuple[str, ...]] = {}
        self.attempts: dict[tuple[str, int], bool] = {}
        self.calls: dict[str, bool] = {}
        self.gates: dict[str, str] = {}
        self.joins: set[str] = set()

    def say(self, rule: str, what: str, fact: f.AnyFact) -> None:
        self.found.append(f"{rule}: {what}, at seq {fact.seq}")

    def take(self, fact: f.AnyFact) -> None:
        self._numbers(fact)
        if self.state in ("completed", "failed", "cancelled"):
            self.say("end", "a fact after the end", fact)
        match fact:
            case f.RunAccepted():
                if self.state is not None:
                    self.say("start", "a second start", fact)
                self.state = "queued"
            case f.RunCompleted() | f.RunFailed() | f.RunCancelled():
                self._moved(fact)
                self._closed(fact)
            case f.RunStarted() | f.RunWaiting() | f.RunContinued() | f.RunCancelling():
                self._moved(fact)
            case f.AgentPlan():
                self.tasks = {task.id: "pending" for task in fact.tasks}
                self.depends = {task.id: task.depends_on for task in fact.tasks}
                self.gates = {gate.id: gate.status for gate in fact.gates}
                self.joins = {task.id for task in fact.tasks if task.kind == "join"}
            case f.AgentStatus():
                self._status(fact)
            case f.GateDecided():
                self.gates[fact.gate] = fact.status
            case f.ToolCalled():
                if fact.call in self.calls:
                    self.say("scope", f"call {fact.call} is opened twice", fact)
                self.calls[fact.call] = True
            case f.ToolResult() | f.ToolFailed():
                if not self.calls.get(fact.call, False):
                    self.say("scope", f"call {fact.call} is closed without being open", fact)
                self.calls[fact.call] = False
            case _:
                pass

    def end(self) -> None:
        if self.run is None:
            self.found.append("start: there are no facts")

    def _numbers(self, fact: f.AnyFact) -> None:
        if self.run is None:
            self.run = fact.run
            if not isinstance(fact, f.RunAccepted):
                self.say("start", "the first fact is not run.accepted", fact)
        if fact.run != self.run:
            self.say("run", f"a fact of run {fact.run}", fact)
        if fact.run_seq != self.run_seq + 1:
            self.say("run_seq", f"{fact.run_seq} after {self.run_seq}", fact)
        if fact.seq <= self.seq:
            self.say("seq", f"{fact.seq} after {self.seq}", fact)
        self.run_seq, self.seq = fact.run_seq or self.run_seq + 1, fact.seq

    def _moved(self, fact: f.AnyFact) -> None:
        name = str(fact.__struct_config__.tag)
        moved = RUN_MOVES.get((self.state or "", name))
        if moved is None:
            self.say("state", f"{name} of a run that is {self.state or 'not accepted'}", fact)
        self.state = moved or name.removeprefix("run.")

    def _status(self, fact: f.AgentStatus) -> None:
        if fact.task in RESERVED:
            return
        status = self.tasks.get(fact.task)
        if status is None:
            self.say("task", f"task {fact.task} is not in the plan", fact)
            return
        moved = TASK_MOVES.get((status, fact.status))
        if moved is None:
            self.say("state", f"task {fact.task} is {status} and is told {fact.status}", fact)
        self.tasks[fact.task] = moved or (fact.status if fact.status in TERMINAL else status)
        if fact.attempt is not None:
            self._attempt(fact, fact.attempt)
        if fact.status == "running":
            self._depends(fact)

    def _attempt(self, fact: f.AgentStatus, attempt: int) -> None:
        key = (fact.task, attempt)
        if fact.status == "running":
            if key in self.attempts:
                self.say("scope", f"attempt {attempt} of {fact.task} is opened twice", fact)
            self.attempts[key] = True
        elif not self.attempts.get(key, False):
            self.say("scope", f"attempt {attempt} of {fact.task} is closed without being open", fact)
        else:
            self.attempts[key] = False

    def _depends(self, fact: f.AgentStatus) -> None:
        for dep in self.depends.get(fact.task, ()):
            status = self.tasks.get(dep)
            ready = status in TERMINAL if status is not None else self.gates.get(dep) == "approved"
            if not ready and not (status is None and fact.task in self.joins):
                self.say("order", f"task {fact.task} starts before {dep} has ended", fact)

    def _closed(self, fact: f.AnyFact) -> None:
        for (task, attempt), open_ in self.attempts.items():
            if open_:
                self.say("scope", f"attempt {attempt} of {task} is never closed", fact)
        for call, open_ in self.calls.items():
            if open_:
                self.say("scope", f"call {call} is never closed", fact)
