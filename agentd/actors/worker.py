"""One attempt of one piece of work, from its prompt to its outcome; every failure becomes an outcome (models.md, 4).

A worker reads the published state and the session's words, asks the provider or a tool, and reports. It keeps nothing:
what has to last is in the facts that its outcome leads to. The answer's words go to the followers as they come.
"""

import asyncio
from collections.abc import Callable

import structlog

from agentd.actors import prompts
from agentd.actors.attempts import Outcome
from agentd.actors.desk import Desk
from agentd.actors.planner import propose
from agentd.core import intents as i
from agentd.core.session import Work
from agentd.core.state import Run, Task
from agentd.protocol import facts as f
from agentd.protocol.errors import ProviderError
from agentd.providers.provider import ModelReply, ModelRequest

TASK_TIMEOUT_S = 600.0

log = structlog.get_logger(__name__)


class Worker:
    """Does the attempts of one session."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def attempt(self, work: Work) -> Outcome:
        """Run one attempt to its end. Raises CancelledError only when the process goes down."""
        run = self._desk.state.runs[work.run]
        by = f.By(principal=run.principal, via="planner")
        if work.task == "planning":
            return await propose(self._desk.shared, run, work.attempt, by)
        if work.task == "answer":
            return await self._answer(run, work, by)
        return await self._task(run, run.tasks[work.task], work, by)

    async def _answer(self, run: Run, work: Work, by: f.By) -> Outcome:
        message = f"{run.id}.m{work.attempt}.{work.step}"
        feed = self._desk.feed
        feed.begin_message(run.id, message)
        heard = _Heard(self._desk, run.id, feed.add_text)
        try:
            request = await prompts.for_answer(self._desk, run)
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

    async def _task(self, run: Run, task: Task, work: Work, by: f.By) -> Outcome:
        heard = _Heard(self._desk, run.id, None)
        try:
            request = await prompts.for_task(self._desk, run, task)
            reply = await self._ask(request, heard, task.spec.timeout_s or TASK_TIMEOUT_S)
        except _Failed as failed:
            return i.AttemptEnded(
                by=by, run=run.id, task=work.task, attempt=work.attempt, outcome=failed.outcome, cause=failed.cause
            )
        return i.AttemptEnded(
            by=by, run=run.id, task=work.task, attempt=work.attempt, outcome="done", result=reply.content,
            usage=reply.usage,
        )  # fmt: skip

    async def _ask(self, request: ModelRequest, heard: "_Heard", timeout_s: float) -> ModelReply:
        """One model call. Raises _Failed with what became of it."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._desk.shared.provider.complete(request, heard)
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


class _Failed(Exception):
    def __init__(self, outcome: i.Outcome, cause: f.Cause) -> None:
        super().__init__(cause.message)
        self.outcome: i.Outcome = outcome
        self.cause = cause


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
