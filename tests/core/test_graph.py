"""How an end opens and closes what stands behind it, also after an operator took it back (rulings 9, 10; T4)."""

import pytest

from agentd.core import intents as i
from agentd.core.graph import policy_of
from agentd.core.session import due
from agentd.core.state import Run, Task
from agentd.protocol import facts as f
from agentd.protocol.errors import Conflict
from tests.core.shell import BY, Shell, gate, model


def attempt(shell: Shell, name: str, outcome: i.Outcome = "done") -> None:
    shell.end(next(work for work in due(shell.state) if work.task == name), outcome)


def test_a_gate_behind_one_that_can_not_be_reached_holds_no_run_also_after_a_retry_elsewhere() -> None:
    """A retry counts anew what is open; a gate that stands behind a gate is counted by how that one stands."""
    shell = Shell()
    name = shell.plan(
        model("a", required=False), model("x", required=False), model("c"), model("b", "g2"),
        gates=(gate("g2", "g1"), gate("g1", "a")),
    )  # fmt: skip
    attempt(shell, "a", "failed")
    attempt(shell, "x", "failed")
    shell.tell(i.RetryTask(by=BY, task="x"))
    gates = shell.state.runs[name].gates
    assert {key: (one.void, one.open_deps) for key, one in gates.items()} == {"g1": (True, 0), "g2": (True, 0)}
    with pytest.raises(Conflict):
        shell.tell(i.DecideGate(by=BY, approve=True, gate="g2"))
    attempt(shell, "x")
    attempt(shell, "c")
    assert [work.task for work in due(shell.state)] == ["answer"], "nobody is asked"


def test_a_retry_opens_all_gates_behind_it_again() -> None:
    shell = Shell()
    name = shell.plan(
        model("a", required=False), model("c"), gates=(gate("g3", "g2"), gate("g2", "g1"), gate("g1", "a"))
    )
    attempt(shell, "a", "failed")
    shell.tell(i.RetryTask(by=BY, task="a"))
    gates = shell.state.runs[name].gates
    assert {key: (one.void, one.open_deps) for key, one in gates.items()} == dict.fromkeys(gates, (False, 1))
    attempt(shell, "a")
    for gate_id in ("g1", "g2", "g3"):
        shell.tell(i.DecideGate(by=BY, approve=True, gate=gate_id))
    shell.heal()
    assert isinstance(shell.facts[-1], f.RunCompleted)


@pytest.mark.parametrize(
    ("own", "groups", "expected"),
    [
        (None, (), "retry"),
        (None, (f.PlanGroup(id="other", fail_policy="continue"), f.PlanGroup(id="g")), "retry"),
        (None, (f.PlanGroup(id="g"), f.PlanGroup(id="g2"), f.PlanGroup(id="g", fail_policy="continue")), "continue"),
        ("stop_all", (f.PlanGroup(id="g", fail_policy="continue"),), "stop_all"),
    ],
)
def test_the_nearest_policy_counts(
    own: f.FailPolicy | None, groups: tuple[f.PlanGroup, ...], expected: f.FailPolicy
) -> None:
    run = Run(id="r", kind="goal", state="running", content="", accepted=0, fail_policy="retry", groups=groups)
    assert policy_of(run, Task(spec=model("a", group="g", fail_policy=own))) == expected


def test_a_gate_behind_a_gate_is_closed_again_by_a_retry_before_both() -> None:
    """The second was counted from the first as it had been before, so it could be approved ahead of it."""
    shell = Shell()
    shell.plan(model("a"), model("b"), gates=(gate("first", "a"), gate("second", "first")))
    shell.tell(i.Cancel(by=BY, task="a"))
    run = shell.state.run
    assert run is not None
    assert run.gates["second"].void, "nobody will be asked"
    shell.tell(i.RetryTask(by=BY, task="a"))
    run = shell.state.run
    assert run is not None
    assert [(one.open_deps, one.void) for one in run.gates.values()] == [(1, False), (1, False)]
    with pytest.raises(Conflict):
        shell.tell(i.DecideGate(by=BY, approve=True, gate="second"))
    shell.heal()
