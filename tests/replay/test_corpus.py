"""What the rules once led to they lead to for ever: recorded sessions are decided on again (N4, rulings 37).

`first-*` are of the first release, whose facts do not say what limits they were made under; `second-*` of the next.
A file that does not replay any more means that a change of the rules rewrites history: mend the change, not the file.
"""

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from agentd.core.export import TYPES, Reader, Stored
from agentd.core.intents import Caps
from agentd.core.replay import Difference, Replay
from agentd.protocol import facts as f

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.ndjson"))
FORGETFUL = {"first-talked", "second-talked"}  # they forgot a turn's words, on which its summary may rest
OF_THE_SERVER = {"server.started", "server.stopped", "server.quarantined", "server.mode", "server.denied",
                 "token.added", "token.revoked"}  # fmt: skip


def read(path: Path) -> tuple[Caps, list[Stored]]:
    reader = Reader()
    lines = path.read_bytes().splitlines(keepends=True)
    caps = reader.header(lines[0]).caps
    stored = [found for line in lines[1:] if (found := reader.fact(line)) is not None]
    reader.end()
    return caps, stored


def played(caps: Caps, stored: list[Stored]) -> tuple[Replay, Difference | None]:
    """Up to the first difference."""
    replay = Replay(stored[0].fact.session, caps)
    for one in stored:
        wrong = replay.feed(one.step, one.fact)
        if wrong is not None:
            return replay, wrong
    return replay, replay.finish()


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_a_recorded_session_is_decided_the_same_again(path: Path) -> None:
    caps, stored = read(path)
    replay, wrong = played(caps, stored)
    assert wrong is None, wrong
    assert replay.facts == len(stored)
    assert replay.unjudged == 0 or path.stem in FORGETFUL
    assert (replay.assumed > 0) == path.stem.startswith("first")
    assert not replay.state.runs, "each recorded session came to rest"


def test_every_fact_of_a_session_is_in_the_corpus() -> None:
    seen = Counter(one.fact.__struct_config__.tag for path in CORPUS for one in read(path)[1])
    assert set(seen) == TYPES - OF_THE_SERVER


# What the rules make, and what somebody might write there instead.
SPOILED = {
    "message": "other words", "position": 7, "held": "paused", "entry": "run_x.u", "parent": "run_x.u", "worker": 99,
    "attempt": 9, "duration_ms": 123_456, "count": 77, "bytes_after": 123_456, "epoch": 5, "archived": 99,
    "admitted": ("t99",), "resume_at": 12, "reasons": ("x",), "unplaced": ("x",),
}  # fmt: skip
# Where a value comes from outside, the rules have no opinion on it.
GIVEN = {
    (f.AgentStatus, "worker"), (f.AgentStatus, "message"), (f.SessionReceive, "message"), (f.Warned, "message"),
    (f.ToolCalled, "attempt"), (f.GateDecided, "reasons"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["second-worked", "second-branched", "rules-persons", "rules-ways", "rules-crashes"])
def test_any_fact_that_is_other_than_the_rules_make_it_is_found(name: str) -> None:
    caps, stored = read(next(path for path in CORPUS if path.stem == name))
    tried = 0
    for place, one in enumerate(stored):
        for field, other in SPOILED.items():
            if (type(one.fact), field) in GIVEN or getattr(one.fact, field, other) == other:
                continue
            if getattr(one.fact, field) is None and field in ("held", "resume_at", "attempt", "parent"):
                continue
            fact = msgspec.structs.replace(one.fact, **{field: other})
            spoiled = [*stored[:place], Stored(one.step, fact, b""), *stored[place + 1 :]]
            _, wrong = played(caps, spoiled)
            assert wrong is not None, (field, one.fact)
            assert wrong.step <= fact.seq, "it is found in the command that it stands in, not later"
            tried += 1
    assert tried > 20


@pytest.mark.parametrize("name", ["second-worked", "rules-tools"])
def test_a_fact_that_is_missing_doubled_or_moved_is_found(name: str) -> None:
    caps, stored = read(next(path for path in CORPUS if path.stem == name))
    for place in range(1, len(stored) - 1):
        without = [*stored[:place], *stored[place + 1 :]]
        moved = [*stored[:place], stored[place + 1], stored[place], *stored[place + 2 :]]
        doubled = [*stored[: place + 1], stored[place], *stored[place + 1 :]]
        for spoiled in (without, moved, doubled):
            assert played(caps, spoiled)[1] is not None, stored[place].fact
