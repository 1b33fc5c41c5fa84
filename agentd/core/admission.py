"""The figures that tell load, and the hint when to come again. In every frame:
total = pending + queued + active + settled + dropped (protocol.md, 5)."""

from agentd.core.intents import Caps
from agentd.core.state import Run, Session
from agentd.protocol.facts import Backpressure, Counts, Limits

RETRY_AFTER_MS_MIN = 100
RETRY_AFTER_MS_MAX = 60_000
RETRY_AFTER_MS_UNKNOWN = 1_000


def run_figures(run: Run, caps: Caps, retry_after_ms: int) -> Backpressure:
    """The plan of one run; gates and the answer are not in it."""
    queued, active, dropped = len(run.queued), run.active, len(run.dropped_ids)
    return Backpressure(
        scope="run",
        total=len(run.tasks),
        pending=len(run.tasks) - queued - active - run.settled - dropped,
        accepted=run.accepted_tasks,
        queued=queued,
        active=active,
        settled=run.settled,
        dropped=dropped,
        dropped_ids=run.dropped_ids,
        limit=limits(caps),
        saturated_since=run.saturated_since,
        retry_after_ms=retry_after_ms,
    )


def session_figures(state: Session, caps: Caps, retry_after_ms: int) -> Backpressure:
    """All unfinished runs of a session."""
    runs = [run for run in state.runs.values() if run.tasks]  # a chat turn has no plan: nothing of it is counted
    queued = sum([len(run.queued) for run in runs])
    active = sum([run.active for run in runs])
    settled = sum([run.settled for run in runs])
    dropped = tuple([task for run in runs for task in run.dropped_ids])
    total = sum([len(run.tasks) for run in runs])
    since = [run.saturated_since for run in runs if run.saturated_since is not None]
    return Backpressure(
        scope="session",
        total=total,
        pending=total - queued - active - settled - len(dropped),
        accepted=sum([run.accepted_tasks for run in runs]),
        queued=queued,
        active=active,
        settled=settled,
        dropped=len(dropped),
        dropped_ids=dropped,
        limit=limits(caps),
        saturated_since=min(since, default=None),
        retry_after_ms=retry_after_ms,
    )


def limits(caps: Caps) -> Limits:
    return Limits(
        dispatch=caps.dispatch, session=caps.queued_per_session, server=caps.queued_global, workers=caps.workers
    )


def counts(run: Run) -> Counts:
    """How the tasks of a run ended."""
    tally = dict.fromkeys(("done", "failed", "cancelled", "skipped", "dropped"), 0)
    for task in run.tasks.values():
        if task.status in tally:
            tally[task.status] += 1
    return Counts(total=len(run.tasks), **tally)


def retry_after(refused_last_s: int, ended_per_s: float, noise: float, paused: bool) -> int:
    """When to come again, in ms (rulings 27); `noise` in [0, 1) spreads clients by ±20 %."""
    if paused:
        return RETRY_AFTER_MS_MAX
    if ended_per_s <= 0:
        return RETRY_AFTER_MS_UNKNOWN
    wait = 1000 * (1 + refused_last_s) / ended_per_s * (0.8 + 0.4 * noise)
    return round(min(max(wait, RETRY_AFTER_MS_MIN), RETRY_AFTER_MS_MAX))
