"""Long-term memory: which entries speak of something, the best first.

Words are looked up in the full-text index, which is filled in batches; rows that are not in it yet are looked through.
Rows that have all the words come first, then those with more of them; among equals counts how well the text matches,
how new it is beside the newest found, and what kind it is:

    rank = words found + b / (1 + b)      with  b = match * (1 + 0.2 * newness + 0.1 * importance)

match is the sum over the words of  idf * tf / (tf + 0.6 + 0.6 * length / 40),  idf = ln(1 + COUNTED / rows with it),
rows counted up to `COUNTED`; newness is 1 for the newest candidate and 0 for the oldest; importance is 1 for a summary
or a plan, 0.5 for a user's words, else 0. Equal ranks stand newest first.

The candidates are the newest rows that have all the words (four times as many as are wanted), then, if those do not
fill the answer, the newest of each of the rarest words: so the cost is bounded for any words. FTS5's own bm25() reads
every row that has a word before it ranks one (3 ms a common word at 100,000 rows), so the match is computed here, for
the candidates alone. Every word is quoted for the index, so there is nothing in a topic that it could take for an
operator. Recall that nobody asked for looks for telling words only, those that at most `rare` rows have.
"""

import math
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
CANDIDATES_MIN = 64  # looked at for an answer of any length; for a longer one four times as many as it has
COUNTED = 2_000
RARE_WORDS = 3
TAIL_MAX = 5_000  # rows that are looked through because the index has not reached them yet, or has no such words
SESSIONS_MAX = 200

_WORD = re.compile(r"[^\W_]+")
_FROM = f"SELECT {ENTRY_COLUMNS}, e.id, e.segment, e.depth FROM entries e JOIN sessions s ON s.id = e.session"
_MATCH = "SELECT rowid FROM recall WHERE recall MATCH ? ORDER BY rowid DESC LIMIT ?"
_COUNT = "SELECT count(*) FROM (SELECT 1 FROM recall WHERE recall MATCH ? LIMIT ?)"


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
    rare: int | None = None,
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
        return _ranked(asked, words_of(topic), limit + offset, rare)[offset : offset + limit]


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


def _ranked(asked: Asked, words: list[str], wanted: int, rare: int | None) -> list[Found]:
    most = COUNTED if rare is None else rare + 1
    counts = {word: _counted(asked.connection, word, most) for word in words}
    if rare is not None:
        words = sorted((word for word in words if 0 < counts[word] <= rare), key=counts.__getitem__)[:RARE_WORDS]
        if not words:
            return []
    numbers: dict[int, None] = {}
    if words:
        most = max(CANDIDATES_MIN, 4 * wanted)
        _match(asked, words, numbers, most)
        if len(numbers) < wanted and len(words) > 1:
            for word in sorted((word for word in words if counts[word]), key=counts.__getitem__)[:RARE_WORDS]:
                _match(asked, [word], numbers, most)
    rows = _read(asked, list(numbers))
    rows.update({row[-3]: row for row in _unindexed(asked, words)})
    if not rows and asked.topic and asked.topic.strip() and not (words and asked.topic.isascii()):
        # What has no words for the index (signs, emoji), or words that it does not part (Chinese): looked for as it is.
        rows = {row[-3]: row for row in _rows(asked, 1 << 62, TAIL_MAX) if asked.topic.strip() in row[7]}
    found = [(number, one) for number, row in rows.items() if (one := asked.seen(row)) is not None]
    return _ordered(found, counts)[:wanted]


def _match(asked: Asked, words: list[str], numbers: dict[int, None], most: int) -> None:
    """The newest rows that have all of the words."""
    inside = "session : (" + " OR ".join(f'"{number}"' for number in asked.sessions) + ")"
    terms = " AND ".join(f'content : "{word}"' for word in words)
    found = asked.connection.execute(_MATCH, (f"{inside} AND {terms}", most))
    numbers.update(dict.fromkeys(row[0] for row in found))


def _counted(connection: sqlite3.Connection, word: str, most: int) -> int:
    """How many rows have the word, counted up to `most`."""
    return int(connection.execute(_COUNT, (f'content : "{word}"', most)).fetchone()[0])


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


def words_in(text: str) -> list[str]:
    """All words of a text, folded as the index folds them."""
    if not text.isascii():
        text = "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))
    return _WORD.findall(text.casefold())


def _ordered(found: list[tuple[int, Found]], counts: dict[str, int]) -> list[Found]:
    if not found:
        return []
    times = [one.row.ts for _, one in found]
    oldest, span = min(times), max(max(times) - min(times), 1)
    idf = {word: math.log(1 + COUNTED / (1 + count)) for word, count in counts.items()}
    ranked = []
    for number, one in found:
        row, said = one.row, words_in(one.row.content)
        uses = {word: uses for word in idf if (uses := said.count(word))}
        scale = 0.6 + 0.6 * len(said) / 40
        match = sum(idf[word] * count / (count + scale) for word, count in uses.items())
        newness = (row.ts - oldest) / span
        importance = 1.0 if row.kind in ("summary", "plan") else 0.5 if row.role == "user" else 0.0
        b = match * (1 + 0.2 * newness + 0.1 * importance)
        ranked.append((-(len(uses) + b / (1 + b)), -number, one))
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
