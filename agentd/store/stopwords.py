"""Stop words: those known to be in too many rows to tell anything, so that recall need not count them again.

Recall that nobody asked for looks for words that at most `rare` rows have, and most words of a chat turn are in many
more: without this each turn of a long session counted them anew, in a reader's thread, for a quarter of its CPU. Rows
only become more, but by forgetting and by retention; then the store begins with a new one.
"""

import sqlite3

from agentd.store.fulltext import words_of

KNOWN_MAX = 10_000

_COUNT = "SELECT count(*) FROM (SELECT 1 FROM recall WHERE recall MATCH ? LIMIT ?)"


class StopWords:
    """What is known of them; lives on the loop."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}  # folded -> at least so many rows have it

    def left(self, topic: str, rare: int) -> dict[str, str]:
        """The words of a topic that may tell something, folded -> as written."""
        known = self._known
        return {word: said for word, said in words_of(topic).items() if known.get(word, 0) <= rare}

    def learn(self, counts: dict[str, int]) -> None:
        """What was counted; of too many words the oldest are given up."""
        self._known.update(counts)
        while len(self._known) > KNOWN_MAX:
            del self._known[next(iter(self._known))]


def counted(connection: sqlite3.Connection, words: dict[str, str], rare: int) -> dict[str, int]:
    """Those of the words that more than `rare` rows have, with that many; for a reader's thread."""
    found = {}
    for word, said in words.items():
        count = connection.execute(_COUNT, (f'content : "{said}"', rare + 1)).fetchone()[0]
        if count > rare:
            found[word] = int(count)
    return found
