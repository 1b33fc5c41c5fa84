"""Parallel branches give the same final state whatever the order in which they end (L10).

Equal have to be: how every task ended, what every join collected and in which order, the counts, the run's end, what
the answer is given. Different may be: the numbers and times of the facts, and which worker did what.
"""

import random
from typing import Any

import pytest

from agentd.core.plan import Proposal, problems
from agentd.core.references import named_outputs
from agentd.core.session import due
from agentd.protocol import facts as f
from tests.core.shell import Shell, gate, model, task

ORDERS = 100

DIAMONDS = (
    model("root"),
    *(model(f"left{n}", "root", group="left") for n in range(4)),
    *(model(f"right{n}", "root", output="all", merge="append") for n in range(4)),
    task("join", "lefts", *(f"left{n}" for n in range(4))),
    task("switch", "way", "lefts", cases=(f.Case(match="left1", then=("taken",)),), otherwise=("other",)),
    model("taken", "way"),
    model("other", "way"),
    task("join", "ways", "taken", "other"),
    task("join", "end", "right0", "right1", "right2", "right3", "ways"),
    model("last", "end"),
)


def outcome(seed: int, policy: f.FailPolicy) -> dict[str, Any]:
    """The plan worked off in an order of its own: each attempt ends when the dice say so, some fail."""
    dice = random.Random(seed)
    shell = Shell()
    name = shell.plan(*DIAMONDS, gates=(gate("aside", "root"),), fail_policy=policy)
    last = None
    while name in shell.state.runs:
        last = shell.state.runs[name]
        works = list(due(shell.state))
        if works:
            work = dice.choice(works)
            shell.workers = dice.randint(1, 3)
            failed = work.task in ("left2", "right3")
            shell.end(work, "failed" if failed else "done", f"result of {work.task}")
        else:
            shell.workers = shell.caps.workers
            shell.wake()
            if not due(shell.state) and name in shell.state.runs:  # siblings of what failed, and the gate
                shell.heal()
    assert last is not None
    end = next(fact for fact in shell.facts if isinstance(fact, f.RUN_ENDS))
    joined = {
        fact.task: fact.result for fact in shell.facts
        if isinstance(fact, f.AgentStatus) and fact.status == "done" and fact.task in ("lefts", "ways", "end", "way")
    }  # fmt: skip
    return {
        "statuses": {fact.task: fact.status for fact in shell.facts if isinstance(fact, f.AgentStatus)},
        "joined": joined,
        "outputs": named_outputs(last, shell.results).get("all"),
        "counts": end.counts,
        "end": (type(end).__name__, end.cause),
    }


def test_a_hundred_orders_give_one_final_state() -> None:
    first = outcome(0, "continue")
    assert first["statuses"]["other"] == "skipped"
    assert first["statuses"]["last"] == "done", "a join after what was not taken fires"
    assert list(first["joined"]["lefts"]["inputs"]) == ["left0", "left1", "left3"], "in declared order"
    assert first["outputs"] == [f"result of right{n}" for n in range(3)], "merged in declared order"
    for seed in range(1, ORDERS):
        assert outcome(seed, "continue") == first, f"order {seed}"


def test_two_writers_of_one_key_say_how_they_are_merged() -> None:
    plan = Proposal(tasks=(model("a", output="k"), model("b", output="k", merge="last")))
    assert [one.message for one in problems(plan, 10)] == ["a, b write k without a merge rule"]
    plan = Proposal(tasks=(model("a", output="k", merge="append"), model("b", output="k", merge="append")))
    assert not problems(plan, 10)


@pytest.mark.parametrize("seed", range(10))
def test_under_stop_all_the_run_fails_whatever_the_order(seed: int) -> None:
    found = outcome(seed, "stop_all")
    assert found["end"][0] == "RunFailed"
    assert found["end"][1].task in ("left2", "right3"), "the cause names the task"
    assert "running" not in found["statuses"].values()
    assert len(found["statuses"]) == len(DIAMONDS), "every task was told how it ended"
