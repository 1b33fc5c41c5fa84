"""Acts that are more than one command to one session: a branch into a new one, forgetting wherever it is remembered."""

from agentd.actors.ahead import owned, path_to
from agentd.actors.forgetting import forget
from agentd.actors.session import SessionActor
from agentd.core import intents as i
from agentd.edge.ask import Ask, Viewer
from agentd.edge.reception import Reception
from agentd.protocol import commands as c
from agentd.protocol.errors import AgentdError, Conflict, Forbidden, NotFound, Timeout
from agentd.protocol.facts import By


async def act(
    reception: Reception, client: Viewer, ask: Ask, frame: c.SessionBranch | c.MemoryForget, target: str, by: By
) -> None:
    """Do it, and answer; whatever goes wrong is its answer."""
    try:
        seat = client.seat if target == client.session else None
        seat = seat if seat is not None else await reception.existing(target)
        actor = await seat.awake()
        if isinstance(frame, c.SessionBranch):
            await _branch(reception, actor, ask, frame, by)
        else:
            ids = tuple(dict.fromkeys(frame.memory_ids))
            done = await forget(reception.shared, reception.directory, actor.state, ids, by)
            ask.done(client.session, 0, done)
    except AgentdError as error:
        ask.refused(client.session, 0, error)
    except TimeoutError:
        ask.refused(client.session, 0, Timeout("the store did not answer in time"))
    except Exception:
        ask.refused(client.session, 0, client.fault(frame))


async def _branch(reception: Reception, actor: SessionActor, ask: Ask, frame: c.SessionBranch, by: By) -> None:
    """History is shared: what is written is one fact with what working memory holds of it."""
    if frame.new_session.startswith("_"):
        raise Forbidden("keys that begin with _ are the server's own", details={"required": "none"})
    state = actor.state
    row = await owned(reception.shared.store, state, frame.leaf_id)
    if row is None or row.kind != "message":
        raise NotFound(f"no entry {frame.leaf_id}", kind="entry", hint="session.tree lists the entries.")
    path = await path_to(reception.shared, frame.leaf_id)
    known = await reception.directory.find(frame.new_session)
    if known is not None and known.state.seq:
        raise Conflict(
            f"session {frame.new_session} exists", details={"reason": "exists"},
            hint="Choose another key for the branch.",
        )  # fmt: skip
    seat = await reception.directory.open(frame.new_session, state.agent, by.principal, operator=False)
    fresh = await seat.awake()
    fresh.know(frame.leaf_id, path)
    intent = i.BeginBranch(
        by=by, origin=state.key, leaf=frame.leaf_id, window=path.window, summaries=path.summaries
    )  # fmt: skip
    fresh.tell(intent, "control", ask)
