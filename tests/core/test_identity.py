import hashlib
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.core.identity import PRECEDENCE, Identity, Layer, LayerName, Shadow, merge

PLENTY = 1 << 20


def layer(name: LayerName, text: str | None) -> Layer:
    return Layer(name, f"identity/{name}.md", text)


def merged(budget: int = PLENTY, **texts: str | None) -> Identity:
    return merge([layer(name, texts[name]) for name in PRECEDENCE if name in texts], budget)


def headings(text: str) -> tuple[str, ...]:
    return merged(SOUL=text).layers[0].headings


def test_layers_are_merged_in_the_order_of_precedence_whatever_order_they_come_in() -> None:
    texts = {name: f"# {name}\nof {name}" for name in PRECEDENCE}
    one = merge([layer(name, texts[name]) for name in PRECEDENCE], PLENTY)
    other = merge([layer(name, texts[name]) for name in reversed(PRECEDENCE)], PLENTY)
    assert one == other
    assert one.text == "\n\n".join(texts[name] for name in PRECEDENCE)
    assert get_args(LayerName) == PRECEDENCE


def test_a_heading_of_a_higher_layer_shadows_the_section_below() -> None:
    identity = merged(SOUL="# Tone\ncalm", USER="# Tone\nloud\n\n# Name\nAda")
    assert identity.text == "# Tone\ncalm\n\n# Name\nAda"
    soul, user = identity.layers
    assert soul.shadowed == ()
    assert user.shadowed == (Shadow("Tone", "SOUL"),)
    assert user.headings == ("Tone", "Name")


def test_the_nearest_claim_from_above_is_the_one_that_is_named() -> None:
    identity = merged(SOUL="# A\na", AGENT="# A\nb\n# B\nb", USER="# A\nc\n# B\nc")
    assert identity.layers[2].shadowed == (Shadow("A", "SOUL"), Shadow("B", "AGENT"))


@pytest.mark.parametrize(
    "below",
    ["# TONE", "###### tone", "##   Tone  ", "# Tone #", "## Tone ##  ", "   # \tTone", "Tone\n===", " tone \n--- "],
)
def test_headings_are_compared_without_case_level_space_and_closing_marks(below: str) -> None:
    assert merged(SOUL="## Tone\ncalm", USER=f"{below}\nloud").text == "## Tone\ncalm"


def test_composed_and_decomposed_letters_are_the_same_heading() -> None:
    assert merged(SOUL="# Re\u0301gles\na", USER="# RÉGLES\nb").layers[1].shadowed == (Shadow("RÉGLES", "SOUL"),)


def test_a_shadowed_section_takes_only_itself_along() -> None:
    identity = merged(SOUL="# A\nx", AGENT="# A\ngone\n## Under A\nstays")
    assert identity.text == "# A\nx\n\n## Under A\nstays"


def test_a_blank_section_claims_nothing() -> None:
    identity = merged(SOUL="# Tone\n \t\n# Next\nx", USER="# Tone\nloud")
    assert "loud" in identity.text
    assert identity.layers[1].shadowed == ()


def test_one_file_may_use_a_heading_twice() -> None:
    text = "# A\none\n# a\ntwo"
    assert merged(AGENT=text).text == text
    assert merged(AGENT=text, USER="# A\nthree").text == text


def test_text_before_the_first_heading_is_never_shadowed() -> None:
    assert merged(SOUL="first\n# A\na", USER="second\n# A\nb").text == "first\n# A\na\n\nsecond"


def test_a_heading_without_a_name_is_never_shadowed() -> None:
    assert merged(SOUL="#\none", USER="##\ntwo").text == "#\none\n\n##\ntwo"


@pytest.mark.parametrize("fence", ["```", "~~~", "````", "   ```python"])
def test_headings_in_a_code_fence_are_text(fence: str) -> None:
    closing = fence.strip().removesuffix("python")
    text = f"# Real\n{fence}\n# comment\n~~\n``\n{closing}\n# After"
    assert headings(text) == ("Real", "After")


@pytest.mark.parametrize("not_closing", ["``` python", "~~~", "``", "    ```"])
def test_only_a_fence_of_the_same_kind_closes_a_fence(not_closing: str) -> None:
    assert headings(f"```\n{not_closing}\n# still code\n```\n# After") == ("After",)


def test_a_longer_run_closes_a_fence() -> None:
    assert headings("```\n# code\n`````\n# After") == ("After",)


def test_code_within_a_line_opens_no_fence() -> None:
    assert headings("```x``` is code\n# After") == ("After",)


def test_an_open_fence_is_told_and_closed_before_the_next_layer() -> None:
    identity = merged(SOUL="~~~~\n# lost", USER="# A\na")
    assert identity.text == "~~~~\n# lost\n~~~~\n\n# A\na"
    assert "identity/SOUL.md" in identity.warnings[0]


@pytest.mark.parametrize("text", ["#Tag", "    # code", "####### seven", "text # no", "\\# no"])
def test_what_only_looks_like_a_heading_is_text(text: str) -> None:
    assert headings(text) == ()


@pytest.mark.parametrize("name", ["C#", "F# and C#", "#1 rule"])
def test_a_mark_that_belongs_to_the_name_stays(name: str) -> None:
    assert headings(f"# {name}") == (name,)


def test_a_line_over_a_line_of_marks_is_a_heading() -> None:
    text = "Title\n=====\nbody\n\nSecond\n---\nmore"
    assert headings(text) == ("Title", "Second")
    assert merged(SOUL="# second\nx", USER=text).text == "# second\nx\n\nTitle\n=====\nbody"
    assert headings("# A\nB\n---") == ("A", "B")


@pytest.mark.parametrize(
    "text",
    [
        *["---\nkey: value\n---\n", "two\nlines\n---", "- item\n---", "> quote\n---", "| a |\n---", "\n---", "text\n-"],
        *["1. one\n--", "\n```\n\n```\n---", "    code\n---", "---"],
    ],
)
def test_a_rule_is_no_heading(text: str) -> None:
    assert headings(text) == ()


def test_missing_layers_are_fine_and_not_reported_while_empty_ones_are() -> None:
    identity = merged(SOUL=None, AGENT="", USER="# A\na")
    assert identity.text == "# A\na"
    assert [(one.name, one.bytes) for one in identity.layers] == [("AGENT", 0), ("USER", 5)]


def test_no_layers_at_all_are_an_empty_identity() -> None:
    assert merge([], PLENTY) == Identity("", hashlib.sha256(b"").hexdigest()[:32], 0, (), ())


def test_byte_order_mark_and_line_ends_make_no_difference() -> None:
    assert merged(SOUL="\ufeff# A\r\nx\r\r\n# B\r\ny") == merged(SOUL="# A\nx\n\n# B\ny")


def test_other_separators_end_no_line() -> None:
    assert headings("a\u2028# no\x0b# no\x85# no") == ()


def test_what_does_not_fit_is_cut_from_the_lowest_layer_up_and_told() -> None:
    identity = merged(12, SOUL="# S\nsoul", USER="# U\nuser")
    assert identity.text == "# S\nsoul\n\n# "
    assert [(one.bytes, one.truncated) for one in identity.layers] == [(8, False), (2, True)]
    assert identity.warnings == ("identity cut from 18 to 12 bytes: identity/USER.md",)


def test_a_cut_reaches_into_the_higher_layers_only_when_the_lower_are_gone() -> None:
    identity = merged(5, SOUL="# S\nsöul", AGENT="", USER="# U\nuser")
    assert identity.text == "# S\ns"
    assert [one.truncated for one in identity.layers] == [True, False, True]
    assert "identity/SOUL.md, identity/USER.md" in identity.warnings[0]


def test_a_cut_lies_on_a_code_point() -> None:
    assert merged(6, SOUL="söül").text == "söül"
    assert merged(5, SOUL="söül").text == "söü"


def test_the_hash_is_of_the_merged_text() -> None:
    identity = merged(SOUL="# A\n\ud800")
    assert len(identity.hash) == 32
    assert merged(SOUL="# A\nb").hash == hashlib.sha256(b"# A\nb").hexdigest()[:32]
    assert merged(SOUL="# A\nb").hash == merged(AGENT="# A\nb").hash
    assert merged(SOUL="# A\nb").hash != merged(SOUL="# A\nc").hash


LINES = st.sampled_from(
    [
        "# A",
        "## a ##",
        "### B",
        "C",
        "===",
        "---",
        "```",
        "~~~",
        "",
        "  ",
        "text",
        "- item",
        "#",
        "\ufeff",
        "ä😀",
        "x\0y",
    ]
)
FILES = st.none() | st.lists(LINES, max_size=12).map("\n".join)


@given(st.tuples(FILES, FILES, FILES, FILES))
def test_every_section_that_is_not_shadowed_is_in_the_text(files: tuple[str | None, ...]) -> None:
    identity = merge([layer(name, text) for name, text in zip(PRECEDENCE, files, strict=True)], PLENTY)
    for report in identity.layers:
        text = files[PRECEDENCE.index(report.name)]
        assert text is not None
        alone = merge([layer(report.name, text)], PLENTY)
        if not report.shadowed:
            assert alone.text in identity.text
            assert report.bytes == alone.bytes
        assert all(shadow.by in PRECEDENCE[: PRECEDENCE.index(report.name)] for shadow in report.shadowed)
        kept = len(report.headings) - len(report.shadowed)
        assert kept >= 0


@given(st.tuples(FILES, FILES, FILES, FILES), st.integers(0, 80))
def test_what_is_cut_is_a_prefix_within_the_budget_and_never_silent(files: tuple[str | None, ...], budget: int) -> None:
    layers = [layer(name, text) for name, text in zip(PRECEDENCE, files, strict=True)]
    whole, cut = merge(layers, PLENTY), merge(layers, budget)
    assert whole.text.startswith(cut.text)
    assert cut.bytes <= budget
    lossy = cut.text != whole.text
    assert lossy == (len(cut.warnings) > len(whole.warnings))
    assert [one.headings for one in cut.layers] == [one.headings for one in whole.layers]


def test_a_hostile_file_is_merged_in_linear_time() -> None:
    lines = ["# " + "#" * 50_000 + " " * 50_000, "=" * 50_000, "", "a\n--\n" * 9_000, "`" * 50_000]
    assert len(merged(SOUL="\n".join(lines), USER="\n".join(lines)).layers[0].headings) == 9_000
