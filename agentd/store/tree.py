"""The tree of entries: where a new one stands, what is on a path, which sessions share a history.

An entry continues its parent's segment when it is the first child of that segment's newest entry and of the same
session; else it begins a segment of its own. A path is a list of (segment, greatest depth), one for each branch that it
took, whatever its length.
"""

import sqlite3
from collections import OrderedDict, deque
from typing import NamedTuple

SEGMENTS_MAX = 1_000  # of one path: so many branches of branches
SNIPPET_CHARS = 120
TIPS_MAX = 16_384

_PARENT = "SELECT segment, depth, session FROM entries WHERE entry = ?"
_RELATED = (
    "SELECT t.segment, t.depth, t.session FROM entries e JOIN entries t ON t.entry = e.related_to WHERE e.entry = ?"
)
_TAKEN = "SELECT 1 FROM entries WHERE segment = ? AND depth = ?"
_SEGMENT = "SELECT session, parent, depth FROM segments WHERE id = ?"
_LEFT = (
    "SELECT g.parent, max(g.depth) FROM segments g JOIN segments p ON p.id = g.parent"
    " WHERE g.session = ? AND p.session <> g.session GROUP BY g.parent LIMIT ?"
)
# An entry whose fact was cut away came before all that is left of its session.
_NUMBERS = (
    "CREATE TEMP TABLE numbers AS SELECT e.id AS old, row_number() OVER (ORDER BY coalesce("
    "  (SELECT id FROM events WHERE session = e.session AND seq = e.seq),"
    "  (SELECT id FROM events WHERE session = e.session ORDER BY seq LIMIT 1)), e.id) AS number FROM entries e"
)
_TREE = (
    "SELECT e.id, e.entry, e.parent, e.role, e.kind, substr(e.content, 1, ?), (SELECT run FROM runs WHERE id = e.run),"
    " e.ts FROM entries e WHERE {where} AND e.segment IS NOT NULL AND e.id < ? ORDER BY e.id DESC LIMIT ?"
)


class Place(NamedTuple):
    segment: int
    depth: int


class PathPart(NamedTuple):
    """Entries of `segment` up to `depth` are on the path; they belong to `session`."""

    segment: int
    depth: int
    session: int


class TreeRow(NamedTuple):
    number: int
    id: str
    parent: str | None
    role: str
    kind: str
    snippet: str
    run: str | None
    ts: int


class Places:
    """Where new entries stand. The newest entry of each session is remembered, so that a conversation that just goes on
    costs no look-up; lives on the writing connection's thread."""

    def __init__(self) -> None:
        self._tips: OrderedDict[int, tuple[str, int, int]] = OrderedDict()

    def continued(self, connection: sqlite3.Connection, session: int, parent: str | None) -> Place | None:
        """The place behind `parent`, when the entry continues its segment."""
        tip = self._tips.get(session)
        if tip is not None and tip[0] == parent:
            return Place(tip[1], tip[2] + 1)
        found = connection.execute(_PARENT, (parent,)).fetchone() if parent is not None else None
        if found is None or found[0] is None or found[2] != session:
            return None
        taken = connection.execute(_TAKEN, (found[0], found[1] + 1)).fetchone()
        return None if taken else Place(found[0], found[1] + 1)

    def begun(self, connection: sqlite3.Connection, number: int, session: int, parent: str | None) -> Place:
        """A segment that begins with the entry in row `number`."""
        found = connection.execute(_PARENT, (parent,)).fetchone() if parent is not None else None
        segment, depth = (found[0], found[1]) if found is not None and found[0] is not None else (None, 0)
        connection.execute(
            "INSERT OR REPLACE INTO segments (id, session, parent, depth) VALUES (?, ?, ?, ?)",
            (number, session, segment, depth),
        )
        return Place(number, depth + 1)

    def remember(self, session: int, entry: str, at: Place) -> None:
        self._tips[session] = (entry, *at)
        self._tips.move_to_end(session)
        if len(self._tips) > TIPS_MAX:
            self._tips.popitem(last=False)

    def drop(self) -> None:
        """The transaction was taken back."""
        self._tips.clear()


def path_parts(connection: sqlite3.Connection, leaf: str | None) -> list[PathPart]:
    """The path that ends in `leaf`, newest part first; empty when there is no such entry."""
    found = connection.execute(_PARENT, (leaf,)).fetchone() if leaf is not None else None
    return _upwards(connection, found[0], found[1]) if found is not None else []


def shared_parts(connection: sqlite3.Connection, session: int) -> list[PathPart]:
    """What entries of the session go on from in others, whatever its leaf is: each part once, as far as any of them."""
    found: dict[int, PathPart] = {}
    for segment, depth in connection.execute(_LEFT, (session, SEGMENTS_MAX)).fetchall():
        for part in _upwards(connection, segment, depth):
            known = found.get(part.segment)
            if part.session != session and (known is None or known.depth < part.depth):
                found[part.segment] = part
    return list(found.values())


def _upwards(connection: sqlite3.Connection, segment: int | None, depth: int) -> list[PathPart]:
    parts: list[PathPart] = []
    while segment is not None and len(parts) < SEGMENTS_MAX:
        session, parent, left = connection.execute(_SEGMENT, (segment,)).fetchone()
        parts.append(PathPart(segment, depth, session))
        segment, depth = parent, left
    return parts


def tree(connection: sqlite3.Connection, key: str, leaf: str | None, limit: int, before: str | None) -> list[TreeRow]:
    """Entries of the session and of the path that it shares, newest first."""
    session = _session(connection, key)
    bound = 1 << 62
    if before is not None:
        row = connection.execute("SELECT id FROM entries WHERE entry = ?", (before,)).fetchone()
        bound = row[0] if row is not None else 0
    rows = connection.execute(_TREE.format(where="e.session = ?"), (SNIPPET_CHARS, session, bound, limit)).fetchall()
    for part in path_parts(connection, leaf):
        if part.session != session:
            where = "e.segment = ? AND e.depth <= ?"
            more = connection.execute(
                _TREE.format(where=where), (SNIPPET_CHARS, part.segment, part.depth, bound, limit)
            )
            rows.extend(more.fetchall())
    return sorted(map(TreeRow._make, rows), reverse=True)[:limit]


def sessions_at(connection: sqlite3.Connection, entry: str) -> list[str]:
    """Keys of the sessions whose history holds the entry: its own first, then those that branched at or after it.

    A summary or a plan may be held wherever what it is related to is (rulings 34)."""
    found = connection.execute(_PARENT, (entry,)).fetchone()
    if found is None:
        return []
    segment, depth, own = found
    numbers = [own]
    if segment is None:
        segment, depth, session = connection.execute(_RELATED, (entry,)).fetchone() or (None, 0, own)
        numbers.append(session)
    if segment is not None:
        below = {segment: depth}  # segment -> the least depth at which it holds the entry
        waiting = [(segment, depth)]
        while waiting:
            at, least = waiting.pop()
            children = connection.execute(
                "SELECT id, session FROM segments WHERE parent = ? AND depth >= ?", (at, least)
            ).fetchall()
            for child, session in children:
                below[child] = 0
                waiting.append((child, 0))
                numbers.append(session)
        # Branches that have said nothing yet have no segment of their own: their leaf is another session's entry.
        silent = connection.execute(
            "SELECT s.id, e.segment, e.depth FROM sessions s JOIN entries e ON e.entry = s.leaf WHERE e.session != s.id"
        )
        numbers.extend(number for number, at, deep in silent if at in below and deep >= below[at])
    keys = dict(connection.execute(
        f"SELECT id, key FROM sessions WHERE id IN ({','.join('?' * len(set(numbers)))})", tuple(set(numbers))
    ).fetchall())  # fmt: skip
    return [keys[number] for number in dict.fromkeys(numbers)]


def rebuild(connection: sqlite3.Connection) -> None:
    """Numbers and places of all entries anew, in the order of the facts that made them: after a salvage, before any of
    them is in the index. A parent has its place before its children, whatever that order is."""
    connection.execute("DELETE FROM segments")
    connection.execute("UPDATE entries SET segment = NULL, depth = NULL")
    connection.execute(_NUMBERS)
    connection.execute("CREATE UNIQUE INDEX temp.numbers_old ON numbers (old)")
    connection.execute("UPDATE entries SET id = -(SELECT number FROM numbers WHERE old = entries.id)")
    connection.execute("UPDATE entries SET id = -id")
    connection.execute("DROP TABLE numbers")
    rows = connection.execute(
        "SELECT id, entry, session, parent FROM entries WHERE kind = 'message' ORDER BY id"
    ).fetchall()
    known = {entry for _, entry, _, _ in rows}
    children: dict[str | None, list[tuple[int, str, int, str | None]]] = {}
    for row in rows:
        children.setdefault(row[3] if row[3] in known else None, []).append(row)
    places = Places()
    waiting = deque(children.get(None, ()))
    while waiting:
        number, entry, session, parent = waiting.popleft()
        at = places.continued(connection, session, parent) or places.begun(connection, number, session, parent)
        connection.execute("UPDATE entries SET segment = ?, depth = ? WHERE id = ?", (*at, number))
        waiting.extend(children.get(entry, ()))


def _session(connection: sqlite3.Connection, key: str) -> int:
    row = connection.execute("SELECT id FROM sessions WHERE key = ?", (key,)).fetchone()
    return int(row[0]) if row is not None else 0
