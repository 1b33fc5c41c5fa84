"""Workers over a scripted model: rounds of tools, bad tools, steering, outputs of a form (S14, L9, N2)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from agentd.actors import prompts, toolbox, worker
from agentd.core import intents as i
from agentd.core.scrub import scrub
from agentd.protocol import facts as f
from agentd.protocol.errors import StorageUnavailable
from agentd.providers.provider import ModelRequest
from agentd.settings import Extensions, Settings
from agentd.tools.builtin import BUILTIN
from agentd.tools.tool import Context, ToolError
from tests.actors.rig import BY, Answer, Rig, Script, calls, plan, said, statuses, warnings

Make = Callable[..., Rig]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    rigs: list[Rig] = []

    def made(script: Script, settings: Settings | None = None) -> Rig:
        rigs.append(Rig(script, settings))
        return rigs[-1]

    yield made
    for rig in rigs:
        await rig.end()


def one_task(**more: Any) -> dict[str, Any]:
    return plan({"id": "t", "prompt": "do it", **more})


def script(planned: dict[str, Any], *replies: Answer) -> Script:
    """The plan, then these replies to the task in order, and an answer."""
    left = list(replies)

    def reply(request: ModelRequest) -> Answer:
        if request.purpose == "planning":
            return planned
        return "the end" if request.purpose == "answer" else left.pop(0)

    return reply


async def test_a_tool_s_result_is_in_the_next_step_and_in_the_log(make: Make) -> None:
    rig = make(script(one_task(), calls(("calculate", {"expression": "12*7"})), "it is 84"))
    facts = await rig.goal("compute")
    called = next(fact for fact in facts if isinstance(fact, f.ToolCalled))
    result = next(fact for fact in facts if isinstance(fact, f.ToolResult))
    assert (called.tool, called.call, called.seq) == ("calculate", result.call, result.seq - 1)
    assert "84" in str(result.output)
    second = rig.model.for_("task")[1]
    assert [message.role for message in second.messages[-2:]] == ["assistant", "tool"]
    assert "84" in second.messages[-1].content
    assert "it is 84" in said(rig.model.for_("answer")[0]), "and in what the answer is made from"


async def test_the_tool_loop_ends_after_its_rounds(make: Make) -> None:
    endless = [calls(("calculate", {"expression": "1"}))] * worker.ROUNDS_MAX
    rig = make(script(one_task(), *endless, "I stop now"))
    facts = await rig.goal("go on")
    assert statuses(facts)["t"] == "done"
    asked = rig.model.for_("task")
    assert len(asked) == worker.ROUNDS_MAX + 1
    assert [bool(request.tools) for request in asked] == [True] * worker.ROUNDS_MAX + [False]


@dataclass
class Odd:
    """A tool that a test made."""

    name: str
    work: Callable[[bytes, Context], Awaitable[Any]]
    description: str = "odd"
    parameters: dict[str, Any] = field(default_factory=dict)
    effect: f.Effect = "none"
    timeout_s: float = 30.0

    async def call(self, given: bytes, context: Context) -> Any:
        return await self.work(given, context)


async def hang(given: bytes, context: Context) -> Any:
    await asyncio.Event().wait()


async def throw(given: bytes, context: Context) -> Any:
    raise RuntimeError("secret of ours")


async def huge(given: bytes, context: Context) -> Any:
    return "x" * 50_000_000


async def refuse(given: bytes, context: Context) -> Any:
    raise ToolError("not like this", kind="input")


@pytest.mark.parametrize(
    ("call", "kind", "shown"),
    [(hang, "timeout", "no end within"), (throw, "failed", "our side"), (refuse, "input", "not like this")],
)
async def test_a_tool_that_hangs_throws_or_refuses_is_an_error_and_the_run_goes_on(
    make: Make, monkeypatch: pytest.MonkeyPatch, call: Any, kind: str, shown: str
) -> None:
    monkeypatch.setitem(BUILTIN, "bad", Odd("bad", call))
    settings = Settings(extensions=Extensions(tool_timeout_s=0.05))
    rig = make(script(one_task(), calls(("bad", {})), "without it"), settings)
    facts = await rig.goal("try")
    failed = next(fact for fact in facts if isinstance(fact, f.ToolFailed))
    assert failed.error.kind == kind
    assert shown in failed.error.message
    assert "secret of ours" not in str(facts)
    assert "error" in rig.model.for_("task")[1].messages[-1].content
    assert statuses(facts)["t"] == "done"


async def test_fifty_megabytes_of_a_tool_are_cut_and_it_says_so(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little more than is kept is looked through for secrets: 50 MB of words held up the loop for seconds."""
    searched: list[int] = []

    def scrubbed(value: Any, known: frozenset[str]) -> Any:
        searched.append(len(value))
        return scrub(value, known)

    monkeypatch.setattr(toolbox, "scrub", scrubbed)
    monkeypatch.setitem(BUILTIN, "huge", Odd("huge", huge))
    rig = make(script(one_task(), calls(("huge", {})), "much"))
    facts = await rig.goal("much")
    result = next(fact for fact in facts if isinstance(fact, f.ToolResult))
    assert len(result.output) < 70_000
    assert result.output.endswith("[…cut from 50000000 bytes]")
    assert max(searched) <= toolbox.SEARCHED_BYTES_MAX
    told = next(fact for fact in facts if isinstance(fact, f.Warned) and fact.code == "result_cut")
    assert told.details == {"task": "t", "call": result.call, "bytes": 50_000_000, "limit": toolbox.OUTPUT_BYTES_MAX}
    assert statuses(facts)["t"] == "done"


async def test_a_tool_that_is_not_there_is_told_to_the_model(make: Make) -> None:
    rig = make(script(one_task(), calls(("rm", {"path": "/"})), "then not"))
    facts = await rig.goal("try")
    assert "there is no tool rm" in rig.model.for_("task")[1].messages[-1].content
    assert not [fact for fact in facts if isinstance(fact, f.ToolCalled)]


async def test_words_for_a_running_task_skip_the_rest_of_the_message_and_come_before_its_next_step(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(given: bytes, context: Context) -> Any:
        begun.set()
        await go_on.wait()
        return "slow is done"

    monkeypatch.setitem(BUILTIN, "slow", Odd("slow", slow))
    three = calls(("slow", {}), ("calculate", {"expression": "1"}), ("calculate", {"expression": "2"}))
    rig = make(script(one_task(), three, "as you wish"))
    seat = await rig.session()
    run = await rig.start(seat, "work", "goal")
    await asyncio.wait_for(begun.wait(), 5)
    told = await rig.tell(seat, i.AddInput(by=BY, mode="steer", content="make it blue"))
    assert (told.mode, told.entry) == ("steer", None)
    go_on.set()
    facts = await rig.ended(seat, run)
    tools = [fact for fact in facts if isinstance(fact, f.ToolResult | f.ToolFailed)]
    assert [type(fact).__name__ for fact in tools] == ["ToolResult", "ToolFailed", "ToolFailed"]
    assert {fact.error.kind for fact in tools if isinstance(fact, f.ToolFailed)} == {"skipped"}
    placed = next(fact for fact in facts if isinstance(fact, f.RunInput) and fact.entry is not None)
    assert placed.seq > tools[-1].seq
    second = rig.model.for_("task")[1].messages
    assert [message.role for message in second[-4:]] == ["tool", "tool", "tool", "user"]
    assert "skipped" in second[-2].content
    assert "make it blue" in second[-1].content


SUM = {"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"]}


async def test_an_output_that_does_not_fit_its_schema_is_repaired(make: Make) -> None:
    task = one_task(schema=SUM, invariants=[{"path": "$.total", "op": ">", "value": 2}])
    rig = make(script(task, "three, I think", {"total": 1}, {"total": 3}))
    facts = await rig.goal("sum")
    done = next(fact for fact in facts if isinstance(fact, f.AgentStatus) and fact.status == "done")
    assert done.result == {"total": 3}
    assert warnings(facts) == ["output_invalid", "output_invalid"]
    first, second, third = rig.model.for_("task")
    assert first.schema == SUM
    assert '"total"' in said(first)
    assert "three, I think" in second.messages[-1].content
    assert "this is not one JSON value" in second.messages[-1].content
    assert "$.total > 2 does not hold" in third.messages[-1].content


async def test_after_three_invalid_outputs_the_task_fails_and_says_why(make: Make) -> None:
    rig = make(script(one_task(schema=SUM), "a", "b", "c"))
    facts = await rig.goal("sum")
    failed = next(fact for fact in facts if isinstance(fact, f.AgentStatus) and fact.status == "failed")
    assert failed.cause is not None
    assert (failed.cause.code, failed.cause.kind) == ("output_invalid", "malformed_output")
    assert warnings(facts) == ["output_invalid"] * worker.OUTPUTS_MAX
    assert isinstance(facts[-1], f.RunFailed)


class Press:
    """A tool that may be used once."""

    name = "press"
    description = "press"
    parameters: dict[str, Any] = {"type": "object"}  # noqa: RUF012
    effect: f.Effect = "once"
    timeout_s = 5.0

    def __init__(self, after: Callable[[], None]) -> None:
        self.pressed = 0
        self._after = after

    async def call(self, given: bytes, context: Context) -> Any:
        self.pressed += 1
        self._after()
        return "pressed"


async def test_a_disk_that_fails_after_a_call_does_not_make_the_call_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the call was refused like a client's request, so the attempt was given up in silence and begun anew:
    what may be done once was done twice."""
    press = Press(lambda: rig.store.fail())
    monkeypatch.setitem(BUILTIN, "press", press)
    rig = make(script(plan({"id": "t", "kind": "tool", "tool": "press", "input": {}})))
    facts = await rig.goal("press")
    assert press.pressed == 1
    assert statuses(facts)["t"] == "done"
    assert len([fact for fact in facts if isinstance(fact, f.ToolCalled)]) == 1


async def test_a_log_that_can_not_be_read_for_the_prompt_fails_the_run_and_does_not_leave_it_hanging(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make(script(one_task()))

    async def broken(*args: object) -> None:
        raise StorageUnavailable("the disk is away")

    monkeypatch.setattr(prompts, "for_answer", broken)
    seat = await rig.session()
    facts = await rig.ended(seat, await rig.start(seat, "hello"))
    end = facts[-1]
    assert isinstance(end, f.RunFailed)
    assert end.cause is not None
    assert end.cause.code == "storage_unavailable"
