"""Questions: answered from the published state or by a reader of the store; none enters a mailbox (design 1.4)."""

from collections.abc import Coroutine
from typing import Any, cast

import msgspec

from agentd.actors import prompts
from agentd.actors.ahead import owned
from agentd.actors.heartbeat import liveness
from agentd.actors.seat import Seat
from agentd.actors.server import ServerActor
from agentd.actors.session import SessionActor
from agentd.actors.shown import state_shown
from agentd.actors.waiting import run_result
from agentd.core.server import KEY as SERVER
from agentd.core.trace import PROBLEMS_MAX, Breach, Checker
from agentd.edge import recollection
from agentd.edge.ask import Ask, Reader, Viewer
from agentd.edge.reception import Reception
from agentd.protocol import commands as c
from agentd.protocol import facts as f
from agentd.protocol import replies as r
from agentd.protocol.codec import decode_fact
from agentd.protocol.errors import AgentdError, Forbidden, NotFound, Timeout
from agentd.protocol.signals import AgentState, Liveness
from agentd.store.store import RunRow, Store

PAGE_FACTS = 500
HISTORY_BYTES = 512 * 1024
DRAIN_S = 0.02  # how often a full outbox is looked at before the next page of a trace

Work = Coroutine[Any, Any, None]


def now(seat: Seat, frame: c.AgentControl | c.AgentHeartbeat, operator: bool) -> AgentState | Liveness:
    """What the published state says, in this very turn."""
    if isinstance(frame, c.AgentControl) and frame.action != "heartbeat":
        return state_shown(seat.state, seat.shared)
    return liveness(seat, operator)


def known_now(seat: Seat, frame: c.AgentControl | c.AgentHeartbeat) -> bool:
    """Whether it can be answered without bringing the session in: a heartbeat always, its runs only when awake."""
    heartbeat = isinstance(frame, c.AgentHeartbeat) or frame.action == "heartbeat"
    return heartbeat or seat.actor is not None or not seat.unfinished


async def answer(reception: Reception, client: Viewer, ask: Ask, frame: c.AnyCommand, target: str) -> None:
    """Answer one question; whatever goes wrong is its answer."""
    try:
        ask.done(client.session, 0, await _answer(reception, client, ask, frame, target))
    except AgentdError as error:
        ask.refused(client.session, 0, error)
    except TimeoutError:
        ask.refused(client.session, 0, Timeout("the store did not answer in time"))
    except Exception:
        ask.refused(client.session, 0, client.fault(frame))


async def _answer(
    reception: Reception, client: Viewer, ask: Ask, frame: c.AnyCommand, target: str
) -> r.Reply | AgentState | Liveness:
    match frame:
        case c.AgentControl() | c.AgentHeartbeat():
            if target in ("*", SERVER):
                return reception.server_state()
            seat = await _seat(reception, client, target)
            if not known_now(seat, frame):
                await seat.awake()
            return now(seat, frame, client.operator())
        case c.SessionHistory():
            return await history(reception, client, frame, target)
        case c.SessionList():
            return await listed(reception, client, frame)
        case c.EventsRead():
            return await _events(reception, client, frame, target)
        case c.TraceGet():
            return await _trace(reception, client, ask, frame)
        case c.IdentityGet():
            return await _identity(reception, client, target)
        case c.SessionContext():
            return await _context(reception, client, target)
        case c.MemoryRecall():
            return await recollection.recall(await _actor(reception, client, target), frame, client.now_ms())
        case c.MemoryQuery():
            return await recollection.query(await _actor(reception, client, target), frame, client.now_ms())
        case c.SessionTree():
            return await recollection.tree(await _actor(reception, client, target), frame, client.now_ms())
        case _:
            raise NotFound(f"nobody answers {type(frame).__name__}", kind="type")


async def _seat(reception: Reception, client: Reader, target: str) -> Seat:
    if target == client.session and client.seat is not None:
        return client.seat
    return await reception.existing(target)


async def _actor(reception: Reception, client: Reader, target: str) -> SessionActor:
    return await (await _seat(reception, client, target)).awake()


async def history(reception: Reception, client: Reader, frame: c.SessionHistory, target: str) -> r.HistoryReply:
    """The newest `limit` entries of the path that ends in the leaf, or before an entry of it; oldest first."""
    state = (await _seat(reception, client, target)).state
    store, leaf = reception.shared.store, frame.leaf_id or state.leaf
    known = frame.before or frame.leaf_id
    row = await owned(store, state, known) if known is not None else None
    if known is not None and row is None:
        raise NotFound(f"no entry {known} in this session", kind="entry")
    end = row.parent if row is not None and frame.before is not None else leaf
    rows = await store.path(end, frame.limit, HISTORY_BYTES) if end is not None else []
    entries = tuple(
        r.Entry(id=row.id, parent=row.parent, role=row.role, content=row.content, run=row.run, ts=row.ts, kind=row.kind)
        for row in reversed(rows)
    )
    return r.HistoryReply(session=target, ts=reception.clock.now_ms(), entries=entries, leaf=leaf)


async def listed(reception: Reception, client: Reader, frame: c.SessionList) -> r.SessionListReply:
    """A page of all sessions, by key. Raises Forbidden."""
    if not client.operator():
        raise Forbidden("session.list needs the scope operator", details={"required": "operator"})
    found = await reception.shared.store.sessions(limit=frame.limit, cursor=frame.cursor)
    lines = tuple(
        r.SessionLine(
            key=info.row.key, agent=info.row.agent, owner=info.row.owner, mode=info.row.mode, epoch=info.row.epoch,
            seq=info.last, first=info.first, unfinished=info.row.unfinished, updated=info.row.updated,
        )
        for info in found
    )  # fmt: skip
    after = lines[-1].key if len(lines) == frame.limit else None
    return r.SessionListReply(session=client.session, ts=reception.clock.now_ms(), sessions=lines, next=after)


async def _events(reception: Reception, client: Viewer, frame: c.EventsRead, target: str) -> r.EventsPage:
    """Facts of a session, or of one of its runs, with seq > `after`."""
    store = reception.shared.store
    if frame.run is not None:
        row = await _run(reception, client, frame.run)
        bodies = await _run_after(store, frame.run, frame.after, frame.limit)
        target = row.session
    else:
        await _feed_of(reception, client, target)
        bodies = list((await store.read(target, frame.after, frame.limit)).bodies)
    after = _seq(bodies[-1]) if len(bodies) >= frame.limit else None
    return r.EventsPage(session=target, ts=reception.clock.now_ms(), events=tuple(map(msgspec.Raw, bodies)), next=after)


async def _feed_of(reception: Reception, client: Viewer, target: str) -> Seat | ServerActor:
    return reception.server if target == SERVER else await _seat(reception, client, target)


async def _run_after(store: Store, run: str, after: int, limit: int) -> list[bytes]:
    """Pages of the run until `limit` facts with a greater seq are found (rulings 36: `after` is always a seq)."""
    found: list[bytes] = []
    run_seq = 0
    while len(found) < limit:
        page = await store.read_run(run, run_seq, PAGE_FACTS)
        if not page.bodies:
            break
        run_seq = page.first + len(page.bodies) - 1
        found.extend(body for body in page.bodies if _seq(body) > after)
    return found[:limit]


async def _trace(reception: Reception, client: Viewer, ask: Ask, frame: c.TraceGet) -> r.TraceEnd:
    """The whole run in pages, then how many facts that were and whether they are well formed. The next page is read
    when the outbox has room for it, for as long as the request may take."""
    row = await _run(reception, client, frame.run)
    checker, found, run_seq, count = Checker(frame.run), list[Breach](), 0, 0
    while ask.open:
        page = await reception.shared.store.read_run(frame.run, run_seq, PAGE_FACTS)
        if not page.bodies:
            break
        run_seq = page.first + len(page.bodies) - 1
        count += len(page.bodies)
        for body in page.bodies:
            found += checker.feed(decode_fact(body)) if len(found) < PROBLEMS_MAX else ()
        events = tuple(map(msgspec.Raw, page.bodies))
        while client.sink.full and ask.open and not client.sink.closed:
            await reception.clock.sleep(DRAIN_S)
        ask.part(r.TracePage(session=row.session, ts=reception.clock.now_ms(), run=frame.run, events=events))
    found += checker.finish(ended=row.ended is not None)
    return r.TraceEnd(
        session=row.session, ts=reception.clock.now_ms(), run=frame.run, count=count, valid=not found,
        problems=tuple(map(str, found[:PROBLEMS_MAX])),
    )  # fmt: skip


async def _run(reception: Reception, client: Viewer, run: str) -> RunRow:
    """A run that this client may see."""
    row = await reception.shared.store.run(run)
    if row is None or (row.session != client.session and not client.operator()):
        raise NotFound(f"no run {run}", kind="run")
    return row


async def _identity(reception: Reception, client: Viewer, target: str) -> r.IdentityReport:
    actor = await _actor(reception, client, target)
    identity = await reception.shared.identity.read(actor.state.agent)
    layers = tuple(
        r.IdentityLayer(
            name=layer.name, path=layer.path, bytes=layer.bytes, headings=layer.headings, truncated=layer.truncated,
            shadowed=tuple(r.Shadowed(heading=one.heading, by=one.by) for one in layer.shadowed),
        )
        for layer in identity.layers
    )  # fmt: skip
    return r.IdentityReport(
        session=target, ts=reception.clock.now_ms(), hash=identity.hash, layers=layers, bytes=identity.bytes,
        warnings=identity.warnings,
    )  # fmt: skip


async def _context(reception: Reception, client: Viewer, target: str) -> r.ContextReply:
    actor = await _actor(reception, client, target)
    run = actor.state.run
    if run is not None:
        assembled = await prompts.context(actor, run)
    else:
        assembled = await prompts.idle_context(actor, actor.state)
    parts = tuple(
        r.ContextPart(kind=part.kind, entries=part.entries, bytes=part.bytes, tokens=part.tokens)
        for part in assembled.report
    )
    return r.ContextReply(
        session=target, ts=reception.clock.now_ms(), budget=prompts.PROMPT_TOKENS, parts=parts, cut=assembled.cut
    )


async def repeated(reception: Reception, ask: Ask, session: str, run: str) -> None:
    """An idempotency key that was used for a run that has ended: its state, or its end for who waits (rulings 23)."""
    try:
        row = await reception.shared.store.run(run)
        if row is None:
            raise NotFound(f"no run {run}", kind="run")
        state = cast(f.RunState, row.state)
        if not ask.waits or row.ended is None:
            again = r.RunAcceptedAgain(
                session=session, ts=reception.clock.now_ms(), run=run, state=state, repeated=True
            )
            ask.done(session, 0, again)
            return
        said, end = "", None
        for body in await _run_after(reception.shared.store, run, 0, 1 << 30):
            fact = decode_fact(body)
            if isinstance(fact, f.SessionReceive):
                said = fact.content
            elif isinstance(fact, f.RUN_ENDS):
                end = fact
        if end is None:
            raise NotFound(f"the end of run {run} is not kept any more", kind="run")
        ask.done(session, 0, run_result(session, reception.clock.now_ms(), end, said))
    except AgentdError as error:
        ask.refused(session, 0, error)


class _Seq(msgspec.Struct):
    seq: int


_seqs = msgspec.json.Decoder(_Seq)


def _seq(body: bytes) -> int:
    return _seqs.decode(body).seq
