"""`session.ack`, and where a follower begins (protocol.md, 1)."""

from collections.abc import Iterator

from agentd import __version__
from agentd.actors.seat import Seat
from agentd.actors.server import ServerActor
from agentd.actors.shown import effective_mode
from agentd.edge.tokens import Principal
from agentd.protocol.codec import encode
from agentd.protocol.facts import Mode
from agentd.protocol.replies import IdentityInfo, Notice, ProviderInfo, Reset, ServerInfo, SessionAck
from agentd.protocol.signals import Liveness

PROTOCOL = 1
SHOWN_LIMITS = (
    "frame_bytes", "chat_bytes", "dispatch", "workers", "model_calls", "runs_per_session", "tasks_per_plan",
    "queued_per_session", "queued_global", "outbox_bytes", "outbox_frames", "requests_per_socket",
)  # fmt: skip


def place(after: int | None, log: str | None, seq: int, first: int, log_id: str) -> tuple[int, Reset | None]:
    """The cursor to begin at, and why it is not the one that was asked for."""
    if after is None:
        return seq, None
    if log is not None and log != log_id:
        return first - 1, "other_log"
    if after > seq:
        return first - 1, "ahead"
    if after < first - 1:
        return first - 1, "pruned"
    return after, None


def greet(
    actor: Seat | ServerActor,
    principal: Principal,
    agent: str,
    request: str | None,
    first: int,
    reset: Reset | None,
) -> Iterator[bytes]:
    """The frames that a socket hears before any fact: the greeting and, on a session with a past, how it stands."""
    shared = actor.shared
    restored = actor.feed.seq > 0
    mode: Mode = actor.state.mode
    paused_by = None
    if isinstance(actor, Seat):
        mode, by = effective_mode(actor.state, shared)
        paused_by = by or None
    identity = shared.identity.current(agent)
    notices = tuple(Notice(code="identity_cut", message=text) for text in (identity.warnings if identity else ()))
    yield encode(
        SessionAck(
            session=actor.feed.session,
            ts=shared.clock.now_ms(),
            request=request,
            agent=agent,
            protocol=PROTOCOL,
            server=ServerInfo(version=__version__),
            scopes=tuple(sorted(principal.scopes)),
            seq=actor.feed.seq,
            first=first,
            log=shared.store.opening.log_id,
            mode=mode,
            paused_by=paused_by,
            restored=restored,
            provider=ProviderInfo(
                name=shared.provider.name, model=shared.provider.model, offline=shared.provider.offline
            ),
            limits={name: getattr(shared.settings.limits, name) for name in SHOWN_LIMITS},
            identity=IdentityInfo(
                hash=identity.hash if identity else "",
                bytes=identity.bytes if identity else 0,
                warnings=identity.warnings if identity else (),
            ),
            warnings=(*shared.notices, *notices),
            reset=reset,
        )
    )
    if restored and isinstance(actor, Seat):
        yield encode(_reconnect(actor))


def _reconnect(seat: Seat) -> Liveness:
    unfinished = seat.unfinished
    return Liveness(
        session=seat.key,
        ts=seat.shared.clock.now_ms(),
        phase="reconnect",
        status="backpressure_resumed" if unfinished else "state_restored",
        message=f"{unfinished} unfinished runs go on" if unfinished else "everything is as it was",
        backpressure=seat.beat()[1],
    )
