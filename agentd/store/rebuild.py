"""The rows of a session from its facts alone, when those that were saved may not agree with them (views.py says which).

A salvaged session is read fact by fact as it happened, step by step; runs, entries and the session's own row are made
anew; words that were gone stay gone, whatever the facts still say. Facts that do not begin with its first (an older
snapshot's past is not told any more), or that the rules do not take, change nothing. Places in the tree are not kept:
`tree.rebuild` makes those of all sessions anew afterwards.
"""

import sqlite3
from itertools import groupby

import msgspec

from agentd.core.evolve import evolve
from agentd.core.lifecycle import IllegalMove
from agentd.core.state import Session
from agentd.protocol.codec import decode_fact
from agentd.store.store import ForgetRow, Row
from agentd.store.views import rows_of
from agentd.store.writing import BatchWriter, latest

_FACTS = "SELECT seq, step, body FROM events WHERE session = (SELECT id FROM sessions WHERE key = ?) ORDER BY seq"


def rebuild(connection: sqlite3.Connection, key: str) -> bool:
    """Make the rows of one session anew, inside the caller's transaction; False when its facts do not allow it."""
    rows: list[Row] = []
    state = Session(key=key, agent="", owner="")
    stored = connection.execute(_FACTS, (key,)).fetchall()
    if not stored or stored[0][0] != 1:
        return False
    try:
        for _, facts in groupby(stored, key=lambda row: row[1]):
            step = [decode_fact(body) for _, _, body in facts]
            before = state
            for fact in step:
                state = evolve(state, fact)
            rows.extend(rows_of(before, step, state, None))
    except (IllegalMove, msgspec.MsgspecError, KeyError):
        return False
    number = "(SELECT id FROM sessions WHERE key = ?)"
    gone = connection.execute(
        f"SELECT bytes, entry FROM entries WHERE session = {number} AND forgotten", (key,)
    ).fetchall()
    connection.execute(f"DELETE FROM entries WHERE session = {number}", (key,))
    writer = BatchWriter()
    for row in latest(rows):
        if not isinstance(row, ForgetRow):  # what was not done to its end is told beside the facts
            writer.write_row(connection, row)
    connection.executemany("UPDATE entries SET content = '', forgotten = 1, bytes = ? WHERE entry = ?", gone)
    return True
