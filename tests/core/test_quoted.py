import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.core.quoted import VEIL, veil


def shown(text: str) -> str:
    """What the veil leaves to be seen."""
    return veil(text).replace(VEIL, "")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('say "a; b" now', "say  now"),
        ("say 'a; b' now", "say  now"),
        ("say “a; b” now", "say  now"),
        ("say „a; b“ now", "say  now"),
        ("say «a; b» now", "say  now"),
        ("run `a; b` now", "run  now"),
        ("run ``a ` b`` now", "run  now"),
        ("f(a; (b c)) now", "f now"),
        ("see [a; b] {c} now", "see   now"),
        ("at https://a.b/c;d?e then", "at https then"),
        ("at https://a.b/c; then", "at https; then"),
        ("a &amp; b", "a  b"),
    ],
)
def test_quotations_are_veiled(text: str, left: str) -> None:
    assert shown(text) == left


@pytest.mark.parametrize(
    "text",
    [
        'a 5" disk and a 3" disk',
        "don't; won't",
        "it's 'open and",
        "a ( b",
        "a ) b",
        "([)]"[:3],
        "run `a; b",
        "``a`",
        'an " alone " here',
        "(1) a (b) c",
        "“open",
    ],
)
def test_a_mark_that_is_not_closed_or_is_no_mark_quotes_nothing(text: str) -> None:
    assert veil(text) == text


def test_a_quotation_ends_with_its_paragraph_and_with_its_item() -> None:
    for text in ('say "a\n\nb" c', "(a\n- b)", "`a\n1. b`", "(a\n2) b)"):
        assert veil(text).count("\n") == text.count("\n")
    assert shown('say "a\nb" c') == "say  c"


def test_an_apostrophe_does_not_end_a_quotation() -> None:
    assert shown("say 'it's; so' now") == "say  now"


def test_a_fence_is_veiled_with_the_line_ends_before_it() -> None:
    assert shown("fix this:\n\n```py\na; b\n~~~\n``\n\n- c\n```\nthen d") == "fix this:\nthen d"
    assert shown("~~~\na\n~~~~\nb") == "\nb"


def test_a_fence_that_stays_open_veils_nothing_and_inline_ticks_open_none() -> None:
    assert veil("~~~\na; b") == "~~~\na; b"
    assert shown("```x``` a\nb") == " a\nb"
    assert veil("~~~\na\n~~~ b\nc") == "~~~\na\n~~~ b\nc"


MARKS = st.text(alphabet="\"`'()[]{}“”„« ab;:/\n-1~&", max_size=60)


@given(MARKS)
def test_the_veil_keeps_every_position(text: str) -> None:
    veiled = veil(text)
    assert len(veiled) == len(text)
    assert all(there in (VEIL, here) for here, there in zip(text, veiled, strict=True))
