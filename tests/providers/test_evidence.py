"""Results of tasks, read back out of a prompt."""

import pytest

from agentd.providers.evidence import LINE_CHARS_MAX, Finding, findings


@pytest.mark.parametrize(
    "line",
    [
        '<task id="t1" title="Count words" status="done">42</task>',
        '<result status="DONE" task="Count words">42</result>',
        "## Count words (done)\n42",
        "### Task Count words [t1, done]:\n> 42",
        "- [done] Count words: 42",
        "1. Count words — done: 42",
        '3) "Count words": done. 42',
        "* **Count words** (attempt 1, done)\n```\n42\n```",
    ],
)
def test_each_writing_of_a_result_is_understood(line: str) -> None:
    assert findings(f"Results:\n\n{line}\n") == [Finding("Count words", "done", "42")]


@pytest.mark.parametrize("status", ["failed", "cancelled", "skipped", "dropped", "needs_review"])
def test_every_ending_is_told(status: str) -> None:
    assert findings(f"[{status}] Print it") == [Finding("Print it", status)]


def test_inside_a_tag_a_result_may_say_anything() -> None:
    prompt = '<task title="a" status="done">\none\n[failed] not a task\n</task>\n<task title="b" status="skipped"/>'
    assert findings(prompt) == [Finding("a", "done", "one\n[failed] not a task"), Finding("b", "skipped")]


@pytest.mark.parametrize(
    "text", ["", "I am done with this.", "done", "What was skipped?", "[done] " + "x" * LINE_CHARS_MAX]
)
def test_other_text_tells_of_no_task(text: str) -> None:
    assert findings(text) == []
