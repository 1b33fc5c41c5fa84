"""The server's own stream: its mode, and whether the last stop was in order (rulings 38)."""

import msgspec
import pytest

from agentd.core.lifecycle import IllegalMove
from agentd.core.server import ServerState, evolve
from agentd.protocol import facts as f


def test_mode_and_drain_follow_the_facts() -> None:
    state = evolve(ServerState(), f.ServerStarted(session="_server", seq=1, ts=1, version="1", log="l", term=1))
    state = evolve(state, f.ServerMode(session="_server", seq=2, ts=2, mode="paused"))
    assert (state.mode, state.drained, state.seq) == ("paused", False, 2)
    state = evolve(state, f.ServerStopped(session="_server", seq=3, ts=3, drained=True))
    assert (state.mode, state.drained) == ("paused", True), "a pause survives a stop"
    state = evolve(state, f.ServerStarted(session="_server", seq=4, ts=4, version="1", log="l", term=1))
    assert not state.drained, "and a drain counts for one start"
    state = evolve(state, f.TokenRevoked(session="_server", seq=5, ts=5, name="x"))
    assert state.seq == 5


def test_a_gap_is_damage() -> None:
    with pytest.raises(IllegalMove):
        evolve(ServerState(), f.ServerStopped(session="_server", seq=2, ts=1, drained=True))


def test_tokens_are_known_by_name_and_by_when_they_were_made() -> None:
    state = evolve(
        ServerState(), f.TokenAdded(session="_server", seq=1, ts=1, name="a", scopes=("chat",), created_ms=7)
    )
    state = evolve(state, f.TokenAdded(session="_server", seq=2, ts=2, name="b", scopes=()))
    assert state.tokens == {"a": 7, "b": 0}
    assert evolve(state, f.TokenRevoked(session="_server", seq=3, ts=3, name="a")).tokens == {"b": 0}


def test_tokens_are_those_added_and_not_revoked() -> None:
    state = ServerState()
    for name, made in (("a", 5), ("b", None), ("a", 7)):
        added = f.TokenAdded(session="_server", seq=state.seq + 1, ts=1, name=name, scopes=("chat",), created_ms=made)
        state = evolve(state, added)
    assert state.tokens == {"a": 7, "b": 0}
    state = evolve(state, f.TokenRevoked(session="_server", seq=4, ts=1, name="a"))
    assert state.tokens == {"b": 0}
    denied = f.ServerDenied(session="_server", seq=5, ts=1, action="a", target="t", reason="r")
    assert evolve(state, denied) == msgspec.structs.replace(state, seq=5), "what only tells moves nothing"
