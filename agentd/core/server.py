"""The server's own stream, session `_server`: started, stopped, paused, who was denied (rulings 38)."""

import msgspec

from agentd.core.lifecycle import IllegalMove
from agentd.protocol import facts as f

KEY = "_server"


class ServerState(msgspec.Struct, frozen=True, kw_only=True):
    """`drained`: the last stop was in order, so no recovery is charged."""

    seq: int = 0
    ts: int = 0
    mode: f.Mode = "running"
    drained: bool = False


def evolve(state: ServerState, fact: f.AnyFact) -> ServerState:
    """Raises IllegalMove when the fact does not follow."""
    if fact.seq != state.seq + 1:
        raise IllegalMove(f"{KEY}: fact {fact.seq} after {state.seq}")
    mode, drained = state.mode, state.drained
    match fact:
        case f.ServerMode():
            mode = fact.mode
        case f.ServerStopped():
            drained = fact.drained
        case f.ServerStarted():
            drained = False
        case _:
            pass
    return ServerState(seq=fact.seq, ts=fact.ts, mode=mode, drained=drained)
