"""What the offline provider says for each purpose."""

import time

import pytest

from agentd.providers.provider import Message, ModelRequest, Purpose
from agentd.providers.speech import LISTED_MAX, agent_name, quoted, spoken
from tests.providers.recorded import asked


def answer(*turns: str, system: str | None = None, purpose: Purpose = "answer") -> str:
    return spoken(asked(*turns, system=system, purpose=purpose), turns[-1])


def test_arithmetic_is_worked_out() -> None:
    assert answer("what is 12*7?").startswith("12 * 7 = 84")


@pytest.mark.parametrize("earlier", ["My name is Ada.", "Hi, I'm Ada", "please call me Ada"])
def test_the_users_name_is_found_in_the_conversation(earlier: str) -> None:
    assert "Ada" in answer(earlier, "Hello", "What is my name?")


def test_an_unknown_name_is_told_with_what_there_is() -> None:
    reply = answer("Hello", "Hello", "What is my name?")
    assert "can't find your name" in reply
    assert "2 earlier messages" in reply


def test_what_was_said_first_and_last_is_quoted() -> None:
    talk = ("apples first", "ok", "then pears", "ok")
    assert "then pears" in answer(*talk, "What did I say?")
    assert "apples first" in answer(*talk, "What did I say first?")
    assert "0 earlier messages" in answer("What did I say?")
    assert "4 earlier messages" in answer(*talk, "How many messages do you have?")


@pytest.mark.parametrize("identity", ["# IDENTITY\n\n- **Name:** Nova\n", "You are Nova, an agent.", "Name: Nova"])
def test_the_identity_is_visible(identity: str) -> None:
    assert agent_name([Message("system", identity)]) == "Nova"
    assert "Nova" in answer("Who are you?", system=identity)


def test_a_greeting_a_repetition_and_silence_are_answered() -> None:
    assert answer("hello").startswith("Hello!")
    assert answer("say blue whale") == "blue whale"
    assert "no words" in answer("  ")


def test_a_hostile_prompt_is_answered_in_time() -> None:
    for text in ("\n" * 65_536, "my name is " * 6_000, "[[tool=a {" * 6_000, ". " * 32_000, "a - ( done x\n" * 4_000):
        began = time.process_time()
        answer(text, text, "What is my name?", system=text)
        assert time.process_time() - began < 1  # milliseconds; a quadratic pattern took four seconds


def test_what_tools_answered_is_told_with_the_task() -> None:
    messages = (Message("user", "go"), Message("assistant", ""), Message("tool", "6 apples", tool_call_id="c"))
    assert spoken(ModelRequest(messages, "task"), "go") == "From the tool: 6 apples"


def test_more_results_than_are_listed_are_counted() -> None:
    many = "\n\n".join(
        f"<<<data 0: result\ntask: Part {number}\nstatus: done\n\nx\ndata 0>>>" for number in range(LISTED_MAX + 5)
    )
    request = ModelRequest((Message("user", many), Message("user", "go")), "answer")
    assert spoken(request, "go").splitlines()[-1] == "… and 5 more"


def test_a_quotation_is_cut_on_a_word() -> None:
    assert quoted("one two three", words_max=2) == "one two…"
    assert quoted("aaaa bbbb cccc", chars_max=10) == "aaaa bbbb…"
    assert quoted("short  text") == "short text"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Compute 3*4", "3 * 4 = 12"),
        ("Write a haiku about rain", "Outline for “Write a haiku about rain”"),
        ("Summarize the text\nFirst one. Second one. Third one. Fourth one.", "First one. Second one. Third one."),
        ("Task: compute 2+3\nUse what you know.", "2 + 3 = 5"),
        ("Buy milk", "Buy milk"),
        ("", "0 words"),
    ],
)
def test_a_task_gets_a_small_result_for_its_title(prompt: str, expected: str) -> None:
    assert expected in answer(prompt, purpose="task")


RESULTS = """The plan and the results of its tasks.

<<<data 0: result
task: Count words
status: done

42 words
data 0>>>

<<<data 0: result
task: Write it
status: failed

the model was away
data 0>>>

<<<data 0: result
task: Print it
status: skipped


data 0>>>"""


def test_the_answer_of_a_goal_tells_each_outcome_in_order() -> None:
    request = ModelRequest((Message("user", RESULTS), Message("user", "count, write and print")), "answer")
    lines = spoken(request, "count, write and print").splitlines()
    assert lines[0].startswith("1 of 3 tasks done")
    assert lines[1:] == [
        "1. Count words: 42 words",
        "2. Write it — failed: the model was away",
        "3. Print it — skipped",
    ]


def test_a_task_uses_the_results_it_was_given() -> None:
    request = ModelRequest((Message("user", RESULTS), Message("user", "Task: Summarize the count")), "task")
    assert "42 words" in spoken(request, "Task: Summarize the count")


def test_what_is_quoted_for_the_model_is_not_what_the_user_said() -> None:
    request = ModelRequest((Message("user", RESULTS), Message("user", "x")), "task")
    asking = ModelRequest(
        (*request.messages[:1], Message("assistant", "ok"), Message("user", "What did I say?")), "answer"
    )
    assert "1 earlier message" in spoken(asking, "How many messages do you have?")
    assert "Nothing before this" in spoken(asking, "What did I say?")


def test_a_summary_is_an_extract_that_keeps_the_newest() -> None:
    reply = answer("One. More.", "Two! More.", "Three", purpose="summary")
    assert reply.splitlines()[1:] == ["user: One.", "assistant: Two!", "user: Three"]
    many = answer(*(f"message {number} " + "x" * 200 for number in range(41)), purpose="summary")
    assert "left out" in many
    assert "message 40" in many
    assert len(many) < 2_000
