"""Tool calls of one attempt: stored before they are made, bounded in time and number, their ends stored too.

`tool.called` is the intent: a call is made only once it is durable, so that after a crash the doubt about an effect is
exact (design 4). What comes back is scrubbed, cut to the limit of a fact, and quoted as evidence.
"""

import asyncio
from typing import Any

import msgspec
import structlog

from agentd.actors.desk import Desk
from agentd.core import intents as i
from agentd.core.scrub import scrub
from agentd.core.state import Run
from agentd.core.tasks import SKIPPED
from agentd.core.tokens import cut_to_bytes
from agentd.protocol import facts as f
from agentd.protocol.errors import AgentdError
from agentd.protocol.replies import Reply
from agentd.protocol.signals import Signal
from agentd.providers.provider import ToolCall, ToolSpec
from agentd.tools.tool import Context, Found, Tool, ToolError

CALLS_PER_MESSAGE_MAX = 16
STORED_S = 30.0
OUTPUT_BYTES_MAX = 64 * 1024
SEARCHED_BYTES_MAX = 256 * 1024  # of a longer output no more is looked through for secrets: it holds up the loop

log = structlog.get_logger(__name__)


class NotRunning(Exception):
    """The attempt that wanted the call has ended meanwhile."""


class Toolbox:
    """The tools that one attempt may use."""

    def __init__(self, desk: Desk, run: Run, task: str, attempt: int, by: f.By, tools: dict[str, Tool]) -> None:
        self._desk = desk
        self._run = run
        self._task = task
        self._attempt = attempt
        self._by = by
        self._tools = tools
        self._made = 0

    def specs(self) -> tuple[ToolSpec, ...]:
        """The tools as a model is told of them."""
        return tuple(ToolSpec(tool.name, tool.description, tool.parameters) for tool in self._tools.values())

    async def call(self, asked: ToolCall) -> str:
        """Make one call that a model asked for; its outcome as text, an error too.

        Raises:
            NotRunning: nothing was called, because the attempt is over.
        """
        try:
            output = await self.make(asked.name, asked.arguments.encode())
        except ToolError as error:
            return f"error ({error.kind}): {error.message}"
        return output if isinstance(output, str) else msgspec.json.encode(output).decode()

    async def skip(self, asked: ToolCall) -> str:
        """Tell that a call is not made; what the model hears of it.

        Raises:
            NotRunning: the attempt is over.
        """
        self._made += 1
        given = scrub(_shown(asked.arguments.encode()), self._desk.shared.known_secrets).value
        await self._stored(
            i.CallSkipped(
                by=self._by, run=self._run.id, task=self._task, attempt=self._attempt, call=self._call(),
                tool=asked.name, input=given,
            )
        )  # fmt: skip
        return SKIPPED

    async def place_inputs(self) -> None:
        """Steering words that wait become entries, before the next model step. Raises NotRunning."""
        await self._stored(i.PlaceInputs(by=self._by, run=self._run.id, task=self._task, attempt=self._attempt))

    def _call(self) -> str:
        return f"{self._run.id}.{self._task}.{self._attempt}.c{self._made}"

    async def make(self, name: str, given: bytes) -> Any:
        """Store the intent, call, store the end. Raises ToolError, NotRunning."""
        tool = self._tools.get(name)
        if tool is None:
            raise ToolError(f"there is no tool {name}; there are {', '.join(self._tools)}", kind="not_found")
        self._made += 1
        call = self._call()
        known = self._desk.shared.known_secrets
        common = {"by": self._by, "run": self._run.id, "task": self._task, "attempt": self._attempt, "call": call}
        await self._stored(
            i.CallBegan(**common, tool=name, input=scrub(_shown(given), known).value, effect=tool.effect)  # type: ignore[arg-type]
        )
        try:
            output, size = await self._counted(tool, given)
        except ToolError as error:
            cause = f.Cause(code="tool_failed", kind=error.kind, message=error.message[:1_000])
            await self._stored(i.CallEnded(**common, tool=name, error=cause))  # type: ignore[arg-type]
            raise
        await self._stored(i.CallEnded(**common, tool=name, output=output))  # type: ignore[arg-type]
        if size is not None:
            self._tell_cut(call, name, size)
        return output

    def _tell_cut(self, call: str, tool: str, size: int) -> None:
        """What is missing of an output is told (F11)."""
        warning = i.Warn(
            by=self._by, run=self._run.id, code="result_cut", source="worker",
            message=f"the output of {tool} has {size} bytes, kept are {OUTPUT_BYTES_MAX}",
            details={"task": self._task, "call": call, "bytes": size, "limit": OUTPUT_BYTES_MAX},
        )  # fmt: skip
        self._desk.tell(warning, "result")

    async def _counted(self, tool: Tool, given: bytes) -> tuple[Any, int | None]:
        """`_within_time`, with how it ended and how long it took for the metrics."""
        shared, outcome = self._desk.shared, "cancelled"
        try:
            with shared.timed(shared.metrics.tool_call_seconds):
                kept = await self._within_time(tool, given)
            outcome = "ok"
            return kept
        except ToolError as error:
            outcome = "timeout" if error.kind == "timeout" else "failed"
            raise
        finally:
            shared.metrics.tool_calls.labels(outcome).inc()

    async def _within_time(self, tool: Tool, given: bytes) -> tuple[Any, int | None]:
        """The output as it is kept, and its bytes if that is not all of it. Raises ToolError."""
        limit_s = min(tool.timeout_s, self._desk.shared.settings.extensions.tool_timeout_s)
        try:
            async with asyncio.timeout(limit_s):
                output = await tool.call(given, Context(self._look_up))
            return _kept(output, self._desk.shared.known_secrets)
        except TimeoutError:
            raise ToolError(f"no end within {limit_s:g} s", kind="timeout") from None
        except (ToolError, asyncio.CancelledError):
            raise
        except Exception:
            fault = self._desk.shared.clock.new_id("fault")
            log.exception("tool.failed", fault=fault, tool=tool.name, session=self._desk.state.key)
            raise ToolError(f"it failed on our side ({fault})") from None

    async def _stored(self, intent: i.AnyIntent) -> None:
        heard = _Heard()
        self._desk.tell(intent, "result", heard)
        async with asyncio.timeout(STORED_S):
            if not await heard.stored:
                raise NotRunning

    async def _look_up(self, words: str, limit: int) -> list[Found]:
        """Entries of the run's path that speak of the words, best first; nothing of other branches (rulings 32)."""
        tip = self._run.tip
        if tip is None:
            return []
        hits = await self._desk.shared.store.query(
            self._desk.state.key, leaf=tip, topic=words, kinds=["message"], path_only=True, limit=limit + 1
        )
        rows = [one.row for one in hits if one.row.id != tip]
        return [Found(id=row.id, role=row.role, content=row.content) for row in rows[:limit]]


class _Heard:
    """A caller that is told whether its command counted."""

    def __init__(self) -> None:
        self.waits = False
        self.stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def is_fact(self, session: str, seq: int, body: bytes) -> None:
        self._tell(True)

    def done(self, session: str, seq: int, reply: Reply | Signal) -> None:
        self._tell(True)

    def refused(self, session: str, seq: int, error: AgentdError) -> None:
        self._tell(False)

    def repeated(self, session: str, run: str) -> None:
        self._tell(True)

    def _tell(self, counted: bool) -> None:
        if not self.stored.done():
            self.stored.set_result(counted)


def _shown(given: bytes) -> Any:
    """The input as the fact tells it: JSON where it is JSON."""
    try:
        return msgspec.json.decode(given)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return given.decode("utf-8", "replace")[:OUTPUT_BYTES_MAX]


def _kept(output: Any, known: frozenset[str]) -> tuple[Any, int | None]:
    """Without secrets and within the limit; what is longer becomes text, cut and told so, with the bytes it had.

    Raises:
        TypeError, ValueError: it is nothing that JSON has.
    """
    encoded = _encoded(output)
    size = len(encoded)
    if size > SEARCHED_BYTES_MAX:
        output = encoded[:SEARCHED_BYTES_MAX].decode("utf-8", "ignore")
    output = scrub(output, known).value
    encoded = _encoded(output)
    if size <= SEARCHED_BYTES_MAX and len(encoded) <= OUTPUT_BYTES_MAX:
        return output, None
    kept = cut_to_bytes(encoded.decode("utf-8", "replace"), OUTPUT_BYTES_MAX)
    return f"{kept} […cut from {size} bytes]", size


def _encoded(output: Any) -> bytes:
    return output.encode("utf-8", "replace") if isinstance(output, str) else msgspec.json.encode(output)
