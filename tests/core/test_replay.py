"""Replay where not everything is there: forgotten words, a snapshot in front, limits that are not told."""

from typing import Any

import msgspec
import pytest

from agentd.core import intents as i
from agentd.core.evolve import evolve
from agentd.core.forgetting import Gone, blanked
from agentd.core.replay import Difference, Replay, Unreadable
from agentd.core.session import due
from agentd.core.state import SNAPSHOT_VERSION, Session
from agentd.protocol import facts as f
from agentd.protocol.codec import decode_fact, encode
from tests.core.shell import AGENT, BY, Shell, model, task


class Told(Shell):
    """Keeps the step of each fact."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    def tell(self, intent: i.AnyIntent) -> i.Answer | None:
        before = len(self.facts)
        answer = super().tell(intent)
        self.steps += [before + 1] * (len(self.facts) - before)
        return answer


def judged(replay: Replay, steps: list[int], facts: list[f.AnyFact]) -> Difference | None:
    for step, fact in zip(steps, facts, strict=True):
        if (wrong := replay.feed(step, fact)) is not None:
            return wrong
    return replay.finish()


def without(fact: f.AnyFact, *entries: str) -> f.AnyFact:
    body = blanked(encode(fact), Gone(frozenset(entries)))
    return fact if body is None else decode_fact(body)


def ungrounded(fact: f.AnyFact) -> f.AnyFact:
    return msgspec.structs.replace(fact, grounds=None)


def switched() -> Told:
    """A goal whose way hangs on a word, with turns around it."""
    shell = Told()
    shell.chat()
    shell.end(due(shell.state)[0])
    shell.plan(
        model("a"), task("switch", "s", "a", cases=(f.Case(match="left", then=("l",)),), otherwise=("m",)),
        model("l", "s"), model("m", "s"),
    )  # fmt: skip
    shell.end(due(shell.state)[0], result="to the left")
    shell.heal()
    shell.chat()
    shell.end(due(shell.state)[0])
    return shell


def test_forgotten_words_are_counted_and_all_else_is_still_judged() -> None:
    shell = switched()
    gone = [without(fact, "run_0002.u", "run_0002.p", "run_0001.a1") for fact in shell.facts]
    assert gone != shell.facts
    replay = Replay("s", shell.caps)
    assert judged(replay, shell.steps, gone) is None
    assert 0 < replay.unjudged < replay.commands / 2
    assert (replay.facts, replay.state.seq) == (len(gone), len(gone))
    last = msgspec.structs.replace(gone[-1], duration_ms=12_345)
    wrong = judged(Replay("s", shell.caps), shell.steps, [*gone[:-1], last])
    assert wrong is not None
    assert (wrong.seq, wrong.fields) == (last.seq, ("duration_ms",))


@pytest.mark.parametrize("cut", range(4, 30, 3))
def test_a_log_that_begins_with_a_snapshot_is_judged_from_there(cut: int) -> None:
    shell = switched()
    state = Session(key="s", agent="default", owner="local")
    begins = shell.steps[cut] - 1  # whole commands
    for fact in shell.facts[:begins]:
        state = evolve(state, fact)
    replay = Replay("s", shell.caps)
    replay.begin_from(state.seq, SNAPSHOT_VERSION, encode(state))
    assert judged(replay, shell.steps, shell.facts) is None
    assert replay.facts == len(shell.facts) - begins
    assert replay.state == shell.state


def test_a_snapshot_that_is_newer_or_spoiled_is_refused_with_its_reason() -> None:
    state = encode(Session(key="s", agent="default", owner="local", seq=3))
    for seq, version, body, why in (
        (3, SNAPSHOT_VERSION + 1, state, "version"), (3, SNAPSHOT_VERSION, b"{", "can't be read"),
        (4, SNAPSHOT_VERSION, state, "of seq 3"),
    ):  # fmt: skip
        with pytest.raises(Unreadable, match=why):
            Replay("s", i.Caps()).begin_from(seq, version, body)


def test_a_step_of_the_first_release_is_parted_into_its_commands() -> None:
    shell = Told()
    shell.chat()
    shell.chat()
    shell.tell(i.SetMode(by=BY, mode="paused"))
    shell.tell(i.NewEpoch(by=BY))
    facts = [ungrounded(fact) for fact in shell.facts]
    replay = Replay("s", shell.caps)
    assert judged(replay, [1] * len(facts), facts) is None
    assert (replay.commands, replay.assumed) == (4, 4)


def test_under_other_limits_than_were_told_the_rules_come_to_other_facts() -> None:
    shell = Told()
    shell.plan(*(model(f"t{n}") for n in range(6)))
    facts = [ungrounded(fact) for fact in shell.facts]
    assert judged(Replay("s", shell.caps), shell.steps, facts) is None
    wrong = judged(Replay("s", i.Caps()), shell.steps, facts)
    assert wrong is not None
    assert wrong.fields == ("backpressure",)
    assert judged(Replay("s", i.Caps()), shell.steps, shell.facts) is None, "grounds tell the limits"


def test_limits_that_change_while_a_session_lives_are_told_once_each() -> None:
    shell = Told()
    shell.chat()
    shell.caps = msgspec.structs.replace(shell.caps, workers=2, dispatch=9)
    shell.chat()
    shell.chat()
    told = [fact.grounds.caps for fact in shell.facts if fact.grounds is not None]
    assert told[1:] == [{"workers": 2, "dispatch": 9}]
    assert judged(Replay("s", i.Caps()), shell.steps, shell.facts) is None


def test_what_the_server_held_back_says_so() -> None:
    shell = Told()
    shell.server_paused = True
    shell.chat()
    accepted = next(fact for fact in shell.facts if isinstance(fact, f.RunAccepted))
    assert shell.facts[0].grounds is not None
    assert shell.facts[0].grounds.held == "server"
    assert accepted.held == "paused"
    assert judged(Replay("s", i.Caps()), shell.steps, shell.facts) is None


def fails(*_: Any) -> Any:
    raise ZeroDivisionError("a rule")


def test_a_rule_that_fails_or_refuses_is_a_difference_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = Told()
    shell.chat()
    shell.end(due(shell.state)[0])
    facts = list(shell.facts)
    late = msgspec.structs.replace(facts[-1], run="run_0009", run_seq=1)
    wrong = judged(Replay("s", shell.caps), shell.steps, [*facts[:-1], late])
    assert wrong is not None
    with monkeypatch.context() as patched:
        patched.setattr("agentd.core.replay.decide", fails)
        wrong = judged(Replay("s", shell.caps), shell.steps, facts)
    assert wrong is not None
    assert "ZeroDivisionError" in wrong.why


def test_after_a_difference_it_goes_on_by_what_is_stored() -> None:
    shell = Told()
    for _ in range(3):
        shell.chat()
        shell.end(due(shell.state)[0])
    place = next(at for at, fact in enumerate(shell.facts) if isinstance(fact, f.RunCompleted))
    spoiled = list(shell.facts)
    spoiled[place] = msgspec.structs.replace(spoiled[place], duration_ms=1)
    replay = Replay("s", shell.caps)
    found = [wrong for step, fact in zip(shell.steps, spoiled, strict=True) if (wrong := replay.feed(step, fact))]
    last = replay.finish()
    assert [wrong.seq for wrong in found] == [spoiled[place].seq]
    assert last is None
    assert replay.state.seq == len(spoiled)


def test_words_that_an_extract_rests_on_and_are_not_there_are_not_judged() -> None:
    shell = Told()
    shell.tell(i.Warn(by=AGENT, code="x", message="x", source="x"))
    for _ in range(3):
        shell.chat()
        shell.end(due(shell.state)[0])
    ids = ("run_0001.u", "run_0001.a1")
    fact = f.MemoryEvent(
        session="s", seq=shell.state.seq + 1, ts=shell.now, by=BY, event="summarize", count=2, ids=ids,
        range=ids, bytes_before=shell.state.window_bytes, bytes_after=0, recall={}, summary="the extract",
        item=f.SummaryItem(id="sum_1", first=ids[0], last=ids[1], entries=2, bytes=11, origin="agent"),
    )  # fmt: skip
    replay = Replay("s", shell.caps)
    seen = [without(one, *ids) for one in shell.facts]
    assert judged(replay, [*shell.steps, fact.seq], [*seen, fact]) is None
    assert replay.unjudged > 0


def test_an_import_whose_words_were_forgotten_is_not_judged() -> None:
    shell = Told()
    items = tuple(
        f.ImportedItem(id=f"imp:1:s:{n}", kind="message", role="user", content=f"words {n}", ts=1) for n in range(3)
    )
    shell.tell(i.Import(by=BY, timestamp_ms=1, reason="x", items=items))
    told = shell.facts[-1]
    assert isinstance(told, f.MemoryImported)
    blank = tuple(msgspec.structs.replace(item, content="") for item in told.items)
    gone = [*shell.facts[:-1], msgspec.structs.replace(told, items=blank)]
    replay = Replay("s", shell.caps)
    assert judged(replay, shell.steps, gone) is None
    assert replay.unjudged == 1
    assert judged(Replay("s", shell.caps), shell.steps, shell.facts) is None


def test_of_a_long_log_only_the_words_that_may_be_asked_for_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentd.core.replay.CONTENTS_MAX", 2)
    shell = Told()
    shell.caps = msgspec.structs.replace(shell.caps, ram_entries=4)
    for _ in range(10):
        shell.chat()
        shell.end(due(shell.state)[0])
    ids = tuple(item.id for item in shell.state.window[:2])
    words = {item.id: "r" if item.id.endswith(".a1") else f"words {item.id[:-2]}" for item in shell.state.window}
    given = shell.given()
    shell.given = lambda: msgspec.structs.replace(given, contents=words)  # type: ignore[method-assign]
    shell.tell(i.SummarizeMemory(by=BY, ids=ids, summary="sum"))
    replay = Replay("s", shell.caps)
    assert judged(replay, shell.steps, shell.facts) is None
    assert replay.unjudged == 0, "what working memory holds is still known"
    assert len(replay._contents) <= len(shell.state.window) + 2 + 1
