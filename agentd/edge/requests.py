"""Frames to intents: what a client asked, checked and addressed, as the rules take it (rulings 12, 16, 41)."""

import hashlib
from typing import Literal

import msgspec

from agentd.actors.mailbox import Lane
from agentd.core import intents as i
from agentd.protocol import commands as c
from agentd.protocol.errors import InvalidPayload, TooLarge
from agentd.protocol.facts import By

NEW = "/new"

Scope = Literal["chat", "operator", "admin"]


class Asked(msgspec.Struct, frozen=True):
    """An intent with its lane, the scope it needs, and whether its reply is the run's end."""

    intent: i.AnyIntent
    lane: Lane
    scope: Scope = "chat"
    waits: bool = False


def chat(frame: c.ChatSend, by: By, run: str, chat_bytes: int) -> Asked:
    """`chat.send`: a turn, a goal, or `/new`.

    Raises:
        InvalidPayload: no content. TooLarge: over `chat_bytes` of UTF-8.
    """
    content, path = (frame.content, "$.content") if frame.content is not None else (frame.text, "$.text")
    content = said(content, path if content is not None else "$.content", chat_bytes)
    if content == NEW:
        return Asked(i.NewEpoch(by=by), "control")
    if frame.input_mode == "steer":
        return Asked(i.AddInput(by=by, mode="steer", content=content), "control")
    if content.startswith(i.GOAL_PREFIX) or content == i.GOAL_PREFIX.rstrip():
        if not content[len(i.GOAL_PREFIX) :].strip():
            raise InvalidPayload("/goal needs a goal", path=path, hint="Write `/goal` and what is to be done.")
        return _start(frame, by, run, "goal", content, "defer")
    return _start(frame, by, run, "chat", content, "defer")


def control(frame: c.AgentControl, by: By, run: str, chat_bytes: int, overflow: Literal["defer", "drop"]) -> Asked:
    """`agent.control`, but for `state` and `heartbeat`, which are questions.

    Raises:
        InvalidPayload: a field that the action needs is missing. TooLarge: its text is.
    """
    match frame.action:
        case None | "goal" | "plan":
            text = said(_first(frame.goal, frame.content, frame.text), "$.goal", chat_bytes)
            return _start(frame, by, run, "goal", text, frame.overflow or overflow)
        case "pause":
            return Asked(i.SetMode(by=by, mode="paused", reason=frame.reason), "control")
        case "resume":
            return Asked(i.SetMode(by=by, mode="running", reason=frame.reason), "control")
        case "cancel":
            return Asked(i.Cancel(by=by, run=frame.run, task=frame.task), "control")
        case "steer" | "follow_up":
            text = said(_first(frame.text, frame.content, frame.goal), "$.text", chat_bytes)
            return Asked(i.AddInput(by=by, mode=frame.action, content=text, run=frame.run), "control")
        case "retry":
            return Asked(i.RetryTask(by=by, task=_named(frame.task, "task"), run=frame.run), "control")
        case "approve" | "block":
            if frame.gate is None and frame.task is None:
                raise InvalidPayload("`gate` or `task` is missing", path="$.gate")
            intent = i.DecideGate(
                by=by, approve=frame.action == "approve", gate=frame.gate, task=frame.task, run=frame.run,
                note=frame.note,
            )  # fmt: skip
            return Asked(intent, "control", "operator")
        case "answer":
            task = _named(frame.task, "task")
            return Asked(i.AnswerQuestion(by=by, task=task, value=frame.value, run=frame.run), "control")
        case "clear_saturation":
            return Asked(i.ClearSaturation(by=by), "control")
        case _:
            raise InvalidPayload(f"action {frame.action} is a question", path="$.action")


def said(text: str | None, path: str, limit: int) -> str:
    """A text that is there, not empty, and within `limit` bytes of UTF-8, counted before JSON escapes it."""
    if text is None:
        raise InvalidPayload(f"`{path[2:]}` is missing", path=path)
    if not text:
        raise InvalidPayload("the text is empty", path=path, hint="Send at least one character.")
    size = len(text.encode())
    if size > limit:
        raise TooLarge(f"the text has {size} bytes", limit=limit, path=path, hint="Send less, or in several turns.")
    return text


def _start(
    frame: c.Starts, by: By, run: str, kind: Literal["chat", "goal"], content: str, overflow: Literal["defer", "drop"]
) -> Asked:
    if frame.input_mode == "steer":
        return Asked(i.AddInput(by=by, mode="steer", content=content), "control")
    intent = i.StartRun(
        by=by,
        run=run,
        kind=kind,
        content=content,
        leaf_id=frame.leaf_id,
        mode=frame.input_mode,
        overflow=overflow,
        key=frame.idempotency_key,
        body_hash=_hash(kind, content, frame, overflow) if frame.idempotency_key is not None else None,
    )
    return Asked(intent, "work", "chat", frame.wait)


def _hash(kind: str, content: str, frame: c.Starts, overflow: str) -> str:
    """What an idempotency key covers: everything that shapes the run."""
    body = msgspec.json.encode([kind, content, frame.leaf_id, frame.input_mode, overflow])
    return hashlib.sha256(body).hexdigest()[:32]


def _first(*texts: str | None) -> str | None:
    return next((text for text in texts if text is not None), None)


def _named(value: str | None, field: str) -> str:
    if value is None:
        raise InvalidPayload(f"`{field}` is missing", path=f"$.{field}")
    return value


def epoch(frame: c.SessionNew, by: By) -> Asked:
    """`session.new`, or `session.reset` under its older name."""
    kind = "session.reset" if isinstance(frame, c.SessionReset) else "session.new"
    return Asked(i.NewEpoch(by=by, reason=frame.reason, request_type=kind), "control")
