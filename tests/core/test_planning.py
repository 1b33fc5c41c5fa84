import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.core.planning import CONTEXT_CHARS_MIN, TITLE_CHARS, Draft, DraftTask, split_goal


def titles(text: str) -> list[str]:
    return [task.title for task in split_goal(text).tasks]


def needs(text: str) -> list[tuple[int, ...]]:
    return [task.depends_on for task in split_goal(text).tasks]


def test_one_part_is_one_task_with_the_text_as_it_stands() -> None:
    for text in (
        "Write a poem.",
        " salt and pepper\n",
        "https://a.b/c;d?e=1",
        "Do this:\nwrite x",
        "a" * 200,
        "## Only:",
    ):
        assert [(task.prompt, task.depends_on) for task in split_goal(text).tasks] == [(text, ())]
        assert split_goal(text).told == ()


def test_a_blank_goal_is_one_task() -> None:
    assert split_goal(" \n") == Draft((DraftTask("(no words)", " \n"),))
    assert split_goal("").tasks == (DraftTask("(no words)", ""),)


def test_separators_alone_make_no_task() -> None:
    assert titles("; write a;; ;\n;") == ["; write a;; ;"[2:9]]
    assert titles("write a; then; write b") == ["write a", "write b"]
    assert len(titles(";;;")) == 1


def test_five_parts_are_five_tasks_that_need_nothing() -> None:
    for text in ("a; b; c; d; e", "a\nb\nc\nd\ne", "1. a\n2. b\n3. c\n4. d\n5. e", "- a\n- b\n- c\n- d\n- e"):
        assert titles(text) == list("abcde")
        assert needs(text) == [()] * 5


@pytest.mark.parametrize(
    "words",
    ["then", "and then", "after that,", "afterwards", "next,", "once done,", "when it's finished,", "Subsequently"],
)
def test_order_words_make_a_task_wait_for_the_one_before(words: str) -> None:
    draft = split_goal(f"fetch a; fetch b; {words} sort c")
    assert [(task.title, task.depends_on) for task in draft.tasks] == [
        ("fetch a", ()),
        ("fetch b", ()),
        ("sort c", (1,)),
    ]


@pytest.mark.parametrize("words", ["finally", "Lastly,", "and finally,", "then, finally", "last, "])
def test_finally_waits_for_all_before(words: str) -> None:
    assert needs(f"fetch a; fetch b; {words} sort c; fetch d") == [(), (), (0, 1), ()]


def test_words_that_only_may_tell_an_order_need_a_verb() -> None:
    assert titles("first write a; next write b; last write c") == ["write a", "write b", "write c"]
    assert needs("first write a; next write b; last write c") == [(), (0,), (0, 1)]
    assert titles("first aid kit; next week; last name") == ["first aid kit", "next week", "last name"]
    assert titles("next release notes; last report") == ["next release notes", "last report"]
    assert titles("also " * 7 + "a; b") == ["also a", "b"]
    assert titles("meanwhile write a; and also b") == ["write a", "b"]
    assert titles("Next.js guide; then-current x") == ["Next.js guide", "then-current x"]


def test_before_that_puts_a_task_ahead_of_the_one_spoken_of() -> None:
    draft = split_goal("fetch x; deploy it; before that run the tests; before that lint; then rest")
    assert [(task.title, task.depends_on) for task in draft.tasks] == [
        ("fetch x", ()),
        ("lint", ()),
        ("run the tests", (1,)),
        ("deploy it", (0, 1, 2)),
        ("rest", (3,)),
    ]
    assert needs("before that a; b") == [(), ()]


@pytest.mark.parametrize("outcome", ["it", "them", "the results", "the output", "that to Ann", "these."])
def test_who_speaks_of_an_outcome_waits_for_it(outcome: str) -> None:
    assert needs(f"write a poem and print {outcome}" if outcome == "it" else f"write x; print {outcome}") == [(), (0,)]


def test_a_pronoun_that_names_something_else_is_no_outcome() -> None:
    assert needs("write x; print that letter; print italics") == [(), (), ()]


@pytest.mark.parametrize(
    "head", ["In order:", "Do these step by step:", "Steps:", "One after another:", "In this sequence:"]
)
def test_a_list_in_order_is_a_chain(head: str) -> None:
    assert needs(f"{head}\n- a\n- b\n- c") == [(), (0,), (1,)]


def test_the_order_of_one_list_is_not_that_of_another() -> None:
    assert needs("In order:\n- a\n- b\nOthers:\n- c\n- d") == [(), (0,), (), ()]
    assert needs("- a\n- b\nGo on in order.") == [(), (0,)]
    assert needs("In order to win:\n- a\n- b") == [(), ()]


def test_steps_are_a_chain_and_numbers_are_not() -> None:
    assert needs("step 1: a\nstep 2: b") == [(), (0,)]
    assert needs("1) a 2) b") == [(), ()]


def test_connecting_words_and_separators_of_an_enumeration_are_taken_off() -> None:
    assert titles("Please 1) fetch a, 2) fetch b, and 3) sort c") == ["fetch a", "fetch b", "sort c"]


def test_context_stands_in_the_prompt_of_each_of_its_tasks() -> None:
    draft = split_goal("I run a bakery.\n## Texts\n- menu\n- story\n## Pictures\n- logo")
    assert [task.prompt for task in draft.tasks] == [
        "I run a bakery.\n## Texts\n\nmenu",
        "I run a bakery.\n## Texts\n\nstory",
        "I run a bakery.\n## Pictures\n\nlogo",
    ]
    assert titles("I run a bakery.\n## Texts\n- menu\n- story") == ["menu", "story"]


def test_a_heading_over_connecting_words_only_is_context_of_all() -> None:
    assert split_goal("write a; b\n# Poems\nand").tasks[1].prompt == "# Poems\n\nb"


def test_merged_tasks_keep_the_heading_of_the_first_in_the_text() -> None:
    draft = split_goal("fetch a\n# Poems\nb\n# Other\nbefore that c; d", 2)
    assert draft.tasks[1].prompt == "# Poems\n\nb\n# Other\nbefore that c; d"


def test_context_too_long_to_repeat_is_cut_in_repeats_and_told() -> None:
    text = "x " * 40_000 + "END\n" + "- a\n" * 100
    draft = split_goal(text)
    assert "END" in draft.tasks[0].prompt
    assert sum(len(task.prompt) for task in draft.tasks) < 160_000
    assert "cut in 99 of 100 prompts" in draft.told[0]


def test_headings_too_long_to_repeat_are_cut_in_repeats_and_told() -> None:
    text = f"{'x ' * 40_000}END:\n- A:\n  - a1\n  - a2\n- B TAIL:\n  - b1\n" + "- c\n" * 200
    draft = split_goal(text, 400)
    assert "END:" in draft.tasks[0].prompt
    assert "B TAIL:" in draft.tasks[2].prompt
    assert all(len(task.prompt) < 2 * CONTEXT_CHARS_MIN + 200 for task in draft.tasks[1:])
    assert "prompts" in draft.told[0]


def test_more_parts_than_a_plan_holds_are_merged_into_the_last_and_told() -> None:
    draft = split_goal("a; b; c; then d; e", tasks_max=3)
    assert [task.prompt for task in draft.tasks] == ["a", "b", "c; then d; e"]
    assert draft.told == ("the goal has 5 parts and a plan holds 3: the parts from 3 on are one task",)
    assert needs("a; b; then c; d") == [(), (), (1,), ()]
    assert split_goal("a; b; then c; d", 3).tasks[2].depends_on == (1,)
    assert split_goal("a; b; c; finally d", 3).tasks[2].depends_on == (0, 1)
    assert split_goal("a; b", 1).tasks == (DraftTask("a; b", "a; b"),)


def test_a_plan_of_no_tasks_is_refused() -> None:
    with pytest.raises(ValueError, match="tasks_max"):
        split_goal("a", 0)


def test_titles_are_cut_on_a_word_and_prompts_are_whole() -> None:
    long = "write " + "word " * 40
    title, other = titles(f"{long}; b")
    assert len(title) <= TITLE_CHARS
    assert re.fullmatch(r"write( word)+…", title)
    assert other == "b"
    assert split_goal(f"{long}; b").tasks[0].prompt == long.strip()
    assert titles("x" * 100 + "; b")[0] == "x" * 79 + "…"
    assert titles("write\n  a") != ["write a"]


def test_a_title_is_not_cut_within_a_character() -> None:
    assert titles("x" * 78 + "e\u0301" + "y" * 20 + "; b")[0] == "x" * 78 + "…"
    assert titles("x" * 77 + "👩\u200d👧" + "y" * 20 + "; b")[0] == "x" * 77 + "…"
    assert titles("\u0301" * 100 + "; b")[0] == "\u0301" + "…"


@pytest.mark.parametrize(
    "text", ["שלום; עולם", "🎉; 🎊", "a\0b; c\0", "写诗；翻译", "\u2028; \x0b", "\ud800; x", "!!!; ???"]
)
def test_any_text_comes_through_unharmed(text: str) -> None:
    prompts = " ".join(task.prompt for task in split_goal(text).tasks)
    assert all(char in prompts for char in text if char not in ";； \x0b")


_WORDS = """write|poem|and|then|it|the|test|a|finally|next|before that|use|Steps|if|e.g.|alpha|x.y|1.2.3|-5|`q;r`|"s t
|(uu|vv)|https://w/x;y|step 2:|first|ß|😀|&|in order|last"""
_SEAMS = ' | | |; |, |. |\n|\n- |\n  - |\n1. |\n2) |:\n|\n\n|\n# | 1) | 2) |? |\n```\n|"|\n    '
WORDS, SEAMS = st.sampled_from(_WORDS.split("|")), st.sampled_from(_SEAMS.split("|"))
GOALS = st.lists(st.tuples(WORDS, SEAMS), min_size=1, max_size=25).map(lambda pairs: "".join(map("".join, pairs)))
CONNECTING = {"and", "then", "finally", "next", "first", "last", "before", "that", "step", "also", "x"}


@given(GOALS, st.integers(1, 6) | st.just(200))
def test_no_word_is_dropped_and_needs_lie_before(text: str, tasks_max: int) -> None:
    draft = split_goal(text, tasks_max)
    assert 1 <= len(draft.tasks) <= tasks_max
    prompts = "\n".join(task.prompt for task in draft.tasks)
    for word in re.findall(r"[^\W\d_]+|😀", text):
        assert word in prompts or word.lower() in CONNECTING, word
    for number, task in enumerate(draft.tasks):
        assert task.title
        assert len(task.title) <= TITLE_CHARS
        assert task.prompt.strip()
        assert list(task.depends_on) == sorted(set(task.depends_on))
        assert all(0 <= need < number for need in task.depends_on)


@pytest.mark.parametrize("unit", ["and ; then ", "(", "a:\n", "- a\n", "finally x; ", '"'])
def test_32_kib_of_anything_are_split_in_linear_time(unit: str) -> None:
    """A quadratic pass takes seconds here; half a second leaves room for a slow machine."""
    begin = time.process_time()
    split_goal((unit * 32_768)[:32_768])
    assert time.process_time() - begin < 0.5
