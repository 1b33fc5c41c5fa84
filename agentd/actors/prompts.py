"""The prompts of a session's model calls: its words, put in order by `core/prompt.py`, as the provider takes them."""

import asyncio
from collections.abc import Mapping

import structlog
from msgspec.structs import replace

from agentd.actors.ahead import path_to
from agentd.actors.context import text_of
from agentd.actors.desk import Desk
from agentd.actors.repair import asked_for
from agentd.actors.wave import Wave
from agentd.core.prompt import Assembled, Budget, Evidence, Item, PromptParts, assemble
from agentd.core.references import filled, named_outputs
from agentd.core.state import TERMINAL, Run, Session, Task
from agentd.core.tokens import cut_to_bytes
from agentd.core.window import held_ids
from agentd.protocol.errors import StorageUnavailable
from agentd.protocol.facts import WindowItem
from agentd.providers.provider import Message, ModelRequest

PROMPT_TOKENS = 32_000
RECENT_TURNS = 8
RECALL_ITEMS = 3
RECALL_LOOK = 16
RECALL_CHARS = 500
RECALL_RARE = 200  # rows that have a word; commoner ones tell nothing
RECALL_BYTES = 2_048
RECALL_S = 0.5

log = structlog.get_logger(__name__)


async def for_answer(desk: Desk, run: Run) -> tuple[ModelRequest, tuple[str, ...]]:
    """What the answer of a run is made from: the path up to its newest entry, and what its tasks brought; and what of
    it was cut or left out, a sentence each."""
    assembled = await context(desk, run)
    return _request(assembled, "answer"), assembled.cut


async def for_task(desk: Desk, run: Run, task: Task, wave: Wave) -> ModelRequest:
    """What a model task is made from: its own words, the goal, and the results that it depends on."""
    identity = await desk.shared.identity.latest(desk.state.agent)
    said = [f"Task: {task.spec.title}"]
    if task.spec.prompt and task.spec.prompt != task.spec.title:
        results = named_outputs(run, desk.words.results) if "{{" in task.spec.prompt else {}
        said.append(str(filled(task.spec.prompt, results)))
    if run.inputs_seen:
        steered = [text for name, text in desk.words.contents.items() if name.startswith(f"{run.id}.i")]
        said.extend(f"Also: {text}" for text in steered)
    form = asked_for(task.spec)
    said.extend([form] if form is not None else [])
    parts = PromptParts(
        identity=identity.text,
        current=Item(id=f"{run.id}.{task.spec.id}", role="user", kind="message", content="\n\n".join(said)),
        evidence=tuple(_evidence(desk, run, name) for name in _inputs(run, task)),
        plan_summary=f"goal: {run.goal or run.content}",
    )
    return wave.request(parts, _budget(desk))


class Steered:
    """What the user says to a run while one of its tasks is at work: each word goes to each task once."""

    def __init__(self, desk: Desk, run: str) -> None:
        self._desk = desk
        self._run = run
        self._seen = self._placed()

    def waiting(self) -> bool:
        """Something was said that is not placed yet."""
        run = self._desk.state.runs.get(self._run)
        return run is not None and any(item.mode == "steer" for item in run.inputs)

    def fresh(self) -> list[Message]:
        """What was placed since the last look, as messages for the next model step."""
        fresh = [name for name in self._placed() if name not in self._seen]
        self._seen.extend(fresh)
        return [Message(role="user", content=f"Also: {self._desk.words.contents[name]}") for name in fresh]

    def _placed(self) -> list[str]:
        run = self._desk.state.runs.get(self._run)
        if run is not None and not run.inputs_seen:
            return []
        return [name for name in self._desk.words.contents if name.startswith(f"{self._run}.i")]


async def context(desk: Desk, run: Run) -> Assembled:
    """What the next model call of this run would get."""
    state = desk.state
    if run.tip is not None and run.tip == state.leaf:
        items, summaries = await _held(desk, state)
    elif run.tip is not None:
        path = await path_to(desk.shared, run.tip)
        items = [_item(item, path.contents) for item in path.window]
        summaries = [_summary(one.id, path.contents) for one in path.summaries]
    else:
        items, summaries = [], []
    entry = f"{run.id}.u"
    items = [replace(item, content=run.content) if item.id == entry else item for item in items]
    place = next((n for n in range(len(items) - 1, -1, -1) if items[n].id == (run.tip or entry)), None)
    said = Item(id=entry, role="user", kind="message", content=run.content)
    current = items.pop(place) if place is not None else said
    evidence = tuple(_evidence(desk, run, name) for name, task in run.tasks.items() if task.status in TERMINAL)
    parts = _parts(
        desk, state, items, summaries, current=current, evidence=evidence,
        plan_summary=f"goal: {run.goal}" if run.goal else None, identity=await _identity(desk),
        recalled=await _recalled(desk, state, run.tip or entry, run.content, items),
    )  # fmt: skip
    return assemble(parts, _budget(desk))


async def idle_context(desk: Desk, state: Session) -> Assembled:
    """What a turn that began now would get, before its own words."""
    items, summaries = await _held(desk, state)
    current = Item(id="next", role="user", kind="message", content="")
    return assemble(
        _parts(desk, state, items, summaries, current=current, identity=await _identity(desk)), _budget(desk)
    )


async def _identity(desk: Desk) -> str:
    return (await desk.shared.identity.latest(desk.state.agent)).text


def _budget(desk: Desk) -> Budget:
    return Budget(PROMPT_TOKENS, desk.shared.calibration.bytes_per_token(desk.shared.provider.model))


def _parts(
    desk: Desk,
    state: Session,
    items: list[Item],
    summaries: list[Item],
    *,
    current: Item,
    identity: str,
    evidence: tuple[Evidence, ...] = (),
    plan_summary: str | None = None,
    recalled: tuple[Item, ...] = (),
) -> PromptParts:
    """Pins and what was brought back are quoted; all else of the window is the conversation. The newest entries stay
    turns even when they are pinned."""
    recent = {item.id for item in items[-RECENT_TURNS:]}
    apart = {item.id for item in state.window if item.loaded or (item.pinned and item.id not in recent)}
    return PromptParts(
        identity=identity,
        current=current,
        history=tuple([item for item in items if item.id not in apart] if apart else items),
        summaries=tuple(summaries),
        pinned=tuple([item for item in items if item.id in apart] if apart else ()),
        recalled=recalled,
        evidence=evidence,
        plan_summary=plan_summary,
    )


async def _held(desk: Desk, state: Session) -> tuple[list[Item], list[Item]]:
    """The window with its words, oldest first, and the summaries before it."""
    contents = desk.words.contents
    missing = [name for name in held_ids(state) if name not in contents]
    if missing:
        rows = await desk.shared.store.entries(missing)
        contents = {**contents, **{name: row.content for name, row in rows.items()}}
    items = [
        Item(item.id, "plan" if item.kind == "plan" else item.role, item.kind, text)
        for item in state.window
        if (text := contents.get(item.id))
    ]
    return items, [_summary(item.id, contents) for item in state.summaries]


def _item(item: WindowItem, contents: Mapping[str, str]) -> Item:
    role = "plan" if item.kind == "plan" else item.role
    return Item(id=item.id, role=role, kind=item.kind, content=contents.get(item.id, ""))


def _summary(name: str, contents: Mapping[str, str]) -> Item:
    return Item(id=name, role="summary", kind="summary", content=contents.get(name, ""))


async def _recalled(desk: Desk, state: Session, leaf: str, topic: str, items: list[Item]) -> tuple[Item, ...]:
    """What long-term memory has of the path on this turn's words; only when working memory has let go of something."""
    if not state.summaries and not state.tombstones:
        return ()
    try:
        async with asyncio.timeout(RECALL_S):
            found = await desk.shared.store.query(
                state.key,
                leaf=leaf,
                topic=topic[:RECALL_CHARS],
                kinds=["message"],
                path_only=True,
                rare=RECALL_RARE,
                limit=RECALL_LOOK,
            )
    except (TimeoutError, StorageUnavailable) as error:
        log.warning("recall.skipped", session=state.key, reason=type(error).__name__)
        return ()
    if not found:
        return ()
    known = {item.id for item in items} | {leaf}
    rows = [one.row for one in found if one.row.id not in known and one.row.content][:RECALL_ITEMS]
    return tuple(
        Item(id=row.id, role=f"{row.origin} {row.role}", kind=row.kind, content=cut_to_bytes(row.content, RECALL_BYTES))
        for row in rows
    )


def _inputs(run: Run, task: Task) -> list[str]:
    """The tasks whose results it sees, in declared order; a join stands for what it joined, a gate for what it looks
    at: who approved that wants it used."""
    found: list[str] = []
    waiting = list(reversed(task.spec.depends_on))
    while waiting:
        name = waiting.pop()
        known = run.tasks.get(name)
        if known is None:
            waiting.extend(reversed(run.gates[name].spec.depends_on))
        elif known.spec.kind == "join":
            waiting.extend(reversed(known.spec.depends_on))
        elif name not in found:
            found.append(name)
    return found


def _evidence(desk: Desk, run: Run, name: str) -> Evidence:
    task = run.tasks[name]
    result = desk.words.results.get(name)
    content = text_of(result) if result is not None else desk.words.failures.get(name, "")
    return Evidence(title=task.spec.title, status=task.status, content=content)


def _request(assembled: Assembled, purpose: str) -> ModelRequest:
    messages = tuple([Message(message.role, message.content) for message in assembled.messages])
    return ModelRequest(messages=messages, purpose=purpose)  # type: ignore[arg-type]
