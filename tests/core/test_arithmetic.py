"""Arithmetic from anyone: exact, bounded, and only when it was asked for."""

import pytest

from agentd.core.arithmetic import evaluate, worked_out


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("what is 12*7", "84"),
        ("What's 12 times 7?", "84"),
        ("12*7", "84"),
        ("3 + 4 * (2 - 1) =", "7"),
        ("how much is 15% of 80?", "12"),
        ("compute 2^10", "1024"),
        ("what is 0.1 + 0.2", "0.3"),
        ("what is 7 divided by 2?", "3.5"),
        ("calculate 1,000 + 5", "1005"),
        ("what is -3 - -4", "1"),
        ("what is 17 mod 5", "2"),
        ("compute 9^64 / 7", "1.68431208253e+60"),
        ("what is +5 - 2", "3"),
    ],
)
def test_a_question_is_worked_out(text: str, value: str) -> None:
    found = worked_out(text)
    assert found is not None
    assert found[1] == value


@pytest.mark.parametrize(
    "text",
    [
        "what happened on 2026-11-21?",
        "call 555-1234 please",
        "what is love",
        "version 1.2.3",
        "I ate 3 apples",
        "what is a + b",
        "what is 3 + b",
    ],
)
def test_numbers_that_ask_for_nothing_are_left_alone(text: str) -> None:
    assert worked_out(text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("what is 1/0", "divides by zero"),
        ("9**9**9", "exponents"),
        ("what is " + "9*" * 70 + "9", "too long"),
        ("compute 0 ^ -1", "divides by zero"),
        ("compute (1 + 2", "not a complete expression"),
    ],
)
def test_what_cannot_be_worked_out_is_told(text: str, reason: str) -> None:
    found = worked_out(text)
    assert found is not None
    assert reason in found[1]


@pytest.mark.parametrize(
    "expression", ["__import__('os')", "1 if 2 else 3", "a + 1", "True + 1", "[1]", "2 ** 0.5", ""]
)
def test_only_numbers_and_operators_are_evaluated(expression: str) -> None:
    with pytest.raises(ValueError):
        evaluate(expression)


def test_values_are_bounded() -> None:
    with pytest.raises(ValueError, match="too large"):
        evaluate("((9**64)**64)**64")
