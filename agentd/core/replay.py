"""Replay: the rules decide again on what is in the log, and have to come to the same facts.

`feed` takes the facts of one session in order, each with its step. The facts of one command are gathered; the command
is told from them (reconstruct.py), decided on in the state before them, and what comes out is compared fact by fact.
The state goes on by the facts that are stored, so that one difference does not become many. Only the open command and
the state are kept: a log may be of any length.

Not everything can be judged, and what can't is counted, never passed over in silence: words that were forgotten are not
there to be decided on again, and a log that begins with a snapshot does not say what was read before it. Logs of the
first release do not say under which limits a decision was made (`grounds`): those of the export's header are taken, and
a step of theirs that is more than one command is parted where the rules agree.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from agentd.core import intents as i
from agentd.core.evolve import evolve, known_caps
from agentd.core.lifecycle import IllegalMove
from agentd.core.reconstruct import commands, given
from agentd.core.session import decide
from agentd.core.state import SNAPSHOT_VERSION, Session
from agentd.protocol import facts as f
from agentd.protocol.codec import decode_fact, encode
from agentd.protocol.errors import AgentdError

PARTS_MAX = 64
RESULTS_MAX = 1_000
CONTENTS_MAX = 1_000
_state = msgspec.json.Decoder(Session)

# What holds words, or their sizes: not compared where words were forgotten.
_WORDS = frozenset(
    {"content", "bytes", "bytes_before", "bytes_after", "held", "forgotten", "goal", "title", "prompt", "question",
     "message", "hint", "input", "output", "result", "details", "plan", "memory", "summary", "window"}
)  # fmt: skip


class Difference(msgspec.Struct, frozen=True):
    """A fact that the rules do not come to. `told` is the one in the log (None: the rules tell one more), `again`
    theirs (None: they tell fewer, or refuse, as `why` says). `fields` are those that differ."""

    seq: int
    step: int
    why: str
    told: f.AnyFact | None = None
    again: f.AnyFact | None = None
    fields: tuple[str, ...] = ()


class Unreadable(Exception):
    """The snapshot that a log begins with can't be taken by this version."""


class Replay:
    """One session's log decided again: `feed` each fact, then `finish`.

    Where it stands: `state`; `facts` and `commands` that were judged. `unjudged`: commands that rest on words which are
    not there any more, or were read before the log begins. `assumed`: commands of the first release, judged under the
    limits that were given.
    """

    def __init__(self, session: str, caps: i.Caps) -> None:
        """`caps`: the limits where the log does not tell its own."""
        self.state = Session(key=session, agent="", owner="")
        self.facts = 0
        self.commands = 0
        self.unjudged = 0
        self.assumed = 0
        self._caps = caps
        self._step = 0
        self._behind = 0  # what the snapshot tells
        self._open: list[f.AnyFact] = []
        self._results: dict[str, Any] = {}
        self._contents: dict[str, str] = {}
        self._wordless: set[str] = set()
        self._came_to: Session | None = None  # by the rules, from facts equal to those that are stored

    def begin_from(self, seq: int, version: int, state: bytes) -> None:
        """Begin behind a snapshot. What its unfinished runs had read is not known.

        Raises:
            Unreadable: it was written by a newer version, or is spoiled.
        """
        if version > SNAPSHOT_VERSION:
            raise Unreadable(f"its snapshot has version {version}, known is {SNAPSHOT_VERSION}")
        try:
            self.state = _state.decode(state)
        except msgspec.MsgspecError as error:
            raise Unreadable(f"its snapshot can't be read: {error}") from None
        if self.state.seq != seq:
            raise Unreadable(f"its snapshot is of seq {self.state.seq}, said is {seq}")
        self._behind = seq
        self._wordless.update(self.state.runs)

    def feed(self, step: int, fact: f.AnyFact) -> Difference | None:
        """The next fact; what is wrong with the command before it."""
        if fact.seq <= self._behind:
            return None
        if isinstance(fact, f.SessionCreated) and not self.state.seq:  # whose it is, is known before its first fact
            self.state = replace(self.state, agent=fact.agent, owner=fact.owner)
        wrong = self._judge() if self._open and begins_command(step, fact) else None
        self._step = step
        self._open.append(fact)
        return wrong

    def finish(self) -> Difference | None:
        """No fact is left; what is wrong with the last command."""
        return self._judge() if self._open else None

    # ---- one command ------------------------------------------------------------------------------------------------

    def _judge(self) -> Difference | None:
        """The first difference of what is open; all of it counts for the state, whatever is found."""
        facts, self._open = self._open, []
        first: Difference | None = None
        while facts:
            count, wrong = self._parted(facts)
            if wrong is not None and self._rests_on_missing(facts[:count]):
                self.unjudged += 1
                wrong = None
            self.commands += 1
            self.facts += count
            wrong = self._follow(facts[:count]) or wrong
            first = first or wrong
            facts = facts[count:]
        return first

    def _parted(self, facts: list[f.AnyFact]) -> tuple[int, Difference | None]:
        """How many of these facts are one command, and what is wrong with it. Those with grounds say so themselves."""
        wrong = self._again(facts)
        grounds = facts[0].grounds
        if self.state.caps is not None or (grounds is not None and grounds.caps is not None):
            return len(facts), wrong
        self.assumed += 1
        if wrong is not None:
            for count in range(min(len(facts), PARTS_MAX), 0, -1):
                if self._again(facts[:count]) is None or self._again(facts[:count], held=True) is None:
                    return count, None
        return len(facts), wrong

    def _again(self, facts: Sequence[f.AnyFact], *, held: bool = False) -> Difference | None:
        """None when one of the commands that may have led to these facts does so; else how far the best one came.
        `held`: by the server's mode, where the facts do not say so."""
        grounds = facts[0].grounds
        caps = self.state.caps or self._caps
        if grounds is not None and grounds.caps is not None:
            caps = known_caps(caps, grounds.caps)
        taken = given(self.state, facts, caps, self._results, self._contents)
        if held:
            taken = replace(taken, server_paused=True)
        blank = self._blank(facts)
        best: Difference | None = None
        for intent in commands(self.state, facts):
            wrong = self._compared(facts, intent, taken, blank=blank)
            if wrong is None:
                return None
            if best is None or wrong.seq > best.seq:
                best = wrong
        return best

    def _compared(
        self, facts: Sequence[f.AnyFact], intent: i.AnyIntent, taken: i.Given, *, blank: bool
    ) -> Difference | None:
        name, first = type(intent).__name__, facts[0].seq
        self._came_to = None
        try:
            decision = decide(self.state, intent, taken)
        except AgentdError as error:
            return Difference(first, self._step, f"the rules refuse {name}: {error.message}", facts[0])
        except Exception as error:
            return Difference(first, self._step, f"the rules fail on {name}: {error!r}", facts[0])
        again, equal = decision.facts, True
        for told, mine in zip(facts, again, strict=False):
            if told == mine:
                continue
            equal = False
            if not _same(told, mine, blank=blank):
                return Difference(
                    told.seq, self._step, f"{name} leads to another fact", told, mine, _differing(told, mine)
                )
        at = min(len(again), len(facts))
        if len(again) == len(facts):
            self._came_to = decision.state if equal else None
            return None
        told_more, more = facts[at : at + 1], again[at : at + 1]
        return Difference(
            first + at, self._step, f"{name} leads to {len(again)} facts, the log has {len(facts)}",
            told_more[0] if told_more else None, more[0] if more else None,
        )  # fmt: skip

    # ---- what is known -----------------------------------------------------------------------------------------------

    def _blank(self, facts: Sequence[f.AnyFact]) -> bool:
        """Whether words of what these facts are about are missing."""
        for fact in facts:
            if fact.run is not None and getattr(fact, "forgotten", False):
                self._wordless.add(fact.run)
        return any(fact.run in self._wordless or getattr(fact, "forgotten", False) for fact in facts)

    def _rests_on_missing(self, facts: Sequence[f.AnyFact]) -> bool:
        for fact in facts:
            if isinstance(fact, f.MemoryImported) and any(not item.content for item in fact.items):
                return True
            if isinstance(fact, f.MemoryEvent) and fact.event == "summarize" and fact.by is not None:
                return any(not self._contents.get(name) for name in fact.ids)
        return self._blank(facts)

    def _follow(self, facts: Sequence[f.AnyFact]) -> Difference | None:
        """The state goes on by what is stored; what later decisions look at beside it is kept."""
        before, wrong = self.state, None
        if self._came_to is not None:  # the same facts lead to the same state
            self.state = self._came_to
        else:
            wrong = self._evolve(facts)
        for fact in facts:
            self._keep(before, fact)
        return wrong

    def _evolve(self, facts: Sequence[f.AnyFact]) -> Difference | None:
        for fact in facts:
            try:
                self.state = evolve(self.state, fact)
            except (IllegalMove, KeyError) as error:
                self.state = replace(self.state, seq=fact.seq, ts=fact.ts)
                return Difference(fact.seq, self._step, f"it may not follow: {error}", fact)
        return None

    def _keep(self, before: Session, fact: f.AnyFact) -> None:
        match fact:
            case f.RunStarted():
                self._results = {}
                run = self.state.runs.get(fact.run or "") or before.runs.get(fact.run or "")
                self._contents[fact.entry] = run.content if run is not None else ""
            case f.AgentStatus(status="done") if len(self._results) < RESULTS_MAX:
                self._results[fact.task] = fact.result
            case f.SessionReceive():
                self._contents[fact.entry] = fact.content
            case f.RunInput() if fact.entry is not None:
                self._contents[fact.entry] = fact.content
            case f.MemoryEvent(event="update") if fact.content is not None:
                self._contents[fact.ids[0]] = fact.content
            case f.RunCompleted() | f.RunFailed() | f.RunCancelled():
                self._wordless.discard(fact.run or "")
                if fact.memory is not None:
                    self._contents[fact.memory.id] = fact.plan or ""
            case _:
                return
        if len(self._contents) > len(self.state.window) + CONTENTS_MAX:
            held = {item.id for item in self.state.window}
            self._contents = {name: words for name, words in self._contents.items() if name in held}


def begins_command(step: int, fact: f.AnyFact) -> bool:
    """Whether a command's facts begin with this one; in the first release, a step's."""
    return step == fact.seq or (fact.grounds is not None and fact.grounds.nth > 1)


def _same(told: f.AnyFact, mine: f.AnyFact, *, blank: bool) -> bool:
    """As they would be stored, but for the grounds, which are what replay itself was given."""
    mine = decode_fact(encode(replace(mine, grounds=None)))
    told = replace(told, grounds=None)
    return told == mine or (blank and _without_words(told) == _without_words(mine))


def _without_words(fact: f.AnyFact) -> Any:
    return _pruned(msgspec.to_builtins(fact))


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _pruned(item) for name, item in value.items() if name not in _WORDS}
    return [_pruned(item) for item in value] if isinstance(value, list) else value


def _differing(told: f.AnyFact, mine: f.AnyFact) -> tuple[str, ...]:
    one, other = msgspec.to_builtins(told), msgspec.to_builtins(mine)
    names = [name for name in {**one, **other} if name != "grounds"]
    return tuple(name for name in names if one.get(name) != other.get(name))
