"""No word twice and none missing, whatever becomes of the deltas."""

from hypothesis import given
from hypothesis import strategies as st

from agentd.cli.speech import ANEW, Speech


def test_deltas_are_written_as_they_come_and_the_final_text_adds_the_line_end() -> None:
    speech = Speech()
    assert speech.delta("m", 0, "Hel") == "Hel"
    assert speech.delta("m", 3, "lo") == "lo"
    assert speech.receive("m", "Hello") == "\n"


def test_what_comes_again_after_a_reconnect_is_not_written_again() -> None:
    speech = Speech()
    speech.delta("m", 0, "Hello, ")
    assert speech.delta("m", 0, "Hello, wor") == "wor"
    assert speech.delta("m", 5, ", ") == ""
    assert speech.receive("m", "Hello, world") == "ld\n"
    assert speech.delta("m", 0, "Hello, world") == ""
    assert speech.receive("m", "Hello, world") == ""


def test_dropped_deltas_are_made_up_by_the_final_text() -> None:
    speech = Speech()
    assert speech.delta("m", 0, "one ") == "one "
    assert speech.delta("m", 8, "three") == ""
    assert speech.receive("m", "one two three") == "two three\n"


def test_offsets_count_code_points() -> None:
    speech = Speech()
    assert speech.delta("m", 0, "a😀") == "a😀"
    assert speech.delta("m", 2, "é") == "é"
    assert speech.receive("m", "a😀é.") == ".\n"


def test_a_message_that_begins_like_the_void_one_before_it_goes_on_where_that_stopped() -> None:
    speech = Speech()
    speech.delta("void", 0, "The answer ")
    assert speech.delta("m", 0, "The ") == ""
    assert speech.delta("m", 4, "answer is") == "is"
    assert speech.receive("m", "The answer is 4") == " 4\n"


def test_a_message_that_differs_from_the_void_one_is_written_anew() -> None:
    speech = Speech()
    speech.delta("void", 0, "Perhaps")
    assert speech.delta("m", 0, "No") == ANEW + "No"
    assert speech.receive("m", "No.") == ".\n"


def test_a_shorter_final_text_than_the_void_one_is_written_anew() -> None:
    speech = Speech()
    speech.delta("void", 0, "Hello there")
    assert speech.delta("m", 0, "Hello") == ""
    assert speech.receive("m", "Hello") == ANEW + "Hello\n"


def test_the_end_of_a_run_without_final_text_ends_the_line() -> None:
    speech = Speech()
    assert speech.broken_off() == ""
    speech.delta("m", 0, "half a sent")
    assert speech.open
    assert speech.broken_off() == "\n"
    assert not speech.open


@given(st.text(min_size=1), st.lists(st.tuples(st.integers(0, 40), st.integers(1, 40)), max_size=12))
def test_whatever_pieces_come_the_stream_is_the_text(text: str, pieces: list[tuple[int, int]]) -> None:
    speech = Speech()
    written = "".join(speech.delta("m", at, text[at : at + size]) for at, size in pieces if at <= len(text))
    assert written + speech.receive("m", text) == text + "\n"
