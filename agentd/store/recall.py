"""Long-term memory: which entries speak of something, the best first.

Words are looked up in the full-text index, which is filled in batches; rows that are not in it yet are looked through.
Rows that have all the words come first, then those with more of them; among equals counts how well the text matches
(bm25), how new it is beside the newest found, and what kind it is:

    rank = words found + b / (1 + b)      with  b = bm25 * (1 + 0.2 * newness + 0.1 * importance)

newness is 1 for the newest candidate and 0 for the oldest; importance is 1 for a summary or a plan, 0.5 for a user's
words, else 0. Equal ranks stand newest first. The candidates are the newest `CANDIDATES` rows that have all the words,
then, if those do not fill the answer, the newest of each of the rarest words: so the cost is bounded for any words.
Every word is quoted for the index, so there is nothing in a topic that it could take for an operator.
"""

import re
import sqlite3
import unicodedata
from collections.abc import Sequence
from typing import Any

from agentd.store.reading import ENTRY_COLUMNS, entry_of, one_moment
from agentd.store.store import EntryRow, Found
from agentd.store.tree import path_parts

WORDS_MAX = 16
WORD_CHARS_MAX = 64
CANDIDATES = 1_000
RARE_WORDS = 3
TAIL_MAX = 5_000  # rows that are looked through because the index has not reached them yet, or has no such words
SESSIONS_MAX = 200

_WORD = re.compile(r"[^\W_]+")
_FROM = f"SELECT {ENTRY_COLUMNS}, e.id, e.segment, e.depth FROM entries e JOIN sessions s ON s.id = e.session"
_MATCH = "SELECT rowid, bm25(recall, 1.0, 0.0) FROM recall WHERE recall MATCH ? ORDER BY rowid DESC LIMIT ?"
_COUNT = "SELECT doc FROM recall_words WHERE term = ? AND col = 'content'"


def words_of(topic: str) -> list[str]:
    """The words of a topic as the index knows them: folded, without marks, each once."""
    plain = unicodedata.normalize("NFKD", topic)
    plain = "".join(one for one in plain if not unicodedata.combining(one)).casefold()
    return list(dict.fromkeys(word[:WORD_CHARS_MAX] for word in _WORD.findall(plain)))[:WORDS_MAX]


class Asked:
    """One question, taken apart."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        session: str,
        *,
        leaf: str | None,
        topic: str | None,
        ids: Sequence[str] | None,
        kinds: Sequence[str] | None,
        since: int | None,
        until: int | None,
        epoch: int | None,
        path_only: bool,
    ) -> None:
        row = connection.execute("SELECT id FROM sessions WHERE key = ?", (session,)).fetchone()
        self.connection = connection
        self.key = session
        self.own = row[0] if row is not None else 0
        self.parts = path_parts(connection, leaf)
        self.depths: dict[int, int] = {part.segment: part.depth for part in self.parts}
        others = [part.session for part in self.parts if part.session != self.own]
        self.sessions = list(dict.fromkeys([self.own, *others]))[:SESSIONS_MAX]
        self.topic = topic
        self.path_only = path_only
        self.where: list[str] = ["e.forgotten = 0"]
        self.values: list[object] = []
        if ids is not None:
            self._and(f"e.entry IN ({_marks(ids)})", *ids)
        if kinds is not None:
            self._and(f"e.kind IN ({_marks(kinds)})", *kinds)
        if since is not None:
            self._and("e.ts >= ?", since)
        if until is not None:
            self._and("e.ts <= ?", until)
        if epoch is not None:
            self._and("e.epoch = ?", epoch)

    def _and(self, condition: str, *values: object) -> None:
        self.where.append(condition)
        self.values.extend(values)

    def seen(self, row: tuple[Any, ...]) -> Found | None:
        """The row as this session sees it; None when it does not."""
        *columns, _, segment, depth = row
        entry = entry_of(tuple(columns))
        on_path = self._on_path(segment, depth) if segment is not None else self._beside(entry)
        ours = row[1] == self.key
        if (self.path_only and not on_path) or not (ours or on_path):
            return None
        return Found(entry, on_path, 0.0)

    def _on_path(self, segment: int | None, depth: int) -> bool:
        if segment is None:
            return False
        return bool(depth <= self.depths.get(segment, 0))

    def _beside(self, entry: EntryRow) -> bool:
        """A summary or a plan is on the path when what it is related to is."""
        found = self.connection.execute(
            "SELECT segment, depth FROM entries WHERE entry = ?", (entry.related_to,)
        ).fetchone()
        return found is not None and self._on_path(*found)


def query(
    connection: sqlite3.Connection,
    session: str,
    *,
    leaf: str | None = None,
    topic: str | None = None,
    ids: Sequence[str] | None = None,
    kinds: Sequence[str] | None = None,
    since: int | None = None,
    until: int | None = None,
    epoch: int | None = None,
    path_only: bool = False,
    limit: int = 25,
    offset: int = 0,
) -> list[Found]:
    """Ranked when there is a topic, else newest first; forgotten entries are not there."""
    with one_moment(connection):
        asked = Asked(
            connection, session, leaf=leaf, topic=topic, ids=ids, kinds=kinds, since=since, until=until, epoch=epoch,
            path_only=path_only,
        )  # fmt: skip
        if topic is None:
            return _newest(asked, limit, offset)
        return _ranked(asked, words_of(topic), limit + offset)[offset : offset + limit]


def _newest(asked: Asked, limit: int, offset: int) -> list[Found]:
    """By filters alone; rows of other branches are passed over as they come."""
    found: list[Found] = []
    skip = offset
    for row in _rows(asked, 1 << 62):
        one = asked.seen(row)
        if one is None:
            continue
        if skip:
            skip -= 1
            continue
        found.append(one)
        if len(found) == limit:
            break
    return found


def _rows(asked: Asked, below: int, limit: int = -1) -> sqlite3.Cursor:
    where = " AND ".join([f"e.session IN ({_marks(asked.sessions)})", "e.id < ?", *asked.where])
    return asked.connection.execute(
        f"{_FROM} WHERE {where} ORDER BY e.id DESC LIMIT ?", (*asked.sessions, below, *asked.values, limit)
    )


def _ranked(asked: Asked, words: list[str], wanted: int) -> list[Found]:
    scores: dict[int, float] = {}
    if words:
        _match(asked, [words], scores)
        if len(scores) < wanted and len(words) > 1:
            _match(asked, [[word] for word in _rarest(asked.connection, words)], scores)
    rows = _read(asked, list(scores))
    rows.update({row[-3]: row for row in _unindexed(asked, words)})
    if not rows and asked.topic and asked.topic.strip():
        rows = {row[-3]: row for row in _rows(asked, 1 << 62, TAIL_MAX) if asked.topic.strip() in row[7]}
    found = [(number, one) for number, row in rows.items() if (one := asked.seen(row)) is not None]
    return _ordered(found, scores, words)[:wanted]


def _match(asked: Asked, groups: list[list[str]], scores: dict[int, float]) -> None:
    """The newest rows that have all words of a group; the better (greater) of two scores counts."""
    inside = "session : (" + " OR ".join(f'"{number}"' for number in asked.sessions) + ")"
    for group in groups:
        terms = " AND ".join(f'content : "{word}"' for word in group)
        for number, bm25 in asked.connection.execute(_MATCH, (f"{inside} AND {terms}", CANDIDATES)):
            scores[number] = max(scores.get(number, 0.0), -bm25)


def _rarest(connection: sqlite3.Connection, words: list[str]) -> list[str]:
    counted = []
    for place, word in enumerate(words):
        row = connection.execute(_COUNT, (word,)).fetchone()
        if row is not None:
            counted.append((row[0], place, word))
    return [word for _, _, word in sorted(counted)[:RARE_WORDS]]


def _read(asked: Asked, numbers: list[int]) -> dict[int, tuple[Any, ...]]:
    rows: dict[int, tuple[Any, ...]] = {}
    for start in range(0, len(numbers), 500):
        some = numbers[start : start + 500]
        where = " AND ".join([f"e.id IN ({_marks(some)})", *asked.where])
        rows.update(
            (row[-3], row) for row in asked.connection.execute(f"{_FROM} WHERE {where}", (*some, *asked.values))
        )
    return rows


def _unindexed(asked: Asked, words: list[str]) -> list[tuple[Any, ...]]:
    """Rows that the index has not reached, newest first, if they have one of the words."""
    reached = indexed_to(asked.connection)
    wanted = set(words)
    where = " AND ".join([f"e.session IN ({_marks(asked.sessions)})", "e.id > ?", *asked.where])
    rows = asked.connection.execute(
        f"{_FROM} WHERE {where} ORDER BY e.id DESC LIMIT ?", (*asked.sessions, reached, *asked.values, TAIL_MAX)
    )
    return [row for row in rows if not wanted.isdisjoint(words_in(row[7]))]


def words_in(text: str) -> set[str]:
    plain = unicodedata.normalize("NFKD", text)
    if not plain.isascii():
        plain = "".join(one for one in plain if not unicodedata.combining(one))
    return set(_WORD.findall(plain.casefold()))


def _ordered(found: list[tuple[int, Found]], scores: dict[int, float], words: list[str]) -> list[Found]:
    if not found:
        return []
    times = [one.row.ts for _, one in found]
    oldest, span = min(times), max(max(times) - min(times), 1)
    ranked = []
    for number, one in found:
        row = one.row
        count = len(words_in(row.content).intersection(words))
        newness = (row.ts - oldest) / span
        importance = 1.0 if row.kind in ("summary", "plan") else 0.5 if row.role == "user" else 0.0
        b = scores.get(number, 1.0) * (1 + 0.2 * newness + 0.1 * importance)
        ranked.append((-(count + b / (1 + b)), -number, one))
    ranked.sort(key=lambda item: item[:2])
    return [Found(one.row, one.on_path, -score) for score, _, one in ranked]


# ---- the index ------------------------------------------------------------------------------------------------------


def indexed_to(connection: sqlite3.Connection) -> int:
    """The last row that is in the index."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'indexed_to'").fetchone()
    return int(row[0]) if row is not None else 0


def index(connection: sqlite3.Connection, limit: int) -> int:
    """Take the next rows into the index, in one transaction; how many those were, 0 when it is level."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        reached = indexed_to(connection)
        rows = connection.execute(
            "SELECT id, content, session FROM entries WHERE id > ? ORDER BY id LIMIT ?", (reached, limit)
        ).fetchall()
        if rows:
            connection.executemany(
                "INSERT INTO recall (rowid, content, session) VALUES (?, ?, ?)", [row for row in rows if row[1]]
            )
            connection.execute("UPDATE meta SET value = ? WHERE key = 'indexed_to'", (str(rows[-1][0]),))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return len(rows)


def replaced(connection: sqlite3.Connection, entry: str, content: str, *, forgotten: bool) -> None:
    """Other words, or none, for an entry: in its row and, if it was indexed, in the index. Inside a transaction."""
    found = connection.execute(
        "SELECT id, content, session, forgotten FROM entries WHERE entry = ?", (entry,)
    ).fetchone()
    if found is None or found[3]:
        return
    number, old, session, _ = found
    if number <= indexed_to(connection) and old:
        connection.execute(
            "INSERT INTO recall (recall, rowid, content, session) VALUES ('delete', ?, ?, ?)", (number, old, session)
        )
        if content:
            connection.execute(
                "INSERT INTO recall (rowid, content, session) VALUES (?, ?, ?)", (number, content, session)
            )
    if forgotten:
        size = len(old.encode("utf-8", "surrogatepass"))
        connection.execute(
            "UPDATE entries SET content = '', forgotten = 1, bytes = coalesce(bytes, ?) WHERE id = ?", (size, number)
        )
    else:
        connection.execute("UPDATE entries SET content = ?, bytes = NULL WHERE id = ?", (content, number))


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
