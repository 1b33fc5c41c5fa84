"""The server's own stream, session `_server`: started, stopped, paused, who was denied (rulings 38)."""

import msgspec

from agentd.core.lifecycle import IllegalMove
from agentd.protocol import facts as f

KEY = "_server"


class ServerState(msgspec.Struct, frozen=True, kw_only=True):
    """`drained`: the last stop was in order, so no recovery is charged. `tokens`: those that were told, by name, with
    the moment they were made (Unix ms)."""

    seq: int = 0
    ts: int = 0
    mode: f.Mode = "running"
    drained: bool = False
    tokens: dict[str, int] = {}


def evolve(state: ServerState, fact: f.AnyFact) -> ServerState:
    """Raises IllegalMove when the fact does not follow."""
    if fact.seq != state.seq + 1:
        raise IllegalMove(f"{KEY}: fact {fact.seq} after {state.seq}")
    mode, drained, tokens = state.mode, state.drained, state.tokens
    match fact:
        case f.ServerMode():
            mode = fact.mode
        case f.ServerStopped():
            drained = fact.drained
        case f.ServerStarted():
            drained = False
        case f.TokenAdded():
            tokens = {**tokens, fact.name: fact.created_ms or 0}
        case f.TokenRevoked():
            tokens = {name: made for name, made in tokens.items() if name != fact.name}
        case _:
            pass
    return ServerState(seq=fact.seq, ts=fact.ts, mode=mode, drained=drained, tokens=tokens)
