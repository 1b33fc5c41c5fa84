"""Frames to intents: what a client asked, checked and addressed, as the rules take it (rulings 12, 16, 41)."""

import hashlib
from typing import Literal

import msgspec
from msgspec.structs import replace

from agentd.actors.mailbox import Lane
from agentd.core import intents as i
from agentd.core.scrub import scrub
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


class Border(msgspec.Struct, frozen=True):
    """What every frame is measured by: who asks, the id of a run it may start, limits, and the secrets held here."""

    by: By
    run: str
    chat_bytes: int
    overflow: Literal["defer", "drop"]
    known: frozenset[str]


Acting = (
    c.ChatSend | c.AgentControl | c.SessionNew | c.SessionSetLeaf
    | c.MemoryLoad | c.MemoryUpdate | c.MemoryEvict | c.MemorySummarize
)  # fmt: skip


def starts(frame: Acting) -> bool:
    """Whether it starts a run, as far as can be seen before its words are looked at."""
    if isinstance(frame, c.ChatSend):
        return frame.input_mode != "steer" and (frame.content or frame.text) != NEW
    return isinstance(frame, c.AgentControl) and frame.action in (None, "goal", "plan") and frame.input_mode != "steer"


def asked(frame: Acting, border: Border) -> Asked:
    """What a frame asks for, with its texts scrubbed.

    Raises:
        InvalidPayload: a field that it needs is missing. TooLarge: a text or value is over `chat_bytes` of UTF-8.
    """
    texts = {name: getattr(frame, name) for name in _TEXTS if getattr(frame, name, None) is not None}
    for name, text in texts.items():  # before anything that takes longer the more there is
        _within(text, f"$.{name}", border.chat_bytes)
    clean = {name: scrub(text, border.known) for name, text in texts.items()}  # these names are ours, and no secret's
    rules = tuple(dict.fromkeys([one.rule for field in clean.values() for one in field.found]))
    if rules:
        frame = replace(frame, **{name: field.value for name, field in clean.items()})
    if isinstance(frame, c.ChatSend):
        found = _chat(frame, border)
    elif isinstance(frame, c.AgentControl):
        found = _control(frame, border)
    elif isinstance(frame, c.SessionNew):
        found = _epoch(frame, border)
    else:
        found = Asked(_memory(frame, border), "control")
    if not rules:
        return found
    return replace(found, intent=replace(found.intent, scrubbed=rules))


_TEXTS = ("content", "text", "goal", "note", "reason", "value")


def _chat(frame: c.ChatSend, border: Border) -> Asked:
    """`chat.send`: a turn, a goal, or `/new`."""
    path = "$.text" if frame.content is None and frame.text is not None else "$.content"
    content = said(_first(frame.content, frame.text), path, border.chat_bytes)
    if content == NEW:
        return Asked(i.NewEpoch(by=border.by), "control")
    goal = content.startswith(i.GOAL_PREFIX) or content == i.GOAL_PREFIX.rstrip()
    if goal and not content[len(i.GOAL_PREFIX) :].strip():
        raise InvalidPayload("/goal needs a goal", path=path, hint="Write `/goal` and what is to be done.")
    return _start(frame, border, "goal" if goal else "chat", content, border.overflow)


def _control(frame: c.AgentControl, border: Border) -> Asked:
    """`agent.control`, but for `state` and `heartbeat`, which are questions."""
    by = border.by
    match frame.action:
        case None | "goal" | "plan":
            text = said(_first(frame.goal, frame.content, frame.text), "$.goal", border.chat_bytes)
            return _start(frame, border, "goal", text, frame.overflow or border.overflow)
        case "pause":
            return Asked(i.SetMode(by=by, mode="paused", reason=frame.reason), "control")
        case "resume":
            return Asked(i.SetMode(by=by, mode="running", reason=frame.reason), "control")
        case "cancel":
            return Asked(i.Cancel(by=by, run=frame.run, task=frame.task), "control")
        case "steer" | "follow_up":
            text = said(_first(frame.text, frame.content, frame.goal), "$.text", border.chat_bytes)
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


def _epoch(frame: c.SessionNew, border: Border) -> Asked:
    """`session.new`, or `session.reset` under its older name."""
    if not frame.archive:
        raise InvalidPayload(
            "`archive: false` is not served", path="$.archive", hint="Entries are always kept; leave the field out."
        )
    kind = "session.reset" if isinstance(frame, c.SessionReset) else "session.new"
    return Asked(i.NewEpoch(by=border.by, reason=frame.reason, request_type=kind), "control")


Remembering = c.SessionSetLeaf | c.MemoryLoad | c.MemoryUpdate | c.MemoryEvict | c.MemorySummarize


def _memory(frame: Remembering, border: Border) -> i.AnyIntent:
    """Acts on working memory and on the leaf."""
    by = border.by
    match frame:
        case c.SessionSetLeaf():
            return i.SetLeaf(by=by, leaf=frame.leaf_id)
        case c.MemoryLoad():
            return i.LoadMemory(by=by, id=frame.memory_id)
        case c.MemoryEvict():
            return i.EvictMemory(by=by, id=frame.memory_id)
        case c.MemoryUpdate():
            if frame.content is None and frame.pinned is None:
                raise InvalidPayload("`content` or `pinned` is missing", path="$.content")
            words = said(frame.content, "$.content", border.chat_bytes) if frame.content is not None else None
            return i.UpdateMemory(by=by, id=frame.memory_id, content=words, pinned=frame.pinned)
        case c.MemorySummarize():
            ids = frame.memory_ids or ((frame.memory_id,) if frame.memory_id is not None else ())
            if not ids:
                raise InvalidPayload("`memory_id` or `memory_ids` is missing", path="$.memory_id")
            words = said(frame.content, "$.content", border.chat_bytes) if frame.content is not None else None
            return i.SummarizeMemory(by=by, ids=ids, summary=border.run.replace("run", "sum", 1), content=words)


def said(text: str | None, path: str, limit: int) -> str:
    """A text that is there, not empty, and within `limit` bytes of UTF-8, counted before JSON escapes it."""
    if text is None:
        raise InvalidPayload(f"`{path[2:]}` is missing", path=path)
    if not text:
        raise InvalidPayload("the text is empty", path=path, hint="Send at least one character.")
    _within(text, path, limit)
    return text


def _within(text: object, path: str, limit: int) -> None:
    """A text counts as it is, an answer's value as JSON."""
    size = len(text.encode() if isinstance(text, str) else msgspec.json.encode(text))
    if size > limit:
        raise TooLarge(f"the text has {size} bytes", limit=limit, path=path, hint="Send less, or in several turns.")


def _start(
    frame: c.Starts, border: Border, kind: Literal["chat", "goal"], content: str, overflow: Literal["defer", "drop"]
) -> Asked:
    if frame.input_mode == "steer":
        return Asked(i.AddInput(by=border.by, mode="steer", content=content), "control")
    intent = i.StartRun(
        by=border.by,
        run=border.run,
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
