"""The rows of a session from its facts alone, when those that were saved may not agree with them (views.py says which).

A salvaged session is read fact by fact as it happened, step by step; runs, entries and the session's own row are made
anew. What its facts do not tell any more (a gap, an older snapshot's past) stays as it was saved.
"""

import sqlite3
from itertools import groupby
from typing import Any

import msgspec

from agentd.core.evolve import evolve
from agentd.core.lifecycle import IllegalMove
from agentd.core.state import Session
from agentd.protocol.codec import decode_fact
from agentd.store.store import Row
from agentd.store.views import rows_of
from agentd.store.writing import BatchWriter

_FACTS = "SELECT seq, step, body FROM events WHERE session = (SELECT id FROM sessions WHERE key = ?) ORDER BY seq"


def rebuild(connection: sqlite3.Connection, key: str) -> bool:
    """Make the rows of one session anew, inside the caller's transaction; False when its facts do not allow it."""
    rows: dict[tuple[Any, ...], Row] = {}
    state = Session(key=key, agent="", owner="")
    try:
        for _, facts in groupby(connection.execute(_FACTS, (key,)).fetchall(), key=lambda row: row[1]):
            step = [decode_fact(body) for _, _, body in facts]
            before = state
            for fact in step:
                state = evolve(state, fact)
            for row in rows_of(before, step, state, None):
                rows[type(row), getattr(row, "id", None) or getattr(row, "run", None) or getattr(row, "key", None)] = (
                    row
                )
    except (IllegalMove, msgspec.MsgspecError, KeyError):
        return False
    if not state.seq:
        return False
    number = "(SELECT id FROM sessions WHERE key = ?)"
    connection.execute(f"DELETE FROM entries WHERE session = {number}", (key,))
    writer = BatchWriter()
    for row in rows.values():
        writer.write_row(connection, row)
    return True
