"""Long-term memory: which entries speak of something, the best first.

Words are looked up in the full-text index (fulltext.py); rows that it has not reached yet are looked through.
Rows that have all the words come first, then those with more of them; among equals counts how well the text matches,
how new it is beside the newest found, and what kind it is:

    rank = words found + b / (1 + b)      with  b = match * (1 + 0.2 * newness + 0.1 * importance)

match is the sum over the words of  idf * tf / (tf + 0.6 + 0.6 * length / 40),  idf = ln(1 + COUNTED / rows with it),
rows counted up to `COUNTED`; newness is 1 for the newest candidate and 0 for the oldest; importance is 1 for a summary
or a plan, 0.5 for a user's words, else 0. Equal ranks stand newest first.

The candidates are the newest rows that have all the words, then, if those do not fill the answer, the newest of each of
the rarest words; only rows that the question's filters and its session let through are candidates. They are taken and
ranked in blocks of `BLOCK`, one behind the other, so that pages neither repeat nor leave out a row; of one word's rows
at most `LOOKED_MAX` are looked at, so that the cost is bounded for any words and filters. FTS5's own bm25() reads every
row that has a word before it ranks one (3 ms a common word at 100,000 rows), so the match is computed here, for the
candidates alone. Recall that nobody asked for looks for telling words only, those that at most `rare` rows have.
"""

import heapq
import math
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from agentd.store.fulltext import indexed_to, words_in, words_of
from agentd.store.reading import ENTRY_COLUMNS, entry_of, one_moment
from agentd.store.store import Found
from agentd.store.tree import path_parts, shared_parts

BLOCK = 128  # candidates that are ranked against each other
LOOKED_MAX = 20_000  # rows with a word that filters may turn away before an answer is given up
COUNTED = 2_000
RARE_WORDS = 3
TAIL_MAX = 5_000  # rows that are looked through because the index has not reached them yet, or has no such words
SESSIONS_MAX = 200

_FROM = f"SELECT {ENTRY_COLUMNS}, e.id, e.segment, e.depth FROM entries e JOIN sessions s ON s.id = e.session"
_MATCH = (
    "SELECT e.id, s.key, e.segment, e.depth, e.related_to"
    " FROM (SELECT rowid AS number FROM recall WHERE recall MATCH ? ORDER BY rowid DESC LIMIT ?) m"
    " CROSS JOIN entries e ON e.id = m.number CROSS JOIN sessions s ON s.id = e.session WHERE {where}"
)
# Where rows are, and what is their order there; depth rises with the row within a segment.
_OWN = "e.session = ?;e.id"
_BESIDE = "e.session = ? AND e.segment IS NULL;e.id"
_PART = "e.segment = ? AND e.depth <= ?;e.depth"
_PLACE = "SELECT segment, depth FROM entries WHERE entry = ?"
_COUNT = "SELECT count(*) FROM (SELECT 1 FROM recall WHERE recall MATCH ? LIMIT ?)"


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
        # Parts of other sessions: of the path, and what else this session's own entries go on from.
        self.elsewhere = {part.segment: part for part in self.parts if part.session != self.own}
        for part in () if path_only else shared_parts(connection, self.own):
            if part.depth > self.depths.get(part.segment, 0):
                self.elsewhere[part.segment] = part
        others = [part.session for part in self.elsewhere.values()]
        self.sessions = list(dict.fromkeys([self.own, *others]))[:SESSIONS_MAX]
        self.topic = topic
        self.path_only = path_only
        self.ids = ids
        self.kinds = kinds
        self.messages = kinds is None or "message" in kinds
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
        on_path = self.lets_through(entry.session, segment, depth, entry.related_to)
        return None if on_path is None else Found(entry, on_path, 0.0)

    def lets_through(self, session: str, segment: int | None, depth: int, related_to: str | None) -> bool | None:
        """Whether such an entry is on the path; None when this session does not see it."""
        if segment is None:  # a summary or a plan is where what it is related to is
            segment, depth = self.connection.execute(_PLACE, (related_to,)).fetchone() or (None, 0)
        if segment is not None and depth <= self.depths.get(segment, 0):
            return True
        part = self.elsewhere.get(segment) if segment is not None else None
        ours = session == self.key or (part is not None and depth <= part.depth)
        return False if ours and not self.path_only else None


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
    """By filters alone."""
    found: list[Found] = []
    skip = offset
    for row in _rows(asked):
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


def _rows(asked: Asked) -> Iterator[tuple[Any, ...]]:
    """What passes the filters, newest first: of this session, and of others the parts that they share."""
    if asked.ids is not None:  # few rows, wherever they are
        sql = f"{_FROM} WHERE {' AND '.join(asked.where)} ORDER BY e.id DESC"
        return asked.connection.execute(sql, asked.values)
    streams: list[Iterator[tuple[Any, ...]]] = []
    outside = asked.kinds is None or any(kind != "message" for kind in asked.kinds)
    whole = not asked.path_only
    if whole and asked.messages:
        streams.append(_stream(asked, _OWN, asked.own))
    if outside and not (whole and asked.messages):
        streams.append(_stream(asked, _BESIDE, asked.own))
    if asked.messages:
        parts = asked.parts if asked.path_only else asked.elsewhere.values()
        streams.extend(_stream(asked, _PART, part.segment, part.depth) for part in parts)
    if outside:
        streams.extend(_stream(asked, _BESIDE, session) for session in asked.sessions if session != asked.own)
    return heapq.merge(*streams, key=lambda row: -row[-3])


def _stream(asked: Asked, place: str, *values: object) -> Iterator[tuple[Any, ...]]:
    where, order = place.split(";")
    sql = f"{_FROM} WHERE {' AND '.join([where, *asked.where])} ORDER BY {order} DESC"
    return asked.connection.execute(sql, (*values, *asked.values))


class _Candidate(NamedTuple):
    """Where a row was found: `all`: it has all the words; the block of its word's rows, newest first."""

    all: bool
    block: int


class _Said(NamedTuple):
    """A candidate with its words: how many there are, and how often it has each that was asked for."""

    number: int
    found: Found
    length: int
    uses: dict[str, int]


def _ranked(asked: Asked, words: dict[str, str], wanted: int, rare: int | None) -> list[Found]:
    most = COUNTED if rare is None else rare + 1
    counts = {word: _counted(asked.connection, said, most) for word, said in words.items()}
    telling = sorted((word for word in words if counts[word]), key=counts.__getitem__)
    if rare is not None:
        telling = [word for word in telling if counts[word] <= rare][:RARE_WORDS]
        if not telling:
            return []
        words = {word: words[word] for word in telling}
    found: dict[int, _Candidate] = {}
    if asked.ids is not None:  # few rows: each is looked at, whatever the index says
        rows = {row[-3]: row for row in _rows(asked) if not words.keys().isdisjoint(words_in(row[7]))}
    else:
        if words:
            most = BLOCK * -(-wanted // BLOCK)
            _match(asked, words, counts, True, most, found)
            if len(found) < wanted and len(words) > 1:
                for word in telling[:RARE_WORDS]:
                    _match(asked, {word: words[word]}, counts, False, most, found)
        rows = _read(asked, list(found))
        rows.update({row[-3]: row for row in _unindexed(asked, words)})
    topic = (asked.topic or "").strip()
    if not rows and topic and not (words and topic.isascii()):
        # What has no words for the index (signs, emoji), or words that it does not part (Chinese): looked for as it is.
        rows = {row[-3]: row for row in islice(_rows(asked), TAIL_MAX) if topic in row[7]}
    seen = [(number, one) for number, row in rows.items() if (one := asked.seen(row)) is not None]
    return _ordered(seen, found, words, counts)[:wanted]


def _match(
    asked: Asked,
    words: dict[str, str],
    counts: dict[str, int],
    every: bool,
    most: int,
    found: dict[int, _Candidate],
) -> None:
    """The newest rows that have these words, and that the question lets through."""
    query = " AND ".join(f'content : "{said}"' for said in words.values())
    if min(counts[word] for word in words) > BLOCK:  # else so few rows that it is cheaper to look at each
        query += " AND session : (" + " OR ".join(f'"{number}"' for number in asked.sessions) + ")"
    rows = asked.connection.execute(_MATCH.format(where=" AND ".join(asked.where)), (query, LOOKED_MAX, *asked.values))
    passed = (number for number, *place in rows if asked.lets_through(*place) is not None)
    for at, number in enumerate(islice(passed, most)):
        known = found.get(number)
        if known is None or (not known.all and at // BLOCK < known.block):
            found[number] = _Candidate(every, at // BLOCK)


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


def _unindexed(asked: Asked, words: Collection[str]) -> list[tuple[Any, ...]]:
    """Rows that the index has not reached, newest first, if they have one of the words."""
    reached = indexed_to(asked.connection)
    wanted = set(words)
    where = " AND ".join([f"e.session IN ({_marks(asked.sessions)})", "e.id > ?", *asked.where])
    rows = asked.connection.execute(
        f"{_FROM} WHERE {where} ORDER BY e.id DESC LIMIT ?", (*asked.sessions, reached, *asked.values, TAIL_MAX)
    )
    return [row for row in rows if not wanted.isdisjoint(words_in(row[7]))]


def _ordered(
    seen: list[tuple[int, Found]], places: dict[int, _Candidate], words: Collection[str], counts: dict[str, int]
) -> list[Found]:
    """Rows with all words, then the others; block by block, each ranked by itself."""
    idf = {word: math.log(1 + COUNTED / (1 + count)) for word, count in counts.items()}
    blocks: dict[tuple[bool, int], list[_Said]] = {}
    for number, one in seen:
        text = words_in(one.row.content)
        uses = {word: count for word in idf if (count := text.count(word))}
        at = places.get(number) or _Candidate(uses.keys() >= set(words), 0)
        blocks.setdefault((not at.all, at.block), []).append(_Said(number, one, len(text), uses))
    return [one for _, block in sorted(blocks.items()) for one in _ranked_block(block, idf)]


def _ranked_block(block: list[_Said], idf: dict[str, float]) -> list[Found]:
    times = [said.found.row.ts for said in block]
    oldest, span = min(times), max(max(times) - min(times), 1)
    ranked = []
    for said in block:
        row = said.found.row
        scale = 0.6 + 0.6 * said.length / 40
        match = sum(idf[word] * count / (count + scale) for word, count in said.uses.items())
        newness = (row.ts - oldest) / span
        importance = 1.0 if row.kind in ("summary", "plan") else 0.5 if row.role == "user" else 0.0
        b = match * (1 + 0.2 * newness + 0.1 * importance)
        ranked.append((-(len(said.uses) + b / (1 + b)), -said.number, said.found))
    ranked.sort(key=lambda item: item[:2])
    return [Found(one.row, one.on_path, -score) for score, _, one in ranked]


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
