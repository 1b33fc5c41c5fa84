"""The full-text index: what it takes for a word, how it is filled, and how it follows when an entry's words change.

It is filled in batches, behind the rows: `indexed_to` says how far it is. It keeps no words (external content), so what
changes or goes has to be taken out of it with the very words that went in. Words are compared here without case and
marks; the index is asked for them as they were written, because it folds a word in its own way.
"""

import re
import sqlite3
import unicodedata

WORDS_MAX = 16
WORD_CHARS_MAX = 64
BATCH_BYTES = 512 * 1024  # of words that are taken in one transaction: about 20 ms in which no commit is made

# Letters and digits, with marks that stand by themselves (U+0300 to U+036F): what the index takes for one word.
_WORD = re.compile(r"[\w\u0300-\u036f]+")


def words_of(topic: str) -> dict[str, str]:
    """The words of a topic, each once: as they are compared here -> as they were written, for the index.

    They are letters, digits and marks only, so that nothing in a quoted one could be taken for an operator."""
    found: dict[str, str] = {}
    for said in _said(topic):
        found.setdefault(folded(said[:WORD_CHARS_MAX]), said[:WORD_CHARS_MAX])
        if len(found) == WORDS_MAX:
            break
    return found


def folded(word: str) -> str:
    """A word without case and marks."""
    if word.isascii():
        return word.lower()
    plain = unicodedata.normalize("NFKD", word.casefold())
    return "".join(one for one in plain if not unicodedata.combining(one))


def words_in(text: str) -> list[str]:
    """All words of a text, without case and marks."""
    if text.isascii():
        return _said(text.lower())
    return [folded(word) for word in _said(text)]


def _said(text: str) -> list[str]:
    return _WORD.findall(text.replace("_", " "))


def indexed_to(connection: sqlite3.Connection) -> int:
    """The last row that is in the index."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'indexed_to'").fetchone()
    return int(row[0]) if row is not None else 0


def index(connection: sqlite3.Connection, limit: int) -> int:
    """Take the next rows into the index, in one transaction; how many those were, 0 when it is level."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        reached = indexed_to(connection)
        rows = _next(connection, reached, limit)
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


def _next(connection: sqlite3.Connection, reached: int, limit: int) -> list[tuple[int, str, int]]:
    """At least one row when there is one; else as many as fit a batch."""
    rows: list[tuple[int, str, int]] = []
    size = 0
    for row in connection.execute(
        "SELECT id, content, session FROM entries WHERE id > ? ORDER BY id LIMIT ?", (reached, limit)
    ):
        size += len(row[1])
        if rows and size > BATCH_BYTES:
            break
        rows.append(row)
    return rows


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
