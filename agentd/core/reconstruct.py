"""The command behind a group of facts, and what it was decided on, told from the facts alone.

`given` is everything that the rules looked at beside the state: the moment, the permits that were taken, the load, the
paths and results that were read. Exactly what was taken is given back, which leads to the same choices, because permits
are handed out in order: one that was not given to the first is not given to the second. `commands` names what may have
led to these facts, the likeliest first; mostly there is one. Whether it did is for the rules to say (replay.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from agentd.core import intents as i
from agentd.core.state import Run, Session
from agentd.core.tokens import byte_length
from agentd.protocol import facts as f

F = TypeVar("F", bound=f.AnyFact)

AGENTD = f.By(principal="agentd", via="timer")
_FILLING = ("", "x", "\u00e9", "\u20ac", "\U00010000")
"""Characters of so many bytes of UTF-8: what is left of one that is cut in the middle falls away."""


# ---- what was given ---------------------------------------------------------------------------------------------


def given(
    state: Session,
    facts: Sequence[f.AnyFact],
    caps: i.Caps,
    results: Mapping[str, Any],
    contents: Mapping[str, str],
) -> i.Given:
    """What the rules were given when they decided on `facts` in `state`, as far as these show it."""
    grounds = facts[0].grounds or f.Grounds()
    paths, summaries = _paths(state, facts)
    figures = (fact.backpressure for fact in facts if isinstance(fact, f.AgentProgress))
    return i.Given(
        now=facts[0].ts,
        nth=grounds.nth,
        workers=tuple(fact.worker for fact in _starts(facts) if fact.worker is not None),
        models=_models(state, facts),
        queue_room=grounds.room if grounds.room is not None else 1 << 30,
        server_paused=grounds.held == "server",
        retry_after_ms=next((told.retry_after_ms for told in figures if told is not None), 1_000),
        paths=paths,
        path_summaries=summaries,
        items={item.id: item for fact in facts if isinstance(fact, f.MemoryEvent) for item in fact.window or ()},
        contents=contents,
        identity=next((fact.identity for fact in facts if isinstance(fact, f.RunStarted)), None),
        results=results,
        caps=caps,
    )


def _starts(facts: Sequence[f.AnyFact]) -> list[f.AgentStatus]:
    return [fact for fact in facts if isinstance(fact, f.AgentStatus) and fact.status == "running"]


def _models(state: Session, facts: Sequence[f.AnyFact]) -> int:
    """Model permits that were taken: for planning, the answer, and tasks that ask a model."""
    kinds = {spec.id: spec.kind for fact in facts if isinstance(fact, f.AgentPlan) for spec in fact.tasks}
    if state.run is not None:
        kinds.update({name: task.spec.kind for name, task in state.run.tasks.items() if name not in kinds})
    thinking = sum(
        isinstance(fact, f.AgentProgress)
        and (fact.phase, fact.status) in (("planner", "received"), ("execution", "started"))
        for fact in facts
    )
    return thinking + sum(kinds.get(fact.task) == "model" for fact in _starts(facts))


def _paths(
    state: Session, facts: Sequence[f.AnyFact]
) -> tuple[dict[str, tuple[f.WindowItem, ...]], dict[str, tuple[f.SummaryItem, ...]]]:
    paths: dict[str, tuple[f.WindowItem, ...]] = {}
    summaries: dict[str, tuple[f.SummaryItem, ...]] = {}
    for fact in facts:
        if isinstance(fact, f.RunAccepted) and fact.leaf_id is not None:
            paths.setdefault(fact.leaf_id, ())
        elif isinstance(fact, f.RunStarted | f.SessionLeaf) and fact.window is not None:
            leaf = fact.parent if isinstance(fact, f.RunStarted) else fact.leaf
            if leaf is not None:
                paths[leaf], summaries[leaf] = fact.window, fact.summaries
    return paths, summaries


# ---- what was asked -----------------------------------------------------------------------------------------------


class _Group:
    """The facts of one command by their kinds."""

    def __init__(self, state: Session, facts: Sequence[f.AnyFact]) -> None:
        self.state = state
        self.facts = facts
        self.first: dict[type, Any] = {}
        for fact in facts:
            self.first.setdefault(type(fact), fact)
        begun = isinstance(facts[0], f.SessionCreated) and len(facts) > 1
        self.head: f.AnyFact = facts[1] if begun else facts[0]
        self.by = self.head.by or facts[0].by or AGENTD

    def of(self, kind: type[F]) -> F | None:
        return self.first.get(kind)

    def all(self, kind: type[F]) -> list[F]:
        return [fact for fact in self.facts if isinstance(fact, kind)] if kind in self.first else []

    def run(self, name: str | None) -> Run | None:
        return self.state.runs.get(name or "")


def commands(state: Session, facts: Sequence[f.AnyFact]) -> Iterator[i.AnyIntent]:
    """Commands that may have led to `facts` in `state`, the likeliest first; the last is always a `Wake`."""
    group = _Group(state, facts)
    scrubbed = _scrubbed(group)
    for found in (_asked, _memory, _reported, _by_person, _cancelled, _told):
        for intent in found(group):
            yield _with_scrubbed(intent, scrubbed)
    yield i.Wake(by=group.by)


def _scrubbed(group: _Group) -> tuple[str, ...]:
    for fact in group.all(f.Warned):
        if fact.code == "scrubbed" and fact is not group.head and fact.details is not None:
            return tuple(fact.details.get("rules", ()))
    return ()


def _with_scrubbed(intent: i.AnyIntent, rules: tuple[str, ...]) -> i.AnyIntent:
    if not rules:
        return intent
    return type(intent)(**{**_fields(intent), "scrubbed": rules})


def _fields(intent: i.AnyIntent) -> dict[str, Any]:
    return {name: getattr(intent, name) for name in intent.__struct_fields__}


def _asked(group: _Group) -> Iterator[i.AnyIntent]:
    """What a client asks of a session, beside its memory."""
    if (accepted := group.of(f.RunAccepted)) is not None:
        yield i.StartRun(
            by=accepted.by or group.by, run=accepted.run or "", kind=accepted.kind, content=accepted.content,
            leaf_id=accepted.leaf_id, mode="interrupt" if accepted.front else "enqueue", overflow=accepted.overflow,
            key=accepted.key, body_hash=accepted.body_hash,
        )  # fmt: skip
    said = next((fact for fact in group.all(f.RunInput) if fact.entry is None), None)
    if said is not None:
        yield i.AddInput(by=said.by or group.by, mode=said.mode, content=said.content, run=said.run)
    created = group.of(f.SessionCreated)
    if created is not None and created.branched_from is not None:
        at = created.branched_from
        yield i.BeginBranch(
            by=group.by, origin=at.session, leaf=at.entry, window=created.window, summaries=created.summaries
        )
    if (mode := group.of(f.SessionMode)) is not None:
        yield i.SetMode(by=group.by, mode=mode.mode, reason=mode.reason)
    if (leaf := group.of(f.SessionLeaf)) is not None and leaf.leaf is not None:
        yield i.SetLeaf(by=group.by, leaf=leaf.leaf)
    if (epoch := group.of(f.SessionEpoch)) is not None:
        if epoch.reason == "cleared":
            yield i.ClearSaturation(by=epoch.by or group.by)
        yield i.NewEpoch(by=epoch.by or group.by, reason=epoch.reason)
    if (part := group.of(f.MemoryImported)) is not None:
        yield i.Import(
            by=group.by, timestamp_ms=part.timestamp_ms, reason=part.reason, items=part.items, part=part.part,
            last=part.last,
        )  # fmt: skip


def _memory(group: _Group) -> Iterator[i.AnyIntent]:
    """Acts on working memory, of a client or of the memory manager. What left it because it was full is no act."""
    told = [fact for fact in group.all(f.MemoryEvent) if fact.event != "evict" or fact.by is not None]
    if not told:
        return
    fact = told[0]
    by = fact.by or group.by
    match fact.event:
        case "load":
            yield i.LoadMemory(by=by, id=fact.ids[0])
        case "update" | "pin":
            content = next((one.content for one in told if one.event == "update"), None)
            pinned = next((one.pinned for one in told if one.event == "pin"), None)
            yield i.UpdateMemory(by=by, id=fact.ids[0], content=content, pinned=pinned)
        case "evict":
            yield i.EvictMemory(by=by, id=fact.ids[0])
        case "forget":
            yield i.ForgetMemory(by=by, ids=fact.ids, summaries=fact.replaces)
        case "prune":
            yield i.Prune(by=by, ids=fact.ids)
        case "failed":
            yield i.CompactFailed(
                by=by, first=fact.range[0], last=fact.range[1], count=fact.count, reason=fact.reason or ""
            )
        case _:  # summarize
            yield from _summarized(group, fact, by)


def _summarized(group: _Group, fact: f.MemoryEvent, by: f.By) -> Iterator[i.AnyIntent]:
    if fact.item is None:
        return
    text = fact.summary or ""
    if fact.by is None:
        yield i.Compact(
            by=by, epoch=group.state.epoch, seq=group.state.seq, ids=fact.ids, item=fact.item, content=text,
            replaces=fact.replaces, gap=not fact.ids and not fact.replaces, usage=fact.usage,
        )  # fmt: skip
        return
    if fact.item.origin == "user":
        yield i.SummarizeMemory(by=by, ids=fact.ids, summary=fact.item.id, content=text)
    yield i.SummarizeMemory(by=by, ids=fact.ids, summary=fact.item.id)


def _reported(group: _Group) -> Iterator[i.AnyIntent]:
    """What the planner, a worker or a recovery reports."""
    ends = group.all(f.AgentStatus)
    recovered = next((fact for fact in ends if fact.by is not None and fact.by.via == "recovery"), None)
    failed = group.of(f.RunFailed)
    if recovered is not None or (
        failed is not None and failed.cause is not None and failed.cause.code == "no_progress"
    ):
        by = recovered.by if recovered is not None and recovered.by is not None else group.by
        yield i.Recovered(by=by)
        yield i.Recovered(by=by, drained=True)
    yield from _planned(group, ends)
    yield from _answered(group, ends)
    yield from _called(group)
    for fact in ends:
        run = group.run(fact.run)
        if fact.by is None and fact.attempt is not None and fact.status != "running" and run is not None:
            yield _task_ended(group, fact)
            break


def _planned(group: _Group, ends: list[f.AgentStatus]) -> Iterator[i.AnyIntent]:
    plan = group.of(f.AgentPlan)
    failed = next((fact for fact in ends if fact.task == "planning" and fact.status == "failed"), None)
    outcome = plan or failed
    run = group.run(outcome.run) if outcome is not None else None
    if outcome is None or run is None:
        return
    told = tuple(
        (fact.code, fact.message) for fact in group.all(f.Warned) if fact.source == "planner" and fact.run == run.id
    )
    common: dict[str, Any] = {"by": group.by, "run": run.id, "attempt": run.planning.number, "told": told}
    if isinstance(outcome, f.AgentPlan):
        yield i.PlanProposed(
            **common, goal=outcome.goal, tasks=outcome.tasks, gates=outcome.gates, groups=outcome.groups,
            fail_policy=outcome.fail_policy,
        )  # fmt: skip
    else:
        yield i.PlanProposed(**common, failure=outcome.cause, usage=outcome.usage)


def _answered(group: _Group, ends: list[f.AgentStatus]) -> Iterator[i.AnyIntent]:
    words = group.of(f.SessionReceive)
    failed = next((fact for fact in ends if fact.task == "answer" and fact.status == "failed"), None)
    outcome = failed or words
    run = group.run(outcome.run) if outcome is not None else None
    if outcome is None or run is None:
        return
    common: dict[str, Any] = {
        "by": group.by, "run": run.id, "task": "answer", "attempt": run.answer.number, "step": run.answer.step,
        "usage": outcome.usage,
    }  # fmt: skip
    if words is not None:
        common.update(usage=words.usage, message_id=words.message)
    if isinstance(outcome, f.SessionReceive):
        yield i.AttemptEnded(**common, outcome="done", result=outcome.content, finish_reason=outcome.finish_reason)
    else:
        shown = words.content if words is not None else ""
        yield i.AttemptEnded(**common, outcome="failed", cause=outcome.cause, shown=shown)


def _called(group: _Group) -> Iterator[i.AnyIntent]:
    """Calls of tools. An attempt's end closes what it left open; that is not their own end."""
    fact = group.head
    if isinstance(fact, f.ToolCalled):
        common: dict[str, Any] = {
            "by": group.by, "run": fact.run, "task": fact.task, "attempt": fact.attempt, "call": fact.call,
            "tool": fact.tool, "input": fact.input,
        }  # fmt: skip
        ended = group.of(f.ToolFailed)
        if ended is not None and ended.call == fact.call and ended.error.kind == "skipped":
            yield i.CallSkipped(**common)
        else:
            yield i.CallBegan(**common, effect=fact.effect)
    elif isinstance(fact, f.ToolResult | f.ToolFailed):
        output, error = (fact.output, None) if isinstance(fact, f.ToolResult) else (None, fact.error)
        yield i.CallEnded(
            by=group.by, run=fact.run or "", task=fact.task, attempt=fact.attempt, call=fact.call, tool=fact.tool,
            output=output, error=error,
        )  # fmt: skip


def _task_ended(group: _Group, fact: f.AgentStatus) -> i.AttemptEnded:
    words: dict[str, i.Outcome] = {
        "done": "done", "failed": "failed", "retrying": "failed", "cancelled": "cancelled",
        "needs_review": "needs_review",
    }  # fmt: skip
    return i.AttemptEnded(
        by=group.by, run=fact.run or "", task=fact.task, attempt=fact.attempt or 0, outcome=words[fact.status],
        result=_uncut(group, fact), cause=fact.cause, usage=fact.usage,
    )  # fmt: skip


def _uncut(group: _Group, fact: f.AgentStatus) -> Any:
    """Of a result that was cut, one of the same length that is cut to the same."""
    for told in group.all(f.Warned):
        details = told.details or {}
        if told.code == "result_cut" and details.get("task") == fact.task and isinstance(fact.result, str):
            missing = int(details["bytes"]) - byte_length(fact.result)
            return fact.result + _FILLING[4] * (missing // 4) + _FILLING[missing % 4]
    return fact.result


def _by_person(group: _Group) -> Iterator[i.AnyIntent]:
    """What an operator or the user decides about tasks and gates."""
    if (gate := group.of(f.GateDecided)) is not None:
        yield i.DecideGate(
            by=gate.by or group.by, approve=gate.status == "approved", gate=gate.gate, run=gate.run, note=gate.note
        )
    fact = group.of(f.AgentStatus)
    run = group.run(fact.run) if fact is not None else None
    if fact is None or fact.by is None or run is None or fact.task not in run.tasks:
        return
    by, task = fact.by, run.tasks[fact.task]
    if fact.status == "retrying":
        yield i.RetryTask(by=by, task=fact.task, run=run.id)
    elif task.status == "needs_review" and task.spec.kind == "question" and fact.status == "done":
        yield i.AnswerQuestion(by=by, task=fact.task, value=fact.result, run=run.id)
    elif task.status == "needs_review" and fact.status in ("done", "failed"):
        yield i.DecideGate(by=by, approve=fact.status == "done", task=fact.task, run=run.id, note=fact.message)
    if fact.status in ("cancelled", "skipped"):
        yield i.Cancel(by=by, run=run.id, task=fact.task)


def _cancelled(group: _Group) -> Iterator[i.AnyIntent]:
    """A cancel by somebody; or the last attempt of a run that is being cancelled has ended without a word."""
    asked = [fact for fact in (*group.all(f.RunCancelling), *group.all(f.RunCancelled)) if fact.by is not None]
    if asked:
        by = asked[0].by or group.by
        if len({fact.run for fact in asked}) == 1:
            yield i.Cancel(by=by, run=asked[0].run)
        yield i.Cancel(by=by)
    run = group.state.run
    if run is not None and run.state == "cancelling" and (run.planning.active or run.answer.active):
        attempt = run.planning if run.planning.active else run.answer
        yield i.AttemptEnded(
            by=group.by, run=run.id, task="planning" if run.planning.active else "answer", attempt=attempt.number,
            step=attempt.step, outcome="cancelled",
        )  # fmt: skip


def _told(group: _Group) -> Iterator[i.AnyIntent]:
    """Warnings, and words that are placed before the next model step of a task."""
    fact = group.head
    if isinstance(fact, f.Warned):
        yield i.Warn(
            by=group.by, code=fact.code, message=fact.message, source=fact.source, run=fact.run, details=fact.details
        )
    run = group.run(fact.run)
    if isinstance(fact, f.RunInput) and run is not None and run.running:
        name = run.running[0]
        yield i.PlaceInputs(by=group.by, run=run.id, task=name, attempt=run.tasks[name].attempt)
