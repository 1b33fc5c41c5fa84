"""Forgetting: what a stored fact says when the words of some entries have to go (rulings 30).

Numbers, ids, kinds and sizes stay, so that the log replays to the same figures; `forgotten` says that words miss.
What another entry says is another entry: an answer that quotes its question is forgotten by its own id.
"""

import msgspec
from msgspec.structs import replace

from agentd.core.tokens import byte_length
from agentd.protocol import facts as f
from agentd.protocol.codec import decode_fact, encode

# Warnings that may quote what a run was about.
_QUOTING = frozenset({"output_invalid", "plan_cut", "prompt_cut", "planner_fallback"})


class Gone(msgspec.Struct, frozen=True):
    """Ids of entries (summaries and plans among them) whose words go."""

    ids: frozenset[str]

    @property
    def runs(self) -> frozenset[str]:
        """Runs whose own words go: all that was planned and done for them is made of these words."""
        return frozenset(name.removesuffix(".u") for name in self.ids if name.endswith(".u"))


def touched_runs(ids: frozenset[str]) -> frozenset[str]:
    """Runs with facts that hold words of these entries; entries are named after the run that made them."""
    return frozenset(name.partition(".")[0] for name in ids if "." in name)


def blanked(body: bytes, gone: Gone) -> bytes | None:
    """The stored fact without those words; None when it has none of them."""
    fact = decode_fact(body)
    less = _blanked(fact, gone)
    return None if less == fact else encode(less)


def _blanked(fact: f.AnyFact, gone: Gone) -> f.AnyFact:
    run = fact.run or ""
    match fact:
        case f.RunAccepted() if run in gone.runs:
            return replace(fact, content="", bytes=_size(fact.content, fact.bytes), forgotten=True)
        case f.RunInput() if (fact.entry or f"{run}.i{fact.input}") in gone.ids:
            return replace(fact, content="", bytes=_size(fact.content, fact.bytes), forgotten=True)
        case f.SessionReceive() if fact.entry in gone.ids:
            return replace(fact, content="", bytes=_size(fact.content, fact.bytes), forgotten=True)
        case f.AgentPlan() if run in gone.runs:
            return replace(fact, goal="", tasks=tuple(map(_task, fact.tasks)), forgotten=True)
        case f.AgentStatus() if run in gone.runs:
            cause = replace(fact.cause, message="") if fact.cause is not None else None
            return replace(fact, message="", result=None, cause=cause)
        case f.ToolCalled() if run in gone.runs:
            return replace(fact, input=None)
        case f.ToolResult() if run in gone.runs:
            return replace(fact, output=None)
        case f.ToolFailed() if run in gone.runs:
            return replace(fact, error=replace(fact.error, message=""))
        case f.RunCompleted() | f.RunFailed() | f.RunCancelled() if fact.plan and (
            run in gone.runs or f"{run}.p" in gone.ids
        ):
            return replace(fact, plan="", forgotten=True)
        case f.Warned() if run in gone.runs and fact.code in _QUOTING:
            return replace(fact, message="", details=None)
        case f.MemoryEvent():
            return _memory(fact, gone)
        case f.MemoryImported():
            items = tuple(replace(one, content="") if one.id in gone.ids else one for one in fact.items)
            return replace(fact, items=items)
        case _:
            return fact


def _task(task: f.PlanTask) -> f.PlanTask:
    return replace(task, title="", prompt=None, input=None, question=None)


def _memory(fact: f.MemoryEvent, gone: Gone) -> f.MemoryEvent:
    if fact.item is not None and fact.item.id in gone.ids and fact.summary:
        return replace(fact, summary="", forgotten=True)
    if fact.content and not gone.ids.isdisjoint(fact.ids):
        return replace(fact, content="", bytes=_size(fact.content, fact.bytes), forgotten=True)
    return fact


def _size(content: str, known: int | None) -> int:
    return known if known is not None else byte_length(content)
