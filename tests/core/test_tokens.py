from hypothesis import given
from hypothesis import strategies as st

from agentd.core.tokens import byte_length, cut_to_bytes, token_estimate

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


@given(ANY_TEXT, st.integers(-3, 60))
def test_a_cut_is_the_longest_prefix_that_fits(text: str, limit: int) -> None:
    kept = cut_to_bytes(text, limit)
    assert text.startswith(kept)
    assert byte_length(kept) <= max(limit, 0)
    if kept != text:
        assert byte_length(text[: len(kept) + 1]) > limit


def test_a_text_that_fits_comes_back_as_the_same_object() -> None:
    text = "grüße" * 10
    assert cut_to_bytes(text, 70) is text
    assert cut_to_bytes(text, 10_000) is text


def test_an_emoji_is_kept_whole_or_not_at_all() -> None:
    assert cut_to_bytes("a😀b", 4) == "a"
    assert cut_to_bytes("a😀b", 5) == "a😀"


def test_a_lone_surrogate_has_a_size() -> None:
    assert byte_length("\ud800") == 3


def test_tokens_are_rounded_up() -> None:
    assert [token_estimate(size, 4.0) for size in (0, 1, 4, 5)] == [0, 1, 1, 2]
