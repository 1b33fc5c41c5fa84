from agentd.core.outline import outline
from agentd.core.quoted import veil


def read(text: str) -> tuple[list[tuple[str, list[str]]], list[str]]:
    """The parts with their headings, and the shared context."""
    found = outline(text, veil(text))
    parts = [(text[p.start : p.end].strip(" ;"), [text[a:b].strip() for a, b in p.section]) for p in found.parts]
    return parts, [text[a:b] for a, b in found.shared]


def parts(text: str) -> list[str]:
    return [part for part, _ in read(text)[0]]


def test_marks_of_lists_are_taken_off() -> None:
    marks = ["-", "*", "•", "1.", "2)", "(3)", "a)", "(b)", "- [ ]", "- [x]"]
    assert parts("\n".join(f"{mark} do {mark}" for mark in marks)) == [f"do {mark}" for mark in marks]
    assert parts("1.Fetch\n2.Parse") == ["Fetch", "Parse"]


def test_numbers_that_are_no_marks_stay() -> None:
    assert parts("-5 degrees\n-3 degrees") == ["-5 degrees", "-3 degrees"]
    assert parts("1.5 litres\n3.x branch\n2024. x") == ["1.5 litres", "3.x branch", "2024. x"]
    assert parts("-\n-\n") == ["-", "-"]


def test_items_are_not_divided_again_and_keep_what_is_under_them() -> None:
    assert parts("- a; b\n- c and then d\n  more\n    - deep\n- e") == ["a; b", "c and then d\n  more\n    - deep", "e"]
    assert parts(" 1. a\n2. b") == ["a", "b"]


def test_headings_are_context_of_what_follows() -> None:
    assert read("# Plan\nBackend:\n- a\n- b\nFrontend:\n- c") == (
        [("a", ["# Plan", "Backend:"]), ("b", ["# Plan", "Backend:"]), ("c", ["Frontend:"])],
        [],
    )
    assert read("a\nEnd:") == ([("a", [])], ["End:"])


def test_an_item_over_a_list_of_its_own_is_a_heading() -> None:
    assert read("- X:\n  - a\n  - b:\n    - c\n- d\n  - sub") == (
        [("a", ["X:"]), ("c", ["X:", "b:"]), ("d\n  - sub", [])],
        [],
    )


def test_text_before_a_list_is_context_and_text_after_it_only_when_it_asks_for_nothing() -> None:
    assert read("I bake.\n- a\n- b\n\nThen write c; d\nUse Python.") == (
        [("a", []), ("b", []), ("Then write c", []), ("d", [])],
        ["I bake.", "Use Python."],
    )
    assert read("- a\n- b\nTranslate them")[0][2][0] == "Translate them"


def test_indented_text_under_a_heading_in_a_list_is_no_part_of_the_item_above() -> None:
    assert read("- a\n- b\nNote:\n    more") == ([("a", []), ("b", [])], ["    more".strip(), "Note:"])


def test_one_mark_is_a_list_only_where_a_list_may_begin() -> None:
    assert parts("- a\nwrite b") == ["a", "write b"]
    assert read("Do:\n- a")[0] == [("a", ["Do:"])]
    assert parts("one\n- two\nthree") == ["one", "- two", "three"]


def test_an_enumeration_within_a_line_is_a_list() -> None:
    assert read("Please: 1) a, 2) b") == ([("a,", ["Please:"]), ("b", ["Please:"])], [])
    assert parts("(a) x (b) y") == ["x", "y"]
    assert [part.step for part in outline("step 1: a. Step 2: b", "step 1: a. Step 2: b").parts] == [True, True]
    assert parts("see 1. and 3. there") == ["see 1. and 3. there"]
    assert parts("1) x a) y 2) z") == ["x a) y", "z"]


def test_marks_in_quotations_are_none() -> None:
    assert parts('"1) a 2) b" now') == ['"1) a 2) b" now']
    assert parts("'- a'\n- b\n- c") == ["b", "c"]


def test_an_introduction_within_a_line_is_a_heading() -> None:
    assert read("Do the following: write a; write b") == (
        [("write a", ["Do the following:"]), ("write b", ["Do the following:"])],
        [],
    )
    assert parts("Call me at 10: write a") == ["Call me at 10: write a"]


def test_lines_are_parts_but_for_those_an_editor_wrapped() -> None:
    assert parts("a\n\r\n  \nb; c\r\nd") == ["a", "b", "c", "d"]
    long = "x" * 30 + " " + "y" * 30
    assert parts(f"{long}\nand on\nmore") == [f"{long}\nand on", "more"]
    assert parts(f"{long}.\nand on") == [f"{long}.", "and on"]
    assert parts(f"{long}\nOn") == [long, "On"]


def test_a_block_of_code_at_the_top_is_context() -> None:
    assert read("```\na; b\n```\nexplain it") == ([("explain it", [])], ["```\na; b\n```"])
    assert parts("explain:\n```\na; b\n```\nfix x") == ["explain:\n```\na; b\n```", "fix x"]
