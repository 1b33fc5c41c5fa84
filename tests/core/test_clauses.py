import pytest

from agentd.core.clauses import begins_task, clauses, is_ordered
from agentd.core.quoted import veil


def divided(text: str) -> list[str]:
    return [text[start:end].strip(" ,") for start, end in clauses(veil(text), 0, len(text))]


@pytest.mark.parametrize(
    "text",
    [
        "write a poem | and translate it",
        "research cats, | write a poem, | and translate it",
        "research cats | then write a poem | then translate it",
        "alpha | then beta | then gamma",
        "write a test | and run it",
        "write a poem | & translate it",
        "download https://a.b/c;d?e=1&f | and then install 1.2.3 | and run it",
        'translate "hello and then bye; ok" | and email it to Bob',
        "cook pasta | and write a blog post | and clean the kitchen",
        "find a recipe that uses eggs | and write it down",
        "Fetch data from the API, | clean the data, | and plot the results",
        "Compare Rust and Go | and write a summary | and send it",
        "please summarize the doc | and, finally, send it to me",
        "write a poem, | finally translate it",
        "Summarize the report | after that email it to Ann",
        "could you research X | and also write Y",
        "do it;) | and then sleep",
        "I want you to read the file | and explain it",
        "write a haiku | and afterwards print 5 copies",
        "find out why the tests fail | and fix them",
        "check the logs, | next restart the server",
        "translate it | and write Y",
    ],
)
def test_clauses_with_a_verb_each_are_divided(text: str) -> None:
    assert divided(text.replace("| ", "")) == [part.strip(" ,") for part in text.split("|")]


@pytest.mark.parametrize(
    "text",
    [
        "mix salt and pepper",
        "buy milk and eggs",
        "Copy and paste the text",
        "explain how to open and close a file",
        "explain the read and write paths",
        "test and deploy the app",
        "build, test and deploy the app",
        "create, update, and delete records",
        "write a haiku and a sonnet",
        "write about teaching and research",
        "go to the store and buy milk",
        "use python to sort the list and print it",
        "if it fails then stop",
        "now and then check the logs",
        "describe the then president and her rule",
        "what happened since then",
        "fix `a; b and then c` (and then d; e)",
        "the team writes code and test it",
        "explain the design and plan",
        "tell me what to say and how",
        "install then-current versions and-or others",
        "fish &amp; chips",
        "translate it, and 5 others",
        "the result is shown after that line",
        "draw cats, dogs and birds",
        "write a poem, if possible, about sea",
        "list pros and cons",
        "write X and",
    ],
)
def test_what_belongs_together_stays_whole(text: str) -> None:
    assert divided(text) == [text]


@pytest.mark.parametrize(
    "text",
    [
        "a; |b;|c",
        "写诗；|翻译",
        "Write a poem. It should rhyme. |Translate it. |Then post it.",
        "The server is slow. Find out why. |Then fix it.",
        "What is DNS? |How does it work?",
        "What is DNS? |Explain it to me!",
        "First, get a cup. |Next, boil water. |Then whistle. |Finally, drink it.",
    ],
)
def test_semicolons_and_sentences_that_are_tasks_are_divided(text: str) -> None:
    assert divided(text.replace("|", "")) == [part.strip(" ,;；") for part in text.split("|")]


@pytest.mark.parametrize(
    "text",
    [
        "Use e.g. write operations. Dr. Write is here",
        "The app crashes. Then it restarts.",
        "Write a poem. Then the moon rises.",
        "Write a poem. Report is due.",
        "Install version 1.2.3 at 10:30 on 2024-01-02 for -5.25 euros...",
        "Ask J. Write for help",
        "Is it on? Maybe.",
        "Wait... what",
    ],
)
def test_statements_and_abbreviations_end_no_task(text: str) -> None:
    assert divided(text) == [text]


def test_a_task_begins_with_a_verb_behind_politeness_and_order() -> None:
    for text in ("write x", "please, can you translate it", "Then finally sort them", "let's plot results"):
        assert begins_task(text, 0, len(text)), text
    for text in ("", "5 cats", "the file", "report is due", "hello"):
        assert not begins_task(text, 0, len(text)), text


def test_order_words_are_seen_at_the_head() -> None:
    assert is_ordered(", and then b", 0, 12)
    assert not is_ordered("thence", 0, 6)
