"""Working memory under random operations: its laws, and each act on it (S5, S6, S7; rulings 29 to 34)."""

import itertools
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentd.core import intents as i
from agentd.core.evolve import evolve
from agentd.core.memory import (
    SUMMARIES_MAX,
    SUMMARY_BYTES_MAX,
    TOMBSTONES_HIGH,
    Range,
    level,
    next_range,
    protected,
)
from agentd.core.session import decide
from agentd.core.state import Session
from agentd.core.window import TOMBSTONES_MAX
from agentd.protocol import facts as f
from agentd.protocol.codec import decode_fact, encode
from agentd.protocol.errors import Conflict, NotFound

BY = f.By(principal="local", via="ws")
SELF = f.By(principal="agentd", via="memory")
CAPS = i.Caps(ram_entries=8, ram_bytes=400, high_water=0.9, low_water=0.5)


class Talk:
    """One session, its log, and the long-term memory that its facts make."""

    def __init__(self, caps: i.Caps = CAPS) -> None:
        self.caps = caps
        self.state = Session(key="s", agent="default", owner="local")
        self.log: list[bytes] = []
        self.words: dict[str, str] = {}
        self.parents: dict[str, str | None] = {}
        self.turns = 0
        self.now = 1_000

    def tell(self, intent: i.AnyIntent, **given: Any) -> i.Answer | None:
        self.now += 1
        decision = decide(self.state, intent, i.Given(now=self.now, models=4, caps=self.caps, **given))
        for fact in decision.facts:
            self.log.append(encode(fact))
            self._keep(fact)
        self.state = decision.state
        return decision.answer

    def _keep(self, fact: f.AnyFact) -> None:
        match fact:
            case f.RunAccepted():
                self.words[f"{fact.run}.u"] = fact.content
            case f.RunStarted():
                self.parents[fact.entry] = fact.parent
            case f.SessionReceive():
                self.words[fact.entry] = fact.content
                self.parents[fact.entry] = fact.parent
            case f.MemoryEvent() if fact.item is not None:
                self.words[fact.item.id] = fact.summary or ""
            case _:
                pass

    def turn(self, said: str, answered: str) -> str:
        self.turns += 1
        run = f"run_{self.turns:06}"
        self.tell(i.StartRun(by=BY, run=run, kind="chat", content=said))
        current = self.state.run
        assert current is not None
        assert f"{run}.u" in {item.id for item in self.state.window}, "the current turn is always in memory"
        self.tell(
            i.AttemptEnded(by=BY, run=run, task="answer", attempt=1, outcome="done", result=answered, message_id="m")
        )
        return run

    def path(self) -> list[str]:
        found, leaf = [], self.state.leaf
        while leaf is not None:
            found.append(leaf)
            leaf = self.parents[leaf]
        found.reverse()
        return found

    def compact(self, text: str = "what was said", *, going: bool = False) -> Range | None:
        found = next_range(self.state, self.caps, going=going)
        if found is not None:
            item = f.SummaryItem(
                id=f"sum_{len(self.log)}", first=found.first, last=found.last, entries=found.entries, bytes=0,
                origin="agent",
            )  # fmt: skip
            self.tell(
                i.Compact(
                    by=SELF, epoch=self.state.epoch, seq=self.state.seq, ids=found.ids, item=item, content=text,
                    replaces=found.replaces,
                    gap=found.gap,
                )
            )  # fmt: skip
        return found


def check(talk: Talk) -> None:
    """What holds after every step."""
    state, caps = talk.state, talk.caps
    assert len(state.window) <= caps.ram_entries
    assert state.window_bytes <= caps.ram_bytes
    assert state.window_bytes == sum(item.bytes for item in state.window)
    assert len(state.tombstones) <= TOMBSTONES_MAX
    ids = [item.id for item in (*state.window, *state.tombstones)]
    assert len(set(ids)) == len(ids), "an id stands once"
    assert protected(state) <= {item.id for item in state.window}, "the current turn is always in memory"
    pins = [item for item in state.window if item.pinned]
    assert 2 * len(pins) <= caps.ram_entries
    assert sum(one.bytes for one in state.summaries) <= (SUMMARIES_MAX + 1) * SUMMARY_BYTES_MAX
    path = talk.path()
    for one in state.summaries:
        assert path.index(one.first) <= path.index(one.last), "a summary's range lies on the path"
    for name in path:
        assert name in talk.words, "everything that was said is in long-term memory"


def replayed(talk: Talk) -> Session:
    state = Session(key="s", agent="default", owner="local")
    for body in talk.log:
        state = evolve(state, decode_fact(body))
    return state


_OPERATIONS = st.one_of(
    st.tuples(st.just("turn"), st.integers(1, 130), st.integers(0, 130)),
    st.tuples(st.just("compact"), st.booleans(), st.integers(0, 5_000)),
    st.tuples(st.just("load"), st.integers(0, 30), st.just(0)),
    st.tuples(st.just("evict"), st.integers(0, 10), st.just(0)),
    st.tuples(st.just("pin"), st.integers(0, 10), st.integers(0, 1)),
    st.tuples(st.just("update"), st.integers(0, 10), st.integers(1, 200)),
    st.tuples(st.just("summarize"), st.integers(0, 10), st.integers(1, 3)),
    st.tuples(st.just("forget"), st.integers(0, 30), st.just(0)),
    st.tuples(st.just("new"), st.just(0), st.just(0)),
    st.tuples(st.just("leaf"), st.integers(0, 30), st.just(0)),
)


def _do(talk: Talk, operation: tuple[str, int, int]) -> None:
    kind, one, other = operation
    window = talk.state.window
    said = [name for name in talk.words if name in talk.parents]
    at = window[one % len(window)].id if window else "none"
    match kind:
        case "turn":
            talk.turn("u" * one, "a" * other)
        case "compact":
            talk.compact("s" * other, going=bool(one))
        case "load" if said:
            name = said[one % len(said)]
            item = f.WindowItem(
                id=name, role="user", kind="message", bytes=min(len(talk.words[name]), 100), loaded=True
            )
            talk.tell(i.LoadMemory(by=BY, id=name), items={name: item})
        case "evict":
            talk.tell(i.EvictMemory(by=BY, id=at))
        case "pin":
            talk.tell(i.UpdateMemory(by=BY, id=at, pinned=bool(other)))
        case "update":
            talk.tell(i.UpdateMemory(by=BY, id=at, content="n" * other))
        case "summarize":
            ids = tuple(item.id for item in window[one : one + other]) or ("none",)
            talk.tell(i.SummarizeMemory(by=BY, ids=ids, summary=f"sum_c{len(talk.log)}"), contents=talk.words)
        case "forget" if said:
            talk.tell(i.ForgetMemory(by=BY, ids=(said[one % len(said)],)))
        case "new":
            talk.tell(i.NewEpoch(by=BY))
        case "leaf" if said:
            name = said[one % len(said)]
            path: list[f.WindowItem] = []
            at_: str | None = name
            while at_ is not None:
                path.append(f.WindowItem(id=at_, role="user", kind="message", bytes=min(len(talk.words[at_]), 100)))
                at_ = talk.parents[at_]
            path.reverse()
            talk.tell(i.SetLeaf(by=BY, leaf=name), paths={name: tuple(path[-64:])})


@given(st.lists(_OPERATIONS, max_size=40))
@settings(max_examples=150, deadline=None)
def test_the_budget_holds_and_nothing_is_lost_whatever_is_done(operations: list[tuple[str, int, int]]) -> None:
    talk = Talk()
    for operation in operations:
        with suppress(NotFound, Conflict):
            _do(talk, operation)
        check(talk)
    assert replayed(talk) == talk.state, "the log gives the same memory"


def test_ids_never_repeat_also_after_a_fresh_epoch() -> None:
    talk = Talk()
    talk.turn("one", "two")
    first = set(talk.words)
    talk.tell(i.NewEpoch(by=BY))
    assert talk.state.window == ()
    assert talk.state.summaries == ()
    talk.turn("one", "two")
    assert len(set(talk.words)) == 2 * len(first)


def test_the_manager_begins_at_the_high_mark_and_ends_below_the_low_one() -> None:
    talk = Talk()
    talk.turn("u" * 10, "a" * 10)
    assert talk.compact() is None
    while level(talk.state, CAPS) < CAPS.high_water:
        talk.turn("u" * 10, "a" * 10)
    assert talk.compact() is not None
    while talk.compact(going=True) is not None:
        pass
    assert level(talk.state, CAPS) <= CAPS.low_water
    assert talk.compact() is None, "and rests until the high mark is met again"


def test_a_question_is_not_parted_from_its_answer() -> None:
    talk = Talk()
    for _ in range(4):
        talk.turn("u" * 40, "a" * 40)
    found = next_range(talk.state, CAPS, going=False)
    assert found is not None
    assert found.last.endswith(".a1")


def test_summaries_are_merged_when_there_are_many() -> None:
    talk = Talk()
    for _ in range(200):
        talk.turn("u" * 10, "a" * 10)
        while talk.compact() is not None:
            pass
        check(talk)
    assert 1 <= len(talk.state.summaries) < SUMMARIES_MAX
    path = talk.path()
    covered = [(path.index(one.first), path.index(one.last)) for one in talk.state.summaries]
    assert covered[0][0] == 0, "the oldest is still in a summary"
    for (_, end), (begin, _) in itertools.pairwise(covered):
        assert begin == end + 1, "and nothing between two summaries is left out"


def test_a_summary_that_comes_too_late_leaves_no_fact() -> None:
    talk = Talk()
    for _ in range(4):
        talk.turn("u" * 10, "a" * 10)
    found = next_range(talk.state, CAPS, going=False)
    assert found is not None
    item = f.SummaryItem(id="sum", first=found.first, last=found.last, entries=2, bytes=0, origin="user")
    epoch = talk.state.epoch
    talk.tell(i.NewEpoch(by=BY))
    before = len(talk.log)
    talk.tell(i.Compact(by=SELF, epoch=epoch, seq=talk.state.seq, ids=found.ids, item=item, content="late"))
    talk.tell(i.Compact(by=SELF, epoch=talk.state.epoch, seq=talk.state.seq, ids=found.ids, item=item, content="late"))
    assert len(talk.log) == before


def test_the_same_range_is_summarised_once() -> None:
    talk = Talk()
    for _ in range(4):
        talk.turn("u" * 10, "a" * 10)
    found = talk.compact()
    assert found is not None
    before = len(talk.log)
    item = f.SummaryItem(id="again", first=found.first, last=found.last, entries=2, bytes=0, origin="user")
    talk.tell(i.Compact(by=SELF, epoch=0, seq=talk.state.seq, ids=found.ids, item=item, content="again"))
    assert len(talk.log) == before


def test_what_a_summary_tells() -> None:
    talk = Talk()
    for _ in range(4):
        talk.turn("u" * 10, "a" * 10)
    found = talk.compact("x" * 9_999)
    assert found is not None
    fact = decode_fact(talk.log[-1])
    assert isinstance(fact, f.MemoryEvent)
    assert fact.item is not None
    assert fact.event == "summarize"
    assert fact.range == (found.first, found.last)
    assert fact.ids == found.ids
    assert fact.bytes_after == talk.state.window_bytes < fact.bytes_before
    assert fact.recall == {"type": "session.history", "leaf_id": found.last, "limit": found.entries}
    assert len(fact.summary or "") == SUMMARY_BYTES_MAX == fact.item.bytes


def test_one_entry_larger_than_its_share_is_held_in_part_and_wipes_nothing() -> None:
    talk = Talk()
    talk.turn("first", "answer")
    talk.turn("ü" * 5_000, "a" * 5_000)
    sizes = {item.id: item.bytes for item in talk.state.window}
    assert all(size <= CAPS.ram_bytes // 4 for size in sizes.values())
    assert "run_000001.u" in sizes, "the rest is still there"
    assert talk.words["run_000002.u"] == "ü" * 5_000


def test_pins_stay_and_take_at_most_half() -> None:
    talk = Talk()
    talk.turn("remember this", "yes")
    talk.tell(i.UpdateMemory(by=BY, id="run_000001.u", pinned=True))
    for _ in range(20):
        talk.turn("u" * 40, "a" * 40)
        talk.compact()
    assert any(item.id == "run_000001.u" and item.pinned for item in talk.state.window)
    refused = []
    for item in talk.state.window:
        try:
            talk.tell(i.UpdateMemory(by=BY, id=item.id, pinned=True))
        except Conflict as error:
            refused.append(error.details)
    assert refused
    assert all(details == {"reason": "pins"} for details in refused)


def test_a_loaded_entry_takes_the_place_of_the_oldest() -> None:
    talk = Talk()
    for _ in range(6):
        talk.turn("u" * 10, "a" * 10)
    gone = talk.state.tombstones[0].id
    item = f.WindowItem(id=gone, role="user", kind="message", bytes=10, loaded=True)
    while len(talk.state.window) < CAPS.ram_entries:
        talk.turn("x", "y")
    talk.tell(i.LoadMemory(by=BY, id=gone), items={gone: item})
    assert talk.state.window[0].id == gone
    assert gone not in {one.id for one in talk.state.tombstones}
    answer = talk.tell(i.LoadMemory(by=BY, id=gone), items={gone: item})
    assert isinstance(answer, i.MemoryChanged)
    assert answer.already
    check(talk)


@pytest.mark.parametrize(
    "intent",
    [
        i.LoadMemory(by=BY, id="none"),
        i.UpdateMemory(by=BY, id="none", content="x"),
        i.EvictMemory(by=BY, id="none"),
        i.SummarizeMemory(by=BY, ids=("none",), summary="s"),
    ],
)
def test_what_is_not_there_is_not_found(intent: i.AnyIntent) -> None:
    talk = Talk()
    talk.turn("a", "b")
    with pytest.raises(NotFound):
        talk.tell(intent)


def test_the_current_turn_is_neither_evicted_nor_summarised_nor_changed() -> None:
    talk = Talk()
    talk.turn("a", "b")
    talk.tell(i.StartRun(by=BY, run="run_x", kind="chat", content="now"))
    for intent in (
        i.EvictMemory(by=BY, id="run_x.u"),
        i.SummarizeMemory(by=BY, ids=("run_x.u",), summary="s", content="t"),
        i.UpdateMemory(by=BY, id="run_x.u", content="other"),
        i.ForgetMemory(by=BY, ids=("run_x.u",)),
    ):
        with pytest.raises(Conflict):
            talk.tell(intent)


def test_forgetting_leaves_a_gap_that_is_summarised_anew() -> None:
    talk = Talk()
    for _ in range(4):
        talk.turn("u" * 10, "a" * 10)
    found = talk.compact()
    assert found is not None
    summary = talk.state.summaries[0]
    talk.tell(i.ForgetMemory(by=BY, ids=(found.first,), summaries=(summary.id,)))
    assert talk.state.summaries == ()
    assert talk.state.gaps[0].first == found.first
    again = talk.compact("without it")
    assert again is not None
    assert again.gap
    assert (again.first, again.last) == (found.first, found.last)
    assert talk.state.gaps == ()
    assert len(talk.state.summaries) == 1


def test_a_summary_of_words_that_were_forgotten_meanwhile_is_not_taken() -> None:
    talk = Talk()
    for _ in range(4):
        talk.turn("u" * 10, "a" * 10)
    found = next_range(talk.state, CAPS, going=False)
    assert found is not None
    read_at = talk.state.seq
    talk.tell(i.ForgetMemory(by=BY, ids=(found.first,)))
    item = f.SummaryItem(id="sum", first=found.first, last=found.last, entries=2, bytes=0, origin="user")
    talk.tell(i.Compact(by=SELF, epoch=0, seq=read_at, ids=found.ids, item=item, content="with the words"))
    assert talk.state.summaries == ()


def test_the_plan_of_a_goal_stays_in_memory() -> None:
    talk = Talk(i.Caps())
    talk.tell(i.StartRun(by=BY, run="run_g", kind="goal", content="/goal see the sea"))
    task = f.PlanTask(id="t1", title="look", kind="delay", depends_on=(), status="pending", delay_s=0)
    talk.tell(i.PlanProposed(by=BY, run="run_g", attempt=1, goal="see the sea", tasks=(task,)))
    talk.tell(i.Wake(by=BY))
    talk.tell(i.AttemptEnded(by=BY, run="run_g", task="answer", attempt=1, outcome="done", result="blue"))
    end = decode_fact(talk.log[-1])
    assert isinstance(end, f.RunCompleted)
    assert end.plan == "goal: see the sea\n- look: done"
    assert talk.state.window[-1] == end.memory
    assert talk.state.leaf == "run_g.a1"


def test_a_log_of_the_first_release_evicts_by_its_range() -> None:
    talk = Talk(i.Caps())
    for _ in range(3):
        talk.turn("u", "a")
    ids = [item.id for item in talk.state.window]
    old = f.MemoryEvent(
        session="s", seq=talk.state.seq + 1, ts=talk.now, event="evict", count=2, bytes_before=6, bytes_after=4,
        range=(ids[0], ids[1]), recall={},
    )  # fmt: skip
    assert [item.id for item in evolve(talk.state, old).window] == ids[2:]


# ---- what a client does with it -------------------------------------------------------------------------------------


def test_a_client_s_own_summary_and_an_extract_are_told_apart_by_their_trust() -> None:
    """Rulings 29: without content it is an extract; what only the user said is the user's, else the agent's."""
    talk = Talk(i.Caps())
    for n in range(3):
        talk.turn(f"question {n}.", f"answer {n}.")
    ids = [item.id for item in talk.state.window]
    answer = talk.tell(i.SummarizeMemory(by=BY, ids=tuple(ids[:2]), summary="sum1"), contents=talk.words)
    assert isinstance(answer, i.MemoryChanged)
    assert (answer.kind, answer.ids, answer.summary) == ("memory.summarize", tuple(ids[:2]), "sum1")
    assert talk.words["sum1"] == "user: question 0.\nassistant: answer 0."
    talk.tell(i.SummarizeMemory(by=BY, ids=(ids[2],), summary="sum2"), contents=talk.words)
    talk.tell(i.SummarizeMemory(by=BY, ids=(ids[3],), summary="sum3", content="ü" * 5_000))
    assert [(one.id, one.origin) for one in talk.state.summaries] == [
        ("sum1", "agent"),
        ("sum2", "user"),
        ("sum3", "user"),
    ]
    assert len(talk.words["sum3"].encode()) == SUMMARY_BYTES_MAX
    assert [item.id for item in talk.state.window] == ids[4:]
    check(talk)


@pytest.mark.parametrize("places", [(0, 2), (0, 1, 3)])
def test_only_what_follows_each_other_is_summarised(places: tuple[int, ...]) -> None:
    talk = Talk(i.Caps())
    for _ in range(3):
        talk.turn("u", "a")
    ids = [item.id for item in talk.state.window]
    with pytest.raises(Conflict) as refused:
        talk.tell(i.SummarizeMemory(by=BY, ids=tuple(ids[place] for place in places), summary="s", content="t"))
    assert refused.value.details == {"reason": "range"}


def test_a_summary_s_range_is_of_entries_also_when_a_plan_stands_at_its_edge() -> None:
    """Rulings 34: plans stand outside the tree, so a range that began with one could not be recalled."""
    talk = Talk(i.Caps())
    talk.tell(i.StartRun(by=BY, run="run_g", kind="goal", content="/goal see the sea"))
    task = f.PlanTask(id="t1", title="look", kind="delay", depends_on=(), status="pending", delay_s=0)
    talk.tell(i.PlanProposed(by=BY, run="run_g", attempt=1, goal="see the sea", tasks=(task,)))
    talk.tell(i.Wake(by=BY))
    talk.tell(i.AttemptEnded(by=BY, run="run_g", task="answer", attempt=1, outcome="done", result="blue"))
    talk.turn("u", "a")
    talk.turn("u", "a")
    ids = tuple(item.id for item in talk.state.window)
    assert ids[2] == "run_g.p"
    talk.tell(i.SummarizeMemory(by=BY, ids=ids[2:5], summary="s"), contents=talk.words)
    (summary,) = talk.state.summaries
    assert (summary.first, summary.last, summary.entries) == ("run_000001.u", "run_000001.a1", 3)
    assert [item.id for item in talk.state.window] == [*ids[:2], *ids[5:]]


def test_new_words_and_a_pin_come_in_one_request_and_the_same_again_is_no_fact() -> None:
    talk = Talk(i.Caps())
    talk.turn("remember: 7", "yes")
    answer = talk.tell(i.UpdateMemory(by=BY, id="run_000001.u", content="remember: 8888", pinned=True))
    assert isinstance(answer, i.MemoryChanged)
    assert (answer.bytes_before, answer.bytes_after, answer.already) == (14, 17, False)
    assert talk.state.window[0] == f.WindowItem(
        id="run_000001.u", role="user", kind="message", bytes=14, pinned=True
    )  # fmt: skip
    before = len(talk.log)
    again = talk.tell(i.UpdateMemory(by=BY, id="run_000001.u", pinned=True))
    assert isinstance(again, i.MemoryChanged)
    assert again.already
    assert len(talk.log) == before
    talk.tell(i.UpdateMemory(by=BY, id="run_000001.u", pinned=False))
    assert not talk.state.window[0].pinned


def test_nothing_can_be_loaded_where_nothing_may_leave() -> None:
    """Rulings 33: a load evicts the oldest that is not pinned; the current turn stays."""
    talk = Talk(i.Caps(ram_entries=2))
    talk.turn("u", "a")
    gone = talk.state.tombstones[0].id if talk.state.tombstones else "old"
    talk.tell(i.UpdateMemory(by=BY, id=talk.state.window[0].id, pinned=True))
    item = f.WindowItem(id=gone, role="user", kind="message", bytes=1, loaded=True)
    with pytest.raises(Conflict) as refused:
        talk.tell(i.LoadMemory(by=BY, id=gone), items={gone: item})
    assert refused.value.details == {"reason": "full"}
    assert len(talk.state.window) == 2


# ---- what the budget can't have -------------------------------------------------------------------------------------


def test_evicting_stops_at_the_current_turn_and_at_pins() -> None:
    """The high mark may lie below what may not leave: then all else has left, and the rest stays."""
    talk = Talk(i.Caps(ram_entries=4, high_water=0.25))
    talk.turn("u", "a")
    talk.tell(i.UpdateMemory(by=BY, id="run_000001.u", pinned=True))
    talk.turn("u", "a")
    talk.turn("u", "a")
    assert [item.id for item in talk.state.window] == ["run_000001.u", "run_000003.u", "run_000003.a1"]


def test_where_nothing_may_leave_nothing_is_evicted_and_the_log_goes_on() -> None:
    """The smallest memory that can be set: a pin and the current turn are more than it has room for."""
    talk = Talk(i.Caps(ram_entries=2))
    talk.turn("u", "a")
    talk.tell(i.UpdateMemory(by=BY, id=talk.state.window[-1].id, pinned=True))
    talk.tell(i.StartRun(by=BY, run="run_x", kind="chat", content="now"))
    talk.tell(i.AddInput(by=BY, mode="steer", content="also"))
    talk.tell(i.AttemptEnded(by=BY, run="run_x", task="answer", attempt=1, outcome="done", result="r"))
    assert [item.id for item in talk.state.window][1:] == ["run_x.u", "run_x.i1"]
    before = len(talk.log)
    talk.tell(i.SetMode(by=BY, mode="paused"))
    assert len(talk.log) == before + 1, "the mode, and no eviction of nothing"
    assert replayed(talk) == talk.state


# ---- what the manager reports ---------------------------------------------------------------------------------------


def test_a_range_that_could_not_be_summarised_stays_and_is_told() -> None:
    """S7: failure keeps the original."""
    talk = Talk(i.Caps())
    talk.turn("u", "a")
    window = talk.state.window
    ids = [item.id for item in window]
    talk.tell(i.CompactFailed(by=SELF, first=ids[0], last=ids[1], count=2, reason="no answer"))
    event, warning = (decode_fact(body) for body in talk.log[-2:])
    assert isinstance(event, f.MemoryEvent)
    assert isinstance(warning, f.Warned)
    assert (event.event, event.count, event.range, event.reason) == ("failed", 2, (ids[0], ids[1]), "no answer")
    assert event.bytes_before == event.bytes_after == talk.state.window_bytes
    assert (warning.code, warning.source) == ("memory_failed", "memory")
    assert talk.state.window == window


def test_retention_takes_the_words_only_of_what_working_memory_does_not_hold() -> None:
    talk = Talk()
    for _ in range(8):
        talk.turn("u" * 10, "a" * 10)
    held = [item.id for item in (*talk.state.window, *talk.state.tombstones)]
    talk.tell(i.Prune(by=SELF, ids=("long_gone", *held[:2], "gone_too")))
    event = decode_fact(talk.log[-1])
    assert isinstance(event, f.MemoryEvent)
    assert (event.event, event.ids, event.count, event.range) == (
        "prune", ("long_gone", "gone_too"), 2, ("long_gone", "gone_too"),
    )  # fmt: skip
    before = len(talk.log)
    talk.tell(i.Prune(by=SELF, ids=tuple(held)))
    assert len(talk.log) == before, "nothing to take, no fact"


def test_a_plan_of_many_words_is_kept_in_part() -> None:
    tasks = tuple(
        f.PlanTask(id=f"t{n}", title="ü" * 200, kind="delay", depends_on=(), status="pending", delay_s=0)
        for n in range(20)
    )
    talk = Talk(i.Caps())
    talk.tell(i.StartRun(by=BY, run="run_g", kind="goal", content="g"))
    talk.tell(i.PlanProposed(by=BY, run="run_g", attempt=1, goal="g", tasks=tasks))
    talk.tell(i.Wake(by=BY))
    talk.tell(i.AttemptEnded(by=BY, run="run_g", task="answer", attempt=1, outcome="done", result="r"))
    end = decode_fact(talk.log[-1])
    assert isinstance(end, f.RunCompleted)
    assert end.plan is not None
    assert end.plan.endswith("…")
    assert len(end.plan.encode()) <= 2_048


def test_what_is_pinned_or_loaded_is_no_part_of_a_range() -> None:
    talk = Talk()
    for n in range(4):
        talk.turn(f"u{n}", f"a{n}")
    ids = [item.id for item in talk.state.window]
    talk.tell(i.UpdateMemory(by=BY, id=ids[0], pinned=True))
    item = f.WindowItem(id="old", role="user", kind="message", bytes=2, loaded=True)
    talk.tell(i.LoadMemory(by=BY, id="old"), items={"old": item})
    found = next_range(talk.state, CAPS, going=True)
    assert found is not None
    assert not {ids[0], "old"} & set(found.ids)


def test_with_nothing_but_the_current_turn_there_is_no_range() -> None:
    talk = Talk(i.Caps(ram_entries=2, low_water=0.1))
    talk.tell(i.StartRun(by=BY, run="run_x", kind="chat", content="now"))
    assert next_range(talk.state, talk.caps, going=True) is None


def test_what_was_evicted_is_summarised_also_where_nothing_else_is_held() -> None:
    gone = tuple(f.WindowItem(id=f"e{n}", role="user", kind="message", bytes=9) for n in range(TOMBSTONES_HIGH))
    state = Session(key="s", agent="default", owner="local", seq=9, leaf="e99", tombstones=(*gone[:-1],
                    msgspec.structs.replace(gone[-1], role="assistant")))  # fmt: skip
    found = next_range(state, CAPS, going=False)
    assert found is not None
    assert (found.first, found.last, found.entries) == ("e0", f"e{TOMBSTONES_HIGH - 1}", TOMBSTONES_HIGH)
    fewer = msgspec.structs.replace(state, tombstones=gone[1:])
    assert next_range(fewer, CAPS, going=False) is None


def test_a_summary_that_working_memory_holds_is_not_pruned_either() -> None:
    talk = Talk()
    for _ in range(2):
        talk.turn("words", "answer")
    first, last = [item.id for item in talk.state.window[:2]]
    talk.tell(i.SummarizeMemory(by=BY, ids=(first, last), summary="sum", content="short"))
    before = len(talk.log)
    talk.tell(i.Prune(by=SELF, ids=("sum",)))
    assert len(talk.log) == before
