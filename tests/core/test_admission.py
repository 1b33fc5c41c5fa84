"""The figures that tell load, and when a refused client is told to come again (S15; rulings 25 to 27, 39)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.core import intents as i
from agentd.core.admission import counts, retry_after, run_figures, session_figures
from agentd.core.session import due
from agentd.protocol import facts as f
from tests.core.shell import Shell, law, model


@pytest.mark.parametrize(
    ("refused", "ended_per_s", "noise", "paused", "expected"),
    [
        (0, 0.0, 0.5, True, 60_000),  # while paused
        (9, 5.0, 0.5, True, 60_000),
        (0, 0.0, 0.5, False, 1_000),  # before any has ended
        (0, 1.0, 0.5, False, 1_000),
        (9, 5.0, 0.5, False, 2_000),
        (9, 5.0, 0.0, False, 1_600),  # -20 %
        (9, 5.0, 1.0, False, 2_400),  # +20 %
        (0, 1e6, 0.5, False, 100),  # within 100 and 60,000
        (9_999, 0.1, 0.5, False, 60_000),
    ],
)
def test_retry_after_follows_what_is_refused_and_what_ends(
    refused: int, ended_per_s: float, noise: float, paused: bool, expected: int
) -> None:
    """1000 x (1 + refused in the last second) / (runs ended per second), +-20 % (rulings 27)."""
    assert retry_after(refused, ended_per_s, noise, paused) == expected


@given(st.integers(0, 100_000), st.floats(0, 1e6), st.floats(0, 1, exclude_max=True), st.booleans())
def test_retry_after_is_always_within_its_bounds(refused: int, ended_per_s: float, noise: float, paused: bool) -> None:
    assert 100 <= retry_after(refused, ended_per_s, noise, paused) <= 60_000


def test_the_figures_of_a_session_are_those_of_its_unfinished_runs() -> None:
    shell = Shell(i.Caps(dispatch=2, workers=1))
    run = shell.plan(model("a"), model("b"), model("c"), model("d", "a"), overflow="drop")
    shell.end(due(shell.state)[0])
    shell.chat()
    of_run = run_figures(shell.state.runs[run], shell.caps, 700)
    of_session = session_figures(shell.state, shell.caps, 700)
    law(of_run)
    law(of_session)
    assert (of_run.scope, of_session.scope) == ("run", "session")
    for name in ("total", "accepted", "queued", "active", "settled", "dropped", "dropped_ids", "saturated_since"):
        assert getattr(of_run, name) == getattr(of_session, name), "the chat that waits has no tasks"
    assert (of_run.total, of_run.settled, of_run.dropped_ids, of_run.retry_after_ms) == (4, 1, ("c",), 700)
    assert of_run.saturated_since is not None


def test_counts_are_of_what_has_ended() -> None:
    shell = Shell(i.Caps(dispatch=2, workers=1))
    run = shell.plan(model("a"), model("b"), model("c"), overflow="drop")
    shell.end(due(shell.state)[0])
    assert counts(shell.state.runs[run]) == f.Counts(total=3, done=1, failed=0, cancelled=0, skipped=0, dropped=1)
