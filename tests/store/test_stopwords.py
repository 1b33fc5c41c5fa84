"""Words that tell nothing are counted once; those that go on telling are looked for each time."""

from pathlib import Path

import pytest

from agentd.store import sqlite, stopwords
from agentd.store.stopwords import KNOWN_MAX, StopWords
from tests.store.making import entry_row, opened, step

RARE = 3


def test_what_was_counted_is_left_out_and_the_oldest_are_given_up() -> None:
    words = StopWords()
    words.learn({"the": RARE + 1})
    assert words.left("The plums of the Tree", RARE) == {"plums": "plums", "of": "of", "tree": "Tree"}
    assert "the" in words.left("the", RARE + 1), "it was counted up to fewer than are asked for now"
    words.learn({f"w{number}": 9 for number in range(KNOWN_MAX)})
    assert words.left("the", RARE) == {"the": "the"}


async def test_a_common_word_is_counted_once_and_again_after_forgetting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    counted = stopwords.counted

    def noted(connection, words, rare):  # type: ignore[no-untyped-def]
        asked.append(list(words))
        return counted(connection, words, rare)

    monkeypatch.setattr(sqlite, "counted", noted)
    async with opened(tmp_path / "agentd.db") as store:
        rows = [entry_row(f"a{n}", "a", content=f"the turn {'plums' if n == 2 else n}") for n in range(1, 9)]
        await store.append(step("a", 1, rows=tuple(rows)))
        await store.index()

        async def found(topic: str) -> list[str]:
            return [one.row.id for one in await store.query("a", topic=topic, rare=RARE)]

        assert await found("the plums") == ["a2"]
        assert await found("the plums") == ["a2"]
        assert await found("The") == []
        assert asked == [["the", "plums"], ["plums"]]
        await store.blank([f"a{n}" for n in range(3, 9)], [], lambda _: None, runs=[])
        assert await found("the") == ["a2", "a1"]
