"""The simulated model: chunks over time, plans of every kind of task, tool calls, garbage, faults, calls that hang.

Whatever it says begins with a label that names the run, task and attempt it was asked for, so that a result can be
told from a late one of an older attempt. It counts how many calls run at once.
"""

import asyncio
import json
import random
from typing import Any

from agentd.protocol.errors import ProviderError
from agentd.protocol.facts import Effect, Usage
from agentd.providers.provider import Events, ModelReply, ModelRequest, ToolCall
from agentd.tools.tool import Context, ToolError
from tests.simulation.process import Faults

KINDS = ("rate_limit", "timeout", "network", "unavailable", "auth", "refused", "malformed_output", "context_length")
DEAF_S = (0.2, 1.0, 28.0)  # the last is longer than a cancelled attempt may go on before it is abandoned
HANG_LOOKS = 180  # every 5 s whether it is healed; 15 min in all


def label(run: str, task: str, attempt: int) -> str:
    return f"<{run} {task} {attempt}>"


def label_now() -> str:
    """The label of the attempt whose task runs now; empty outside of one."""
    task = asyncio.current_task()
    words = task.get_name().split(" ") if task is not None else []
    return label(words[1], words[2], int(words[3])) if words[:1] == ["attempt"] else ""


class SimProvider:
    """A `Provider` of one process."""

    name = "simulated"
    model = "sim-1"

    def __init__(self, chance: random.Random, faults: Faults, *, offline: bool) -> None:
        self.offline = offline
        self.calls = 0
        self.calls_max = 0
        self.summaries = 0
        self._chance = chance
        self._faults = faults

    async def complete(self, request: ModelRequest, events: Events) -> ModelReply:
        self.calls += 1
        self.calls_max = max(self.calls, self.calls_max)
        self.summaries += request.purpose == "summary"
        try:
            return await self._complete(request, events)
        except asyncio.CancelledError:
            luck = self._chance.random()
            if luck < 0.3 and request.purpose != "summary" and await self._deaf() and luck < 0.2:
                return ModelReply(content=f"{label_now()} at last", usage=Usage(calls=1), finish_reason="stop")
            raise
        finally:
            self.calls -= 1
            self.summaries -= request.purpose == "summary"

    async def check(self) -> str | None:
        return None

    async def close(self) -> None:
        """Nothing is open."""

    async def _deaf(self) -> bool:
        """It does not hear that it is cancelled; False when it is told again."""
        try:
            await asyncio.sleep(self._chance.choice(DEAF_S) * self._chance.random())
        except asyncio.CancelledError:
            return False
        return True

    async def _complete(self, request: ModelRequest, events: Events) -> ModelReply:
        chance = self._chance
        await self._wait()
        if chance.random() < self._faults.model_fails:
            self._fail(events)
        usage = Usage(model=self.model, input_tokens=7, output_tokens=3, calls=1)
        if request.tools and chance.random() < 0.4 and sum(one.role == "tool" for one in request.messages) < 4:
            made = tuple(_call(chance, n) for n in range(chance.randint(1, 3)))
            return ModelReply(content="", usage=usage, finish_reason="tool_calls", tool_calls=made)
        text = self._plan() if request.purpose == "planning" else self._words()
        for chunk in _chunks(chance, text):
            events.text(chunk)
            if chance.random() < 0.5:
                await self._wait()
            if chance.random() < self._faults.model_fails * 0.2:
                raise ProviderError("cut off", kind="network", retryable=True)
        return ModelReply(content=text, usage=usage, finish_reason="stop")

    async def _wait(self) -> None:
        luck = self._chance.random()
        if luck < self._faults.model_hangs:
            for _ in range(HANG_LOOKS):
                if self._faults.model_hangs:
                    await asyncio.sleep(5.0)
        elif luck < 0.8:
            await asyncio.sleep(self._faults.model_s * self._chance.random())

    def _fail(self, events: Events) -> None:
        kind = self._chance.choice(KINDS)
        if self._chance.random() < 0.5:
            events.retry(1, kind, 100)
        raise ProviderError(f"it fails with {kind}", kind=kind, retryable=kind in KINDS[:4])

    def _words(self) -> str:
        return f"{label_now()} " + " ".join(f"w{n}" for n in range(self._chance.choice((1, 3, 8, 40))))

    def _plan(self) -> str:
        if self._chance.random() < 0.06:
            return self._chance.choice(("no plan at all", '{"tasks": []}', '{"tasks": [{"id": "a"}]}'))
        return json.dumps(plan(self._chance))


def plan(chance: random.Random) -> dict[str, Any]:
    """A valid plan: each task may depend on earlier ones, gates and questions included."""
    tasks: list[dict[str, Any]] = []
    gates: list[dict[str, Any]] = []
    for number in range(chance.choice((1, 3, 4, 6, 9, 12))):
        earlier = [node["id"] for node in (*tasks, *gates)]
        depends = sorted(chance.sample(earlier, min(len(earlier), chance.choice((0, 0, 1, 1, 2)))))
        if chance.random() < 0.1:
            gates.append({"id": f"g{number}", "title": "may it?", "depends_on": depends})
            continue
        tasks.append(_task(chance, f"t{number}", depends))
    if not tasks:
        tasks.append({"id": "t", "title": "t", "prompt": "do"})
    return {"tasks": tasks, "gates": gates}


def _task(chance: random.Random, name: str, depends: list[str]) -> dict[str, Any]:
    task: dict[str, Any] = {"id": name, "title": name, "depends_on": depends}
    inputs = [dep for dep in depends if dep.startswith("t")]
    kind = chance.choices(("model", "tool", "delay", "question", "join"), (12, 4, 2, 1, 2))[0]
    if kind == "tool":
        call = _call(chance, 0)
        return {**task, "kind": "tool", "tool": call.name, "input": json.loads(call.arguments)}
    if kind == "delay":
        return {**task, "kind": "delay", "delay_s": chance.choice((0.5, 2.0, 6.0))}
    if kind == "question":
        return {**task, "kind": "question", "question": "which?"}
    if kind == "join" and len(inputs) == len(depends) > 0:
        return {**task, "kind": "join"}
    return {**task, "prompt": "do"}


def _call(chance: random.Random, number: int) -> ToolCall:
    name, given = chance.choice(
        [("calculate", {"expression": "1+1"}), ("text", {"text": "a", "operation": "upper"}), ("press", {}),
         ("press", {}), ("stroll", {}), ("look_up", {"words": "w1"})]
    )  # fmt: skip
    return ToolCall(f"c{number}", name, json.dumps(given))


def _chunks(chance: random.Random, text: str) -> list[str]:
    size = max(1, len(text) // chance.choice((1, 3, 9)))
    return [text[at : at + size] for at in range(0, len(text), size)]


class SimTool:
    """A tool that takes time and may fail; `press` may not be repeated, `stroll` may."""

    description = "simulated"
    parameters: dict[str, Any] = {"type": "object"}  # noqa: RUF012
    timeout_s = 3.0

    def __init__(self, name: str, effect: Effect, chance: random.Random) -> None:
        self.name = name
        self.effect = effect
        self._chance = chance

    async def call(self, given: bytes, context: Context) -> Any:
        luck = self._chance.random()
        await asyncio.sleep(5.0 if luck > 0.97 else luck * 0.3)
        if luck < 0.05:
            raise ToolError("it does not work")
        return f"{self.name} was done"
