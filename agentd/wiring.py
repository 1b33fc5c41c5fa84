"""The settings as each part takes them, and what a person is told at the start: used by app.py alone."""

from pathlib import Path

from agentd.actors.identity_files import IdentityFiles
from agentd.config import data_path
from agentd.core.intents import Caps
from agentd.edge.limits import Limits
from agentd.edge.server import Tls
from agentd.protocol.replies import Notice
from agentd.settings import Settings
from agentd.store.sqlite import SqliteStore


def caps_of(settings: Settings) -> Caps:
    limits = settings.limits
    return Caps(
        dispatch=limits.dispatch,
        queued_per_session=limits.queued_per_session,
        queued_global=limits.queued_global,
        workers=limits.workers,
        runs_per_session=limits.runs_per_session,
        tasks_per_plan=limits.tasks_per_plan,
        ram_entries=limits.ram_entries,
        ram_bytes=limits.ram_bytes,
        high_water=settings.memory.high_water,
        low_water=settings.memory.low_water,
        warning_s=settings.heartbeat.warning_s,
        fact_bytes=limits.fact_bytes,
        steer_all=settings.runs.steer == "all",
        follow_up_all=settings.runs.follow_up == "all",
    )


def edge_limits(settings: Settings) -> Limits:
    limits = settings.limits
    return Limits(
        sockets=limits.sockets, frame_bytes=limits.frame_bytes, outbox_bytes=limits.outbox_bytes,
        outbox_frames=limits.outbox_frames,
    )  # fmt: skip


def tls_of(settings: Settings) -> Tls | None:
    if not settings.server.tls_cert:
        return None
    key = Path(settings.server.tls_key) if settings.server.tls_key else None
    return Tls(Path(settings.server.tls_cert), key)


def identity_files(settings: Settings) -> IdentityFiles:
    directory = Path(settings.identity.dir) if settings.identity.dir else data_path("identity")
    return IdentityFiles(directory, settings.identity.budget_bytes)


def notices_of(store: SqliteStore, by_default: bool) -> list[Notice]:
    """What each client hears when it connects: no model, a damaged log, a restored backup."""
    notices = []
    if by_default:
        text = "no provider is set, so the offline one answers; see provider.name in docs/settings.md"
        notices.append(Notice(code="provider_offline", message=text))
    opening = store.opening
    if opening.quarantined is not None:
        text = (
            f"the database was damaged and moved to {opening.quarantined}; "
            f"{opening.recovered_sessions} sessions with {opening.recovered_facts} facts were saved"
        )
        notices.append(Notice(code="quarantined", message=text))
    if opening.restored is not None:
        text = "; ".join(("this database was restored from a backup; clients read their history anew", *opening.notes))
        notices.append(Notice(code="restored", message=text))
    return notices
