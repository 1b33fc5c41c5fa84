"""Views: what of a step becomes rows, as a function of its facts, the states around it and the words they speak of.

Rows go down in the same transaction as the facts, so a list is never older than the log. A row is written when it
changes, once per step. Nothing else makes rows; rebuilding them from the log is this function over all steps again.
"""

from collections.abc import Mapping, Sequence

from agentd.core.state import Run, Session
from agentd.protocol import facts as f
from agentd.protocol.codec import encode
from agentd.store.store import ContentRow, EntryRow, ForgetRow, KeyRow, PrunedRow, Row, RunRow, SessionRow

# Most facts of a goal; what they change is in the session's state (design 6).
_WITHOUT_ROWS = (f.AgentStatus, f.AgentProgress, f.AgentPlan, f.ToolCalled, f.ToolResult, f.ToolFailed, f.GateDecided)


def rows_of(before: Session, facts: Sequence[f.AnyFact], after: Session, wake_at: int | None) -> list[Row]:
    """The rows that a step writes."""
    changed = _shown(before) != _shown(after) or before.seq == 0
    facts = [fact for fact in facts if not isinstance(fact, _WITHOUT_ROWS)]
    if not facts:
        return [session_row(after, wake_at)] if changed else []
    runs: dict[str, RunRow] = {}
    rows: list[Row] = []
    known: dict[str, Run] = {**before.runs, **after.runs}
    contents: dict[str, str] = {}
    epochs: dict[str, int] = {}
    for fact in facts:
        match fact:
            case f.RunAccepted():
                contents[fact.run or ""] = fact.content
                epochs[fact.run or ""] = fact.epoch
                runs[fact.run or ""] = RunRow(
                    run=fact.run or "", session=after.key, kind=fact.kind, state="queued", accepted=fact.ts,
                    started=None, ended=None, cause=None,
                )  # fmt: skip
                if fact.key is not None and fact.body_hash is not None:
                    key = KeyRow(
                        session=after.key, key=fact.key, body_hash=fact.body_hash, run=fact.run or "", ts=fact.ts
                    )
                    rows.append(key)
            case f.RunStarted():
                run = known.get(fact.run or "")
                content = contents.get(fact.run or "") or (run.content if run is not None else "")
                epoch = epochs.get(fact.run or "", run.epoch if run is not None else 0)
                size = run.bytes if run is not None else None
                rows.append(_entry(fact, fact.entry, fact.parent, "user", content, epoch, size))
                runs[fact.run or ""] = _run(runs, known, fact, "running", started=fact.ts)
            case f.RunInput(entry=str() as entry):
                epoch = _epoch(known, epochs, fact)
                rows.append(_entry(fact, entry, fact.parent, "user", fact.content, epoch, fact.bytes))
            case f.SessionReceive():
                epoch = _epoch(known, epochs, fact)
                rows.append(_entry(fact, fact.entry, fact.parent, fact.role, fact.content, epoch, fact.bytes))
            case f.RunWaiting():
                runs[fact.run or ""] = _run(runs, known, fact, "waiting")
            case f.RunContinued():
                runs[fact.run or ""] = _run(runs, known, fact, "running")
            case f.RunCancelling():
                runs[fact.run or ""] = _run(runs, known, fact, "cancelling")
            case f.RunCompleted() | f.RunFailed() | f.RunCancelled():
                state = str(fact.__struct_config__.tag).removeprefix("run.")
                cause = encode(fact.cause) if fact.cause is not None else None
                runs[fact.run or ""] = _run(runs, known, fact, state, ended=fact.ts, cause=cause)
                if fact.memory is not None:
                    rows.append(_plan(fact, known, _epoch(known, epochs, fact)))
            case f.MemoryEvent():
                rows.extend(_remembered(fact, after.epoch))
            case f.MemoryImported():
                rows.extend(_imported(fact, item, after.epoch) for item in fact.items)
            case _:
                pass
    rows.extend(runs.values())
    if changed:
        rows.append(session_row(after, wake_at))
    return rows


def session_row(state: Session, wake_at: int | None) -> SessionRow:
    return SessionRow(
        key=state.key, agent=state.agent, owner=state.owner, created=state.created, mode=state.mode,
        epoch=state.epoch, leaf=state.leaf, unfinished=len(state.runs), wake_at=wake_at, updated=state.ts,
    )  # fmt: skip


def _shown(state: Session) -> tuple[object, ...]:
    return (state.mode, state.epoch, state.leaf, len(state.runs))


def _entry(
    fact: f.AnyFact, entry: str, parent: str | None, role: str, content: str, epoch: int, size: int | None
) -> EntryRow:
    """`size`: that of words that were forgotten since; None when they are all there."""
    return EntryRow(
        id=entry,
        session=fact.session,
        parent=parent,
        epoch=epoch,
        role=role,
        kind="message",
        origin="agent" if role == "assistant" else role,
        content=content,
        run=fact.run,
        ts=fact.ts,
        seq=fact.seq,
        bytes=size,
        forgotten=size is not None,
    )


def _plan(fact: f.RunEnded, known: Mapping[str, Run], epoch: int) -> EntryRow:
    """What is kept of a plan, outside the tree, related to the run's newest entry (rulings 34)."""
    assert fact.memory is not None
    run = known.get(fact.run or "")
    related = run.tip if run is not None and run.tip is not None else f"{fact.run}.u"
    return EntryRow(
        id=fact.memory.id, session=fact.session, parent=None, epoch=epoch, role="system", kind="plan", origin="agent",
        content=fact.plan or "", run=fact.run, ts=fact.ts, seq=fact.seq, related_to=related,
        bytes=fact.memory.bytes, forgotten=fact.forgotten,
    )  # fmt: skip


def _remembered(fact: f.MemoryEvent, epoch: int) -> list[Row]:
    """A summary is an entry outside the tree; other words, or none, for an entry take the place of its own."""
    if fact.item is not None:
        item = fact.item
        return [
            EntryRow(
                id=item.id, session=fact.session, parent=None, epoch=epoch, role="system", kind="summary",
                origin=item.origin, content=fact.summary or "", run=None, ts=fact.ts, seq=fact.seq,
                related_to=item.last, first=item.first, last=item.last, bytes=item.bytes, forgotten=fact.forgotten,
            )
        ]  # fmt: skip
    if fact.event == "update" and fact.content is not None:
        return [ContentRow(session=fact.session, id=name, content=fact.content) for name in fact.ids]
    if fact.event == "prune":
        return [PrunedRow(session=fact.session, ids=fact.ids)]
    if fact.event == "forget":
        return [
            PrunedRow(session=fact.session, ids=(*fact.ids, *fact.replaces)),
            ForgetRow(session=fact.session, seq=fact.seq, ids=fact.ids),
        ]
    return []


def _imported(fact: f.MemoryImported, item: f.ImportedItem, epoch: int) -> EntryRow:
    summary = item.kind == "summary"
    return EntryRow(
        id=item.id, session=fact.session, parent=None if summary else item.parent, epoch=epoch, role=item.role,
        kind=item.kind, origin={"user": "user", "assistant": "agent", "tool": "tool"}.get(item.role, "system"),
        content=item.content, run=None, ts=item.ts, seq=fact.seq, related_to=item.related_to,
        first=item.related_to if summary else None, last=item.related_to if summary else None,
    )  # fmt: skip


def _epoch(known: Mapping[str, Run], epochs: Mapping[str, int], fact: f.AnyFact) -> int:
    run = known.get(fact.run or "")
    return epochs.get(fact.run or "", run.epoch if run is not None else 0)


def _run(
    runs: Mapping[str, RunRow],
    known: Mapping[str, Run],
    fact: f.AnyFact,
    state: str,
    *,
    started: int | None = None,
    ended: int | None = None,
    cause: bytes | None = None,
) -> RunRow:
    """The run's row with its new state, from this step's own row or from the state."""
    name = fact.run or ""
    row, run = runs.get(name), known.get(name)
    kind = row.kind if row is not None else run.kind if run is not None else ""
    accepted = row.accepted if row is not None else run.accepted if run is not None else 0
    began = row.started if row is not None else run.started if run is not None else None
    return RunRow(
        run=name, session=fact.session, kind=kind, state=state, accepted=accepted,
        started=started if started is not None else began, ended=ended, cause=cause,
    )  # fmt: skip
