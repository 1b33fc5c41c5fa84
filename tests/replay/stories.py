"""Sessions of values for the corpus: `python -m tests.replay.stories FOLDER NAME`.

They have what needs a person, a model's plan or an older file. The rules' own shell (tests/core/shell.py) is told what
to do, without a server; the facts are written as an export.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from agentd.core import intents as i
from agentd.core.export import VERSION, Header, fact_line
from agentd.core.session import due
from agentd.protocol import facts as f
from agentd.protocol.codec import encode
from tests.core.shell import AGENT, BY, Shell, gate, model, task


class Recorded(Shell):
    """Keeps the export's lines."""

    def __init__(self) -> None:
        super().__init__(
            i.Caps(dispatch=4, workers=3, queued_per_session=6, tasks_per_plan=30, runs_per_session=4, fact_bytes=1_001)
        )
        self.lines: list[bytes] = []

    def tell(self, intent: i.AnyIntent) -> i.Answer | None:
        before = len(self.facts)
        answer = super().tell(intent)
        step = before + 1
        self.lines += [fact_line(step, encode(fact)) for fact in self.facts[before:]]
        return answer

    def written(self) -> bytes:
        header = Header(
            version=VERSION, log="log_corpus", session="s", agent="default", owner="local", first=1,
            seq=len(self.facts), exported=self.now, server="0", caps=self.caps,
        )  # fmt: skip
        return encode(header) + b"\n" + b"".join(self.lines)


def persons(shell: Shell) -> None:
    """Gates, questions, reviews, retries; what was skipped because of them."""
    shell.plan(
        model("a"), task("question", "q", "a", question="which?"), model("b", "q", "g"), model("c"),
        gates=(gate("g", "a"),),
    )  # fmt: skip
    shell.heal()
    run = shell.plan(model("a"), model("b", "a"), fail_policy="continue")
    shell.end(due(shell.state)[0], "failed")
    shell.tell(i.Cancel(by=BY, run=run, task="b")) if shell.state.runs[run].tasks["b"].status == "pending" else None
    shell.heal()
    shell.plan(model("a"), model("b"), gates=(gate("g", "a", "b"),))
    shell.end(due(shell.state)[0], "needs_review")
    shell.tell(i.RetryTask(by=BY, task="a"))
    shell.end(due(shell.state)[0], "needs_review")
    shell.heal()


def ways(shell: Shell) -> None:
    """Joins, switches, delays, retries by policy, results that are cut."""
    shell.plan(
        model("a"), model("b"), task("join", "j", "a", "b", need=1),
        task("switch", "s", "j", cases=(f.Case(match="a", then=("l",)),), otherwise=("m",)),
        model("l", "s"), model("m", "s"), task("delay", "w", "a", delay_s=2.0),
        model("r", retry=f.Retry(attempts=2, waits_s=(1.5,))),
    )  # fmt: skip
    for work in due(shell.state):
        if work.task == "a":
            shell.end(work, result="ä" * shell.caps.fact_bytes)
    shell.heal()
    shell.plan(model("r", retry=f.Retry(attempts=2, waits_s=(1.5,))))
    shell.end(due(shell.state)[0], "failed")
    shell.wake(2)
    shell.end(due(shell.state)[0], "failed")
    shell.heal()


def tools(shell: Shell) -> None:
    """Calls that end, fail, are skipped, are open when the process is gone."""
    run = shell.plan(task("tool", "t", tool="text"), model("u", effect="once"), model("v"))
    call = {"by": AGENT, "run": run, "task": "t", "attempt": 1, "tool": "text"}
    shell.tell(i.CallBegan(**call, call="c1", input={"x": 1}))  # type: ignore[arg-type]
    shell.tell(i.CallEnded(**call, call="c1", output=[1, "two"]))  # type: ignore[arg-type]
    shell.tell(i.CallBegan(**call, call="c2", input={}))  # type: ignore[arg-type]
    shell.tell(i.CallEnded(**call, call="c2", error=f.Cause(code="tool_failed", message="no")))  # type: ignore[arg-type]
    shell.tell(i.CallSkipped(**call, call="c3", input={}))  # type: ignore[arg-type]
    shell.tell(i.CallBegan(**call, call="c4", input={}))  # type: ignore[arg-type]
    shell.tell(i.AddInput(by=BY, mode="steer", content="look at this"))
    shell.tell(i.PlaceInputs(by=AGENT, run=run, task="t", attempt=1))
    shell.crash()
    shell.crash(drained=True)
    shell.heal()


def crashes(shell: Shell) -> None:
    """Recoveries without progress end a run; a plan that fails; a run that waits in a queue from another leaf."""
    shell.goal()
    for _ in range(4):
        shell.crash()
    run = shell.goal()
    failure = f.Cause(code="provider_error", message="no", kind="auth")
    shell.tell(i.PlanProposed(by=AGENT, run=run, attempt=1, failure=failure, told=(("planner_fallback", "tried"),)))
    shell.chat()
    shell.tell(i.SetMode(by=BY, mode="paused", reason="a look"))
    shell.chat(key="k", body_hash="h")
    shell.tell(i.NewEpoch(by=BY, reason="fresh"))
    shell.tell(i.Cancel(by=BY))
    shell.tell(i.SetMode(by=BY, mode="running"))
    shell.heal()


def imported(shell: Shell) -> None:
    """An older file in two parts; then turns behind it."""
    for part, last in ((1, False), (2, True)):
        items = tuple(
            f.ImportedItem(id=f"imp:1:s:{part}{n}", kind="message", role="user" if n % 2 else "assistant",
                           content=f"old words {n}", ts=n, parent=f"imp:1:s:{part}{n - 1}" if n else None)
            for n in range(3)
        )  # fmt: skip
        shell.tell(i.Import(by=BY, timestamp_ms=1, reason="legacy", items=items, part=part, last=last))
    shell.chat()
    shell.tell(i.Warn(by=AGENT, code="disk", message="slow", source="store", details={"ms": 9}))
    shell.tell(i.Prune(by=AGENT, ids=("imp:9:s:1",)))
    shell.tell(i.CompactFailed(by=AGENT, first="imp:1:s:10", last="imp:1:s:11", count=2, reason="the model hung"))
    shell.heal()


STORIES: tuple[Callable[[Shell], None], ...] = (persons, ways, tools, crashes, imported)


def main(folder: Path, name: str) -> None:
    for story in STORIES:
        shell = Recorded()
        story(shell)
        (folder / f"{name}-{story.__name__}.ndjson").write_bytes(shell.written())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
