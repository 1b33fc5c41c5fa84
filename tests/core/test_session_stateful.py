"""A session under any order of commands, outcomes, pauses and crashes; the laws are in shell.py."""

import os
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentd.core import intents as i
from agentd.core.session import due
from agentd.protocol import facts as f
from agentd.protocol.errors import AgentdError
from tests.core.shell import AGENT, BY, Shell, gate, model, task

EXAMPLES = int(os.environ.get("AGENTD_EXAMPLES", "1500"))

FAN = (*(model(f"a{n}") for n in range(6)), task("join", "j", *(f"a{n}" for n in range(6)), need=2), model("z", "j"))
GATED = (model("a"), model("b", "g"), model("c", "b"), task("join", "j", "b", "c"), model("d", "j"))
SWITCHED = (
    model("a"),
    task("switch", "s", "a", cases=(f.Case(match="r", then=("l",)),), otherwise=("m",)),
    model("l", "s"),
    model("m", "s"),
    task("join", "j", "l", "m"),
)
ASKED = (
    task("question", "q", question="sure?"),
    model("a", "q"),
    task("delay", "w", "a", delay_s=3.0),
    model("b", "w"),
)
MIXED = (
    model("a", retry=f.Retry(attempts=2, waits_s=(1.0,))),
    task("tool", "t", tool="text", effect="once"),
    model("b", "a", "t", required=False),
    model("c", group="x"),
    model("d", group="x", fail_policy="retry"),
    task("join", "j", "b", "c", "d", need=1),
)
PLANS: list[tuple[tuple[f.PlanTask, ...], tuple[f.PlanGate, ...], tuple[f.PlanGroup, ...]]] = [
    (FAN, (), ()),
    (GATED, (gate("g", "a"),), ()),
    (SWITCHED, (), ()),
    (ASKED, (), ()),
    (MIXED, (), (f.PlanGroup(id="x", fail_policy="continue"),)),
    ((model("one"),), (gate("lone"),), ()),
    (
        (model("a", required=False), model("x", required=False), model("b", "g2"), task("delay", "w", delay_s=3.0)),
        (gate("g2", "g1"), gate("g1", "a")),
        (),
    ),
]
POLICIES: list[f.FailPolicy] = ["stop_all", "continue", "retry"]
OUTCOMES: list[i.Outcome] = ["done", "failed", "cancelled", "needs_review"]

_small = st.integers(0, 11)
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["chat", "plan", "plan", "plan", "end", "end", "end", "end", "end", "end", "late", "call", "pause",
             "resume", "server", "cancel", "cancel task", "cancel task", "cancel run", "interrupt", "steer",
             "follow up", "gate", "answer", "retry", "retry", "clear", "new", "crash", "time", "permits", "wake"]
        ),
        _small,
        _small,
    ),
    min_size=10,
    max_size=70,
)  # fmt: skip


@given(OPERATIONS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_laws_hold_in_any_order_and_every_run_ends(operations: list[tuple[str, int, int]]) -> None:
    shell = Shell()
    for kind, one, other in operations:
        with suppress(AgentdError):
            _do(shell, kind, one, other)
    shell.heal()


def _do(shell: Shell, kind: str, one: int, other: int) -> None:
    state = shell.state
    run = state.run
    tasks = list(run.tasks) if run is not None else []
    name = tasks[one % len(tasks)] if tasks else "none"
    runs = list(state.runs)
    match kind:
        case "chat":
            shell.chat(mode="reject" if other == 0 else "enqueue")
        case "interrupt":
            shell.chat(mode="interrupt")
        case "goal":
            shell.goal(overflow="drop" if other % 2 else "defer")
        case "plan":
            _plan(shell, one, other)
        case "end":
            works = due(state)
            if works:
                shell.end(works[one % len(works)], OUTCOMES[(other // 2) % 4 if other > 5 else 0])
        case "late":
            if run is not None:
                late: dict[str, Any] = {"by": AGENT, "run": run.id, "outcome": OUTCOMES[other % 4], "result": "late"}
                shell.tell(i.AttemptEnded(task=name, attempt=one, **late))
                shell.tell(i.AttemptEnded(task="answer", attempt=one + 5, **late))
        case "call":
            _call(shell, one, other)
        case "pause" | "resume":
            shell.tell(i.SetMode(by=BY, mode="paused" if kind == "pause" else "running"))
        case "server":
            shell.server_paused = not shell.server_paused
            shell.wake()
        case "cancel":
            shell.tell(i.Cancel(by=BY))
        case "cancel task":
            shell.tell(i.Cancel(by=BY, task=name))
        case "cancel run":
            shell.tell(i.Cancel(by=BY, run=runs[one % len(runs)] if runs else "run_0001"))
        case "steer" | "follow up":
            shell.tell(i.AddInput(by=BY, mode="steer" if kind == "steer" else "follow_up", content="also"))
        case "gate":
            gates = list(run.gates) if run is not None else []
            if gates and one % 2:
                shell.tell(i.DecideGate(by=BY, approve=other % 3 > 0, gate=gates[one // 2 % len(gates)]))
            else:
                shell.tell(i.DecideGate(by=BY, approve=other % 3 > 0, task=name))
        case "answer":
            shell.tell(i.AnswerQuestion(by=BY, task=name, value="yes"))
        case "retry":
            shell.tell(i.RetryTask(by=BY, task=name))
        case "clear":
            shell.tell(i.ClearSaturation(by=BY))
        case "new":
            shell.tell(i.NewEpoch(by=BY))
        case "crash":
            shell.crash(drained=other % 3 == 0)
        case "time":
            shell.wake(seconds=one)
        case "permits":
            shell.workers, shell.models = one % 4, other % 5
            shell.wake()
        case "wake":
            shell.wake()


def _plan(shell: Shell, one: int, other: int) -> None:
    """The planning that waits gets a plan, else a goal begins."""
    run = shell.state.run
    if run is None or not run.planning.active:
        shell.goal(overflow="drop" if other % 3 == 0 else "defer")
        return
    if one == 11:
        failure = f.Cause(code="provider_error", message="no", kind="auth")
        shell.tell(i.PlanProposed(by=AGENT, run=run.id, attempt=run.planning.number, failure=failure))
        return
    tasks, gates, groups = PLANS[one % len(PLANS)]
    shell.tell(
        i.PlanProposed(
            by=AGENT, run=run.id, attempt=run.planning.number, goal="g", tasks=tasks, gates=gates, groups=groups,
            fail_policy=POLICIES[other % 3],
        )
    )  # fmt: skip


def _call(shell: Shell, one: int, other: int) -> None:
    run = shell.state.run
    if run is None or not run.running:
        return
    found = run.tasks[run.running[one % len(run.running)]]
    common: dict[str, Any] = {"by": AGENT, "run": run.id, "task": found.spec.id, "attempt": found.attempt, "tool": "t"}
    if found.calls and other % 2:
        shell.tell(i.CallEnded(call=found.calls[0].call, output="o", **common))
    else:
        call = f"c{len(shell.facts)}"
        shell.tell(i.CallBegan(call=call, input={}, effect="once" if other % 3 == 0 else "none", **common))
