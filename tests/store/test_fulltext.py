"""What the index takes for a word, and that it is asked for it as it was written."""

from pathlib import Path

import pytest

from agentd.store import fulltext
from agentd.store.fulltext import BATCH_BYTES, WORDS_MAX, words_in, words_of
from tests.store.making import entry_row, opened, session_row, step

SAID = [
    ("die lange Straße am Fluss", "STRAßE"),
    ("ο μικρός σκύλος", "ΣΚΎΛΟΣ"),
    ("한국 바다 등대", "등대"),
    ("यह हिन्दी वाक्य है", "हिन्दी"),
    ("هَذَا كِتَاب", "كِتَاب"),
    ("שלום עולם", "שלום"),
    ("ガラス の ランプ", "ガラス"),
    ("İstanbul gezisi", "İstanbul"),
    ("мой дом", "Мой"),
    ("Łódź nad rzeką", "łódź"),
    ("tiếng Việt", "tiếng việt"),
    ("cafe\u0301 noir", "café"),
    ("café noir", "cafe\u0301"),
    ("the \ufb01nal o\ufb03ce", "\ufb01nal"),
    ("x² metres", "x²"),
    ("ＡＢＣ corp", "ＡＢＣ"),
    ("call do_thing now", "do_thing"),
    ("ภาษาไทย ดี", "ภาษาไทย"),
]


@pytest.mark.parametrize(("text", "topic"), SAID)
async def test_a_word_of_any_script_is_found_by_the_index_alone(tmp_path: Path, text: str, topic: str) -> None:
    """One row of many, so that those which the index has not reached, or that are read through, do not stand in."""
    async with opened(tmp_path / "agentd.db") as store:
        rows = [entry_row("x0", "a", content=text)]
        rows += [entry_row(f"x{n}", "a", f"x{n - 1}", content="filler", ts=n) for n in range(1, 5_002)]
        await store.append(step("a", 1, rows=(session_row("a", leaf=rows[-1].id), *rows)))
        while await store.index(2_000):
            pass
        assert [one.row.id for one in await store.query("a", topic=topic)] == ["x0"]


async def test_a_batch_is_bounded_in_bytes_so_that_no_commit_waits_long_for_it(tmp_path: Path) -> None:
    async with opened(tmp_path / "agentd.db") as store:
        rows = [entry_row(f"x{n}", "a", f"x{n - 1}" if n else None, content="word " * 13_000) for n in range(20)]
        await store.append(step("a", 1, rows=(session_row("a", leaf="x19"), *rows)))
        taken = []
        while some := await store.index(500):
            taken.append(some)
        assert sum(taken) == 20
        assert max(taken) <= 1 + BATCH_BYTES // len(rows[0].content)
        assert len(await store.query("a", topic="word", limit=30)) == 20


async def test_an_entry_larger_than_a_batch_is_taken_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fulltext, "BATCH_BYTES", 3)
    async with opened(tmp_path / "agentd.db") as store:
        rows = [entry_row(f"x{n}", "a", f"x{n - 1}" if n else None, content="large") for n in range(3)]
        await store.append(step("a", 1, rows=(session_row("a", leaf="x2"), *rows)))
        assert [await store.index(500) for _ in range(4)] == [1, 1, 1, 0]


def test_words_are_letters_digits_and_marks_each_once() -> None:
    assert words_of('The "quick" (brown) fox_trot; THE fox: 42%') == {
        "the": "The", "quick": "quick", "brown": "brown", "fox": "fox", "trot": "trot", "42": "42",
    }  # fmt: skip
    assert words_of('\0 " -- 🙂') == {}
    assert len(words_of(" ".join(f"w{n}" for n in range(100)))) == WORDS_MAX


def test_words_are_compared_without_case_and_marks() -> None:
    assert words_in("Kännchen KAFFEE, do_thing") == ["kannchen", "kaffee", "do", "thing"]
    assert words_in("Plain ASCII") == ["plain", "ascii"]
