"""What stored facts add to the metrics (L17)."""

from agentd.actors.counting import count
from agentd.core import intents as i
from agentd.core.session import due
from agentd.core.state import Session
from agentd.telemetry import Metrics
from tests.core.shell import BY, Shell, model


class Counted(Shell):
    """Each command's facts are counted, as a session's steps are."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics = Metrics()

    def tell(self, intent: i.AnyIntent) -> i.Answer | None:
        before, known = self.state, len(self.facts)
        answer = super().tell(intent)
        count(self.metrics, self.facts[known:], before)
        return answer

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"agentd_{name}", labels) or 0.0


def test_runs_and_attempts_are_counted_as_they_begin_and_end() -> None:
    shell = Counted()
    shell.plan(model("a", fail_policy="retry"), model("b", required=False))
    shell.end(due(shell.state)[0], "failed")
    shell.end(due(shell.state)[0], "failed")
    shell.now += 20_000
    shell.heal()
    shell.chat()
    shell.tell(i.Cancel(by=BY))
    shell.heal()
    assert (shell.value("runs_accepted_total", kind="goal"), shell.value("runs_accepted_total", kind="chat")) == (1, 1)
    assert shell.value("runs_started_total") == 2
    assert (shell.value("runs_ended_total", state="completed"), shell.value("runs_ended_total", state="cancelled")) == (
        1, 1,
    )  # fmt: skip
    assert shell.value("run_seconds_count", state="completed") == 1
    assert shell.value("run_seconds_sum", state="completed") >= 20
    words = ("done", "failed", "retrying", "cancelled")
    ended = {word: shell.value("tasks_ended_total", status=word) for word in words}
    assert ended == {"done": 1, "failed": 1, "retrying": 1, "cancelled": 0}, "the answer is no task"


def test_a_run_that_is_accepted_and_ended_in_one_step_took_no_time() -> None:
    shell = Counted()
    shell.tell(i.SetMode(by=BY, mode="paused"))
    shell.chat()
    known = len(shell.facts)
    shell.tell(i.Cancel(by=BY))
    metrics = Metrics()
    count(metrics, shell.facts[known - 1 :], Session(key="s", agent="default", owner="local"))
    assert metrics.registry.get_sample_value("agentd_run_seconds_sum", {"state": "cancelled"}) == 0
