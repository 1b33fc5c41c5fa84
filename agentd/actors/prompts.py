"""The prompts of a session's model calls: its words, put in order by `core/prompt.py`, as the provider takes them."""

from agentd.actors.context import text_of
from agentd.actors.desk import Desk
from agentd.actors.repair import asked_for
from agentd.core.prompt import Assembled, Budget, Evidence, Item, PromptParts, assemble
from agentd.core.references import filled, named_outputs
from agentd.core.state import TERMINAL, Run, Session, Task
from agentd.providers.provider import Message, ModelRequest

PROMPT_TOKENS = 32_000


async def for_answer(desk: Desk, run: Run) -> ModelRequest:
    """What the answer of a run is made from: the path up to its newest entry, and what its tasks brought."""
    return _request(await context(desk, run), "answer")


async def for_task(desk: Desk, run: Run, task: Task) -> ModelRequest:
    """What a model task is made from: its own words, the goal, and the results that it depends on."""
    identity = await desk.shared.identity.latest(desk.state.agent)
    said = [f"Task: {task.spec.title}"]
    if task.spec.prompt and task.spec.prompt != task.spec.title:
        said.append(str(filled(task.spec.prompt, named_outputs(run, desk.words.results))))
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
    return _request(assemble(parts, Budget(PROMPT_TOKENS)), "task")


async def context(desk: Desk, run: Run) -> Assembled:
    """What the next model call of this run would get."""
    path = await _path(desk, run)
    current = path.pop() if path else Item(id=f"{run.id}.u", role="user", kind="message", content=run.content)
    identity = await desk.shared.identity.latest(desk.state.agent)
    evidence = tuple(_evidence(desk, run, name) for name, task in run.tasks.items() if task.status in TERMINAL)
    parts = PromptParts(
        identity=identity.text,
        current=current,
        history=tuple(path),
        evidence=evidence,
        plan_summary=f"goal: {run.goal}" if run.goal else None,
    )
    return assemble(parts, Budget(PROMPT_TOKENS))


async def idle_context(desk: Desk, state: Session) -> Assembled:
    """What a turn that began now would get, before its own words."""
    identity = await desk.shared.identity.read(state.agent)
    parts = PromptParts(
        identity=identity.text,
        current=Item(id="next", role="user", kind="message", content=""),
        history=tuple(_window(desk, state)),
    )
    return assemble(parts, Budget(PROMPT_TOKENS))


async def _path(desk: Desk, run: Run) -> list[Item]:
    """Oldest first, the run's newest entry last; from memory while the run is on the active path."""
    state = desk.state
    if run.tip is not None and run.tip == state.leaf:
        return _window(desk, state)
    if run.tip is None:
        return []
    return [
        Item(id=name, role=role, kind="message", content=content)
        for name, role, content in await desk.words.path(desk.shared.store, run.tip)
    ]


def _window(desk: Desk, state: Session) -> list[Item]:
    contents = desk.words.contents
    return [
        Item(id=item.id, role=item.role, kind=item.kind, content=contents.get(item.id, "")) for item in state.window
    ]


def _inputs(run: Run, task: Task) -> list[str]:
    """The tasks whose results it sees, in declared order; a join stands for what it joined."""
    found: list[str] = []
    for dep in task.spec.depends_on:
        known = run.tasks.get(dep)
        if known is None:
            continue
        if known.spec.kind == "join":
            found.extend(name for name in known.spec.depends_on if name in run.tasks)
        else:
            found.append(dep)
    return list(dict.fromkeys(found))


def _evidence(desk: Desk, run: Run, name: str) -> Evidence:
    task = run.tasks[name]
    result = desk.words.results.get(name)
    content = text_of(result) if result is not None else desk.words.failures.get(name, "")
    return Evidence(title=task.spec.title, status=task.status, content=content)


def _request(assembled: Assembled, purpose: str) -> ModelRequest:
    messages = tuple(Message(role=message.role, content=message.content) for message in assembled.messages)
    return ModelRequest(messages=messages, purpose=purpose)  # type: ignore[arg-type]
