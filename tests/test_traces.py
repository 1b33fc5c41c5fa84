"""Golden traces: stories of commands and the facts they lead to, in `tests/traces/*.txt`, read by a person.

A command, a line `----`, then the facts and what is due. `REWRITE=1` writes them anew: commit that only if you
understand what caused the change.
"""

import os
from pathlib import Path
from typing import Any

import pytest

from agentd.core import intents as i
from agentd.core.evolve import evolve
from agentd.core.session import decide, due
from agentd.core.state import Session
from agentd.core.trace import problems
from agentd.protocol import facts as f
from agentd.protocol.errors import AgentdError

STORIES = sorted((Path(__file__).parent / "traces").glob("*.txt"))
BY = f.By(principal="local", via="ws")
CAPS = i.Caps(dispatch=4, workers=2)


class Story:
    """One session with two workers and plenty of model permits, on a clock that the story moves."""

    def __init__(self) -> None:
        self.state = Session(key="s", agent="default", owner="local")
        self.now = 1_000
        self.facts: list[f.AnyFact] = []

    def play(self, line: str) -> str:
        self.now += 10
        intent = self.intent(line.split())
        gone = isinstance(intent, i.Recovered)  # a new process: nobody holds a worker
        busy = self.state.run.workers if self.state.run is not None and not gone else frozenset()
        free = tuple(number for number in range(1, CAPS.workers + 1) if number not in busy)
        try:
            decision = decide(self.state, intent, i.Given(now=self.now, workers=free, models=8, caps=CAPS))
        except AgentdError as error:
            return f"refused: {error.code}: {error.message}"
        again = self.state
        for fact in decision.facts:
            again = evolve(again, fact)
        assert again == decision.state
        self.state = decision.state
        self.facts.extend(decision.facts)
        told = [shown(fact) for fact in decision.facts]
        told += [f"due {work.run} {work.task} {work.attempt}.{work.step}" for work in due(self.state)]
        return "\n".join(told) or "nothing"

    def intent(self, words: list[Any]) -> i.AnyIntent:
        match words:
            case ["wait", seconds]:
                self.now += round(float(seconds) * 1000)
                return i.Wake(by=BY)
            case [("chat" | "goal") as kind, run, *rest]:
                drop: f.Overflow = "drop" if "drop" in rest else "defer"
                return i.StartRun(by=BY, run=run, kind=kind, content=" ".join(rest), overflow=drop)
            case ["plan", run, attempt, policy, *tasks]:
                return i.PlanProposed(
                    by=BY, run=run, attempt=int(attempt), goal="g", fail_policy=policy,
                    tasks=tuple(task(text) for text in tasks if not text.startswith("gate:")),
                    gates=tuple(gate(text) for text in tasks if text.startswith("gate:")),
                )  # fmt: skip
            case ["ended", run, name, attempt, outcome]:
                number, _, step = attempt.partition(".")
                cause = (
                    f.Cause(code="provider_error", kind="network", message="no answer") if outcome == "failed" else None
                )
                return i.AttemptEnded(
                    by=BY, run=run, task=name, attempt=int(number), step=int(step or 0), outcome=outcome,
                    result=f"{name} done", cause=cause, message_id="m",
                )  # fmt: skip
            case ["call", run, name, attempt, effect]:
                return i.CallBegan(
                    by=BY, run=run, task=name, attempt=int(attempt), call="c1", tool="tool", input={}, effect=effect
                )
            case [("pause" | "resume") as word]:
                return i.SetMode(by=BY, mode="paused" if word == "pause" else "running")
            case ["cancel", *names]:
                return i.Cancel(by=BY, run=next(iter(names), None), task=names[1] if len(names) > 1 else None)
            case [("approve" | "block") as word, name]:
                return i.DecideGate(by=BY, approve=word == "approve", gate=name)
            case ["retry", name]:
                return i.RetryTask(by=BY, task=name)
            case ["answer", name, value]:
                return i.AnswerQuestion(by=BY, task=name, value=value)
            case [("steer" | "follow_up") as mode, *rest]:
                return i.AddInput(by=BY, mode=mode, content=" ".join(rest))
            case ["new"]:
                return i.NewEpoch(by=BY)
            case ["clear"]:
                return i.ClearSaturation(by=BY)
            case ["crash"]:
                return i.Recovered(by=f.By(principal="agentd", via="recovery"))
            case ["drained"]:
                return i.Recovered(by=f.By(principal="agentd", via="recovery"), drained=True)
        raise ValueError(f"no such command: {' '.join(words)}")


def task(text: str) -> f.PlanTask:
    """`kind:id<dep,dep`, the kind is model when it is left out; `need` of a join behind a slash."""
    head, _, deps = text.partition("<")
    kind: Any
    kind, _, name = head.rpartition(":")
    name, _, need = name.partition("/")
    return f.PlanTask(
        id=name, title=name.upper(), kind=kind or "model", depends_on=tuple(deps.split(",")) if deps else (),
        status="pending", need=int(need) if need else None, delay_s=5.0 if kind == "delay" else None,
        cases=(f.Case(match="done", then=(f"{name}_yes",)),) if kind == "switch" else (),
        otherwise=(f"{name}_no",) if kind == "switch" else (),
    )  # fmt: skip


def gate(text: str) -> f.PlanGate:
    head, _, deps = text.partition("<")
    name = head.removeprefix("gate:")
    return f.PlanGate(id=name, title=name, depends_on=tuple(deps.split(",")) if deps else (), status="pending")


def shown(fact: f.AnyFact) -> str:
    words = [str(fact.seq), str(fact.__struct_config__.tag)]
    for name in (
        "run",
        "phase",
        "status",
        "task",
        "attempt",
        "worker",
        "gate",
        "state",
        "held",
        "mode",
        "entry",
        "epoch",
    ):
        value = getattr(fact, name, None)
        if value is not None and not (name == "epoch" and isinstance(fact, f.RunAccepted)):
            words.append(f"{name}={value}")
    if getattr(fact, "admitted", ()):
        words.append("admitted=" + ",".join(fact.admitted))  # type: ignore[union-attr]
    cause = getattr(fact, "cause", None)
    if cause is not None:
        words.append(f"cause={cause.code}")
    load = getattr(fact, "backpressure", None)
    if load is not None:
        assert load.total == load.pending + load.queued + load.active + load.settled + load.dropped
        words.append(f"[{load.total}={load.pending}p+{load.queued}q+{load.active}a+{load.settled}s+{load.dropped}d]")
    return " ".join(words)


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_the_story_goes_as_it_was_told(path: Path) -> None:
    """Each block: prose lines begin with `#`; a command; `----`; what came of it."""
    story = Story()
    written = []
    for block in path.read_text().strip().split("\n\n"):
        prose = [line for line in block.split("\n") if line.startswith("#")]
        command = next(line for line in block.split("\n") if not line.startswith("#"))
        written.append("\n".join([*prose, command, "----", story.play(command)]))
    text = "\n\n".join(written) + "\n"
    if os.environ.get("REWRITE"):
        path.write_text(text)
    assert path.read_text() == text
    runs = dict.fromkeys(fact.run for fact in story.facts if fact.run is not None)
    for run in runs:
        assert problems([fact for fact in story.facts if fact.run == run]) == []


def test_there_are_stories() -> None:
    assert len(STORIES) >= 8
