"""One attempt of one piece of work, from its prompt to its outcome; every failure becomes an outcome (models.md, 4).

A worker reads the published state and the session's words, asks the provider or a tool, and reports. It keeps nothing:
what has to last is in the facts that its outcome leads to. The answer's words go to the followers as they come.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace

from agentd.actors import prompts
from agentd.actors.attempts import Outcome
from agentd.actors.desk import Desk
from agentd.actors.planner import propose
from agentd.actors.repair import invalid_cause, repair, shown, structured
from agentd.actors.toolbox import CALLS_PER_MESSAGE_MAX, NotRunning, Toolbox
from agentd.actors.wave import Wave
from agentd.core import intents as i
from agentd.core.graph import added
from agentd.core.problem import Problem
from agentd.core.references import filled, named_outputs
from agentd.core.session import Work
from agentd.core.state import Run, Task
from agentd.core.tokens import byte_length
from agentd.protocol import facts as f
from agentd.protocol.errors import AgentdError, ProviderError
from agentd.providers.provider import Message, ModelReply, ModelRequest, ToolCall
from agentd.tools.builtin import BUILTIN
from agentd.tools.tool import ToolError

TASK_TIMEOUT_S = 600.0
ROUNDS_MAX = 8
OUTPUTS_MAX = 3
CUTS_TOLD = 50

log = structlog.get_logger(__name__)


class Worker:
    """Does the attempts of one session."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._wave = Wave()

    def run_ended(self) -> None:
        """Nothing of its words stays here."""
        self._wave.forget()

    async def attempt(self, work: Work) -> Outcome:
        """Run one attempt to its end. Raises CancelledError only when the process goes down."""
        run = self._desk.state.runs[work.run]
        by = f.By(principal=run.principal, via="planner")
        if work.task == "planning":
            return await self._planning(run, work, by)
        try:
            if work.task == "answer":
                return await self._answer(run, work, by)
            with self._desk.shared.timed(self._desk.shared.metrics.task_seconds):
                return await self._task(run, run.tasks[work.task], work, by)
        except Exception as error:
            return i.AttemptEnded(
                by=by, run=run.id, task=work.task, attempt=work.attempt, step=work.step, outcome="failed",
                cause=self._unforeseen(error, work),
            )  # fmt: skip

    def _unforeseen(self, error: Exception, work: Work) -> f.Cause:
        """What nobody reckoned with ends the attempt too: without an outcome its run would be `running` for ever."""
        if isinstance(error, AgentdError):
            return f.Cause(code=error.code, message=error.message, hint=error.hint, task=work.task)
        fault = self._desk.shared.clock.new_id("fault")
        log.exception("attempt.failed", fault=fault, session=self._desk.state.key)
        return f.Cause(code="internal", message=fault, task=work.task)

    async def _planning(self, run: Run, work: Work, by: f.By) -> Outcome:
        try:
            return await propose(self._desk.shared, run, work.attempt, by, _Heard(self._desk, run.id, None))
        except asyncio.CancelledError:
            return i.AttemptEnded(
                by=by, run=run.id, task="planning", attempt=work.attempt, outcome="cancelled", cause=_CANCELLED.cause
            )
        except Exception:
            fault = self._desk.shared.clock.new_id("fault")
            log.exception("planning.failed", fault=fault, session=self._desk.state.key)
            failure = f.Cause(code="internal", message=fault)
            return i.PlanProposed(by=by, run=run.id, attempt=work.attempt, failure=failure)

    async def _answer(self, run: Run, work: Work, by: f.By) -> Outcome:
        message = f"{run.id}.m{work.attempt}.{work.step}"
        feed = self._desk.feed
        feed.begin_message(run.id, message)
        heard = _Heard(self._desk, run.id, feed.add_text)
        try:
            request, cut = await prompts.for_answer(self._desk, run)
            if cut:
                self._prompt_cut(run, cut)
            reply = await self._ask(request, heard, TASK_TIMEOUT_S)
        except _Failed as failed:
            return i.AttemptEnded(
                by=by, run=run.id, task="answer", attempt=work.attempt, step=work.step, outcome=failed.outcome,
                cause=failed.cause, shown=heard.shown(), message_id=message,
            )  # fmt: skip
        return i.AttemptEnded(
            by=by, run=run.id, task="answer", attempt=work.attempt, step=work.step, outcome="done",
            result=reply.content, usage=reply.usage, finish_reason=reply.finish_reason, message_id=message,
        )  # fmt: skip

    def _prompt_cut(self, run: Run, cut: tuple[str, ...]) -> None:
        """What the model did not get is told before it answers (F11)."""
        warning = i.Warn(
            by=f.By(principal="agentd", via="planner"), run=run.id, code="prompt_cut", source="prompt",
            message=f"the prompt is over its budget: {'; '.join(cut)}"[:1_000], details={"cut": list(cut[:CUTS_TOLD])},
        )  # fmt: skip
        self._desk.tell(warning, "result")

    async def _task(self, run: Run, task: Task, work: Work, by: f.By) -> Outcome:
        tools = {name: BUILTIN[name] for name in task.spec.tools if name in BUILTIN}
        if task.spec.kind == "tool" and task.spec.tool in BUILTIN:
            tools = {task.spec.tool: BUILTIN[task.spec.tool]}
        box = Toolbox(self._desk, run, work.task, work.attempt, by, tools)
        try:
            async with asyncio.timeout(task.spec.timeout_s or TASK_TIMEOUT_S):
                result, usage = await (
                    self._tool(run, task, box) if task.spec.kind == "tool" else self._model(run, task, box)
                )
        except TimeoutError:
            limit_s = task.spec.timeout_s or TASK_TIMEOUT_S
            cause = f.Cause(code="timeout", kind="timeout", message=f"no end within {limit_s:g} s", task=work.task)
            return i.AttemptEnded(
                by=by, run=run.id, task=work.task, attempt=work.attempt, outcome="failed", cause=cause
            )
        except (_Failed, NotRunning, asyncio.CancelledError) as error:
            failed = error if isinstance(error, _Failed) else _CANCELLED
            return i.AttemptEnded(
                by=by, run=run.id, task=work.task, attempt=work.attempt, outcome=failed.outcome, cause=failed.cause
            )
        return i.AttemptEnded(
            by=by, run=run.id, task=work.task, attempt=work.attempt, outcome="done", result=result, usage=usage
        )

    async def _model(self, run: Run, task: Task, box: Toolbox) -> tuple[Any, f.Usage | None]:
        """Model steps with tools between them, at most `ROUNDS_MAX`; then the model has to do without. An output that
        is not what the plan asks for goes back with what is wrong with it, at most `OUTPUTS_MAX` are looked at (L9)."""
        request = await prompts.for_task(self._desk, run, task, self._wave)
        heard = _Heard(self._desk, run.id, None)
        steered = prompts.Steered(self._desk, run.id)
        usage, outputs = f.Usage(), 0
        # The task's own deadline is around all of it, so a call needs one only where that one is later.
        limit_s = TASK_TIMEOUT_S if (task.spec.timeout_s or 0.0) > TASK_TIMEOUT_S else None
        for round_ in range(ROUNDS_MAX + OUTPUTS_MAX):
            if steered.waiting():
                await box.place_inputs()
            request = replace(request, messages=(*request.messages, *steered.fresh()))
            offered = replace(request, tools=box.specs() if round_ < ROUNDS_MAX else (), schema=task.spec.schema)
            reply = await self._ask(offered, heard, limit_s)
            usage = added(usage, reply.usage)
            if reply.tool_calls:
                answers = [await self._called(box, asked, n, steered) for n, asked in enumerate(reply.tool_calls)]
                said = Message(role="assistant", content=reply.content, tool_calls=reply.tool_calls)
                request = replace(request, messages=(*request.messages, said, *answers))
                continue
            value, wrong = structured(reply.content, task.spec)
            if not wrong:
                return value, usage
            outputs += 1
            self._invalid(run, task, outputs, wrong)
            if outputs == OUTPUTS_MAX:
                raise _Failed("failed", invalid_cause(task.spec, wrong))
            request = replace(request, messages=(*request.messages, *repair(reply.content, wrong)))
        raise _Failed("failed", f.Cause(code="tool_rounds", message=f"no end after {ROUNDS_MAX} rounds of tools"))

    def _invalid(self, run: Run, task: Task, outputs: int, wrong: tuple[Problem, ...]) -> None:
        """A breadcrumb for each output that does not hold, before the next one is asked for."""
        warning = i.Warn(
            by=f.By(principal="agentd", via="planner"), run=run.id, code="output_invalid", source="worker",
            message=f"output {outputs} of at most {OUTPUTS_MAX} of {task.spec.id}: {shown(wrong)}",
            details={"task": task.spec.id, "attempt": task.attempt, "output": outputs,
                     "errors": [msgspec.structs.asdict(one) for one in wrong]},
        )  # fmt: skip
        self._desk.tell(warning, "result")

    async def _called(self, box: Toolbox, asked: ToolCall, place: int, steered: prompts.Steered) -> Message:
        """One call of a message. Once the user said something new, the rest of the message is not called (N2)."""
        if place >= CALLS_PER_MESSAGE_MAX:
            content = f"error (too_many): at most {CALLS_PER_MESSAGE_MAX} calls in one message"
        elif place and steered.waiting():
            content = await box.skip(asked)
        else:
            content = await box.call(asked)
        return Message(role="tool", content=content, tool_call_id=asked.id)

    async def _tool(self, run: Run, task: Task, box: Toolbox) -> tuple[Any, f.Usage | None]:
        """A task that is one call of a tool; results of other tasks fill `{{task}}` or `{{output}}` in its input."""
        given = filled(task.spec.input or {}, named_outputs(run, self._desk.words.results))
        try:
            return await box.make(task.spec.tool or "", msgspec.json.encode(given)), None
        except ToolError as error:
            raise _Failed("failed", f.Cause(code="tool_failed", kind=error.kind, message=error.message)) from None

    async def _ask(self, request: ModelRequest, heard: "_Heard", timeout_s: float | None) -> ModelReply:
        """One model call. Raises _Failed with what became of it."""
        provider = self._desk.shared.provider
        try:
            if timeout_s is None:
                reply = await provider.complete(request, heard)
            else:
                async with asyncio.timeout(timeout_s):
                    reply = await provider.complete(request, heard)
        except asyncio.CancelledError:
            raise _Failed("cancelled", f.Cause(code="cancelled", message="cancelled by request")) from None
        except TimeoutError:
            raise _Failed("failed", f.Cause(code="timeout", message=f"no end within {timeout_s:g} s")) from None
        except ProviderError as error:
            cause = f.Cause(code="provider_error", kind=error.kind, message=error.message, hint=error.hint)
            raise _Failed("failed", cause) from None
        except Exception:
            fault = self._desk.shared.clock.new_id("fault")
            log.exception("attempt.failed", fault=fault, session=self._desk.state.key)
            raise _Failed("failed", f.Cause(code="internal", message=fault)) from None
        if not reply.usage.estimated and not self._desk.shared.provider.offline:
            size = sum(byte_length(message.content) for message in request.messages)
            self._desk.shared.calibration.learn(self._desk.shared.provider.model, size, reply.usage.input_tokens)
        return reply


class _Failed(Exception):
    def __init__(self, outcome: i.Outcome, cause: f.Cause) -> None:
        super().__init__(cause.message)
        self.outcome: i.Outcome = outcome
        self.cause = cause


_CANCELLED = _Failed("cancelled", f.Cause(code="cancelled", message="cancelled by request"))


class _Heard:
    """What a provider says while a call runs."""

    def __init__(self, desk: Desk, run: str, show: Callable[[str], None] | None) -> None:
        self._desk = desk
        self._run = run
        self._show = show
        self._parts: list[str] = []

    def shown(self) -> str:
        return "".join(self._parts)

    def text(self, text: str) -> None:
        if self._show is not None:
            self._parts.append(text)
            self._show(text)

    def retry(self, attempt: int, kind: str, wait_ms: int) -> None:
        warning = i.Warn(
            by=f.By(principal="agentd", via="planner"), run=self._run, code="provider_retry", source="provider",
            message=f"the provider failed ({kind}), asked again in {wait_ms} ms",
            details={"attempt": attempt, "kind": kind, "wait_ms": wait_ms},
        )  # fmt: skip
        self._desk.tell(warning, "result")
