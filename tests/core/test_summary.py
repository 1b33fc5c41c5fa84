"""Extracts: the words themselves, within a size, the same for the same words (S7)."""

import pytest

from agentd.core.summary import LINE_BYTES_MIN, Said, extract, lowest_trust

TALK = [
    Said("user" if n % 2 == 0 else "assistant", "user", f"Sentence {n} is said. And more of it.") for n in range(60)
]


def test_the_first_sentence_of_each_oldest_first() -> None:
    assert extract(TALK[:2], 500) == "user: Sentence 0 is said.\nassistant: Sentence 1 is said."


@pytest.mark.parametrize("size", [1, 10, LINE_BYTES_MIN, 200, 2_048])
def test_it_never_takes_more_than_its_room(size: int) -> None:
    assert len(extract(TALK, size).encode()) <= size
    assert len(extract([Said("user", "user", "ü🙂" * 400)] * 3, size).encode()) <= size


def test_what_is_left_out_is_counted() -> None:
    text = extract(TALK, 480)
    assert "more]" in text
    assert "Sentence 0" in text
    assert "Sentence 59" in text, "the newest are kept"


def test_nothing_said_is_an_empty_extract() -> None:
    assert extract([], 100) == ""
    assert extract([Said("user", "user", " \n ")], 100) == ""


def test_a_summary_is_trusted_no_more_than_the_least_of_its_parts() -> None:
    assert lowest_trust(["user", "agent", "user"]) == "agent"
    assert lowest_trust(["tool", "user"]) == "tool"
    assert lowest_trust(["user", "elsewhere"]) == "elsewhere"
    assert lowest_trust([]) == "user"
