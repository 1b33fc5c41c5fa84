"""The parts of one step: what came of its commands, and the append that it becomes."""

from collections.abc import Sequence
from typing import get_args

import msgspec

from agentd.actors.mailbox import Envelope
from agentd.actors.shared import Shared
from agentd.core import intents as i
from agentd.core.session import next_timer
from agentd.core.state import SNAPSHOT_VERSION, Session
from agentd.protocol import facts as f
from agentd.protocol.codec import encode
from agentd.protocol.errors import AgentdError
from agentd.store.store import Append, Record, Row, SnapshotRow
from agentd.store.views import rows_of

# Read once: a struct makes its configuration anew each time that it is asked.
TAGS: dict[type, str] = {kind: str(kind.__struct_config__.tag) for kind in get_args(f.AnyFact)}


class Taken(msgspec.Struct):
    """A command of the running step and what came of it; `seq` is the session's after its facts."""

    envelope: Envelope
    answer: i.Answer | None
    error: AgentdError | None
    seq: int


class Step(msgspec.Struct, frozen=True):
    """Where a step's decisions led."""

    state: Session
    commands: list[Taken]


def append_of(
    before: Session,
    facts: Sequence[f.AnyFact],
    bodies: Sequence[bytes],
    after: Session,
    shared: Shared,
    snapshot: bool,
) -> Append:
    """A step as it is stored: stored bytes are sent bytes, its rows go down in the same transaction."""
    step = before.seq + 1
    records = [
        Record(
            seq=fact.seq,
            step=step,
            ts=fact.ts,
            type=TAGS[type(fact)],
            body=body,
            run=fact.run,
            run_seq=fact.run_seq,
        )
        for fact, body in zip(facts, bodies, strict=True)
    ]
    rows: list[Row] = rows_of(before, facts, after, next_timer(after, False, shared.caps.warning_s))
    if snapshot:
        body = encode(after)
        rows.append(SnapshotRow(session=after.key, seq=after.seq, version=SNAPSHOT_VERSION, ts=after.ts, body=body))
    return Append(session=after.key, term=shared.term, records=tuple(records), rows=tuple(rows))
