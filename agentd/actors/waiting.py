"""Requests with `wait: true`: answered by `run.result` when their run ends, or by `timeout` while the run goes on."""

from collections.abc import Sequence

from agentd.actors.caller import Caller
from agentd.clock import Clock, Timer
from agentd.protocol import facts as f
from agentd.protocol.errors import Timeout
from agentd.protocol.replies import RunResult

WAIT_S = 600.0


class Waiting:
    """Who waits for the ends of one session's runs."""

    def __init__(self, session: str, clock: Clock) -> None:
        self._session = session
        self._clock = clock
        self._open: dict[str, list[tuple[Caller, Timer]]] = {}
        self._said: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, run: str, caller: Caller) -> None:
        timer = self._clock.call_later(WAIT_S, lambda: self._late(run, caller))
        self._open.setdefault(run, []).append((caller, timer))

    def heard(self, facts: Sequence[f.AnyFact]) -> None:
        """A stored step: remember what was said to those who wait, and answer them at the end."""
        for fact in facts:
            if fact.run not in self._open:
                continue
            if isinstance(fact, f.SessionReceive):
                self._said[fact.run] = fact.content
            elif isinstance(fact, f.RUN_ENDS):
                self._answer(fact.run, fact)

    def _answer(self, run: str, fact: f.RunCompleted | f.RunFailed | f.RunCancelled) -> None:
        result = run_result(self._session, self._clock.now_ms(), fact, self._said.pop(run, ""))
        for caller, timer in self._open.pop(run):
            timer.cancel()
            caller.done(self._session, fact.seq, result)

    def _late(self, run: str, caller: Caller) -> None:
        left = [(other, timer) for other, timer in self._open.get(run, []) if other is not caller]
        if left:
            self._open[run] = left
        else:
            self._open.pop(run, None)
            self._said.pop(run, None)
        error = Timeout(f"run {run} has not ended in {WAIT_S:.0f} s; it goes on", hint="Follow its events instead.")
        caller.refused(self._session, 0, error)


def run_result(session: str, ts: int, fact: f.RunCompleted | f.RunFailed | f.RunCancelled, content: str) -> RunResult:
    """How a run ended, in one reply."""
    state: f.RunState = "completed"
    if isinstance(fact, f.RunFailed):
        state = "failed"
    elif isinstance(fact, f.RunCancelled):
        state = "cancelled"
    return RunResult(
        session=session, ts=ts, run=fact.run or "", state=state, content=content, usage=fact.usage, cause=fact.cause
    )
