"""Frames to lines for a person: the agent's words on stdout, everything about them on stderr; or all as JSON lines.

So a pipe gets the answer and nothing else. On a terminal, control characters of texts that came over the wire are
shown, not obeyed: an answer must not be able to move the cursor or retitle the window.
"""

import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
import structlog

from agentd.cli.client import Frame
from agentd.cli.failure import Failure
from agentd.cli.speech import Speech

LINE_CHARS_MAX = 200
ENDS = frozenset({"run.completed", "run.failed", "run.cancelled"})
_SHOWN = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A)}
RESERVED = frozenset({"answer", "planning"})  # attempts that belong to no task of the plan
_SPACES = re.compile(r"(?<=\S)\s+")  # not those that a line begins with
_MARKS = {
    "running": "…", "done": "✓", "failed": "✗", "cancelled": "-", "skipped": "-", "dropped": "-", "retrying": "↻",
    "needs_review": "?",
}  # fmt: skip


def visible(text: str) -> str:
    """The text with control characters written out, line ends and tabs kept."""
    return text.translate(_SHOWN)


def one_line(text: object) -> str:
    line = _SPACES.sub(" ", visible(str(text)).rstrip())
    return line if len(line) <= LINE_CHARS_MAX else line[: LINE_CHARS_MAX - 1] + "…"


def print_json(value: object) -> None:
    """One line of JSON on stdout."""
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.buffer.flush()


@contextmanager
def errors_as(json: bool) -> Iterator[None]:
    """With `json` the server's error object also goes to stdout, where a program looks for it."""
    try:
        yield
    except Failure as failure:
        if json and failure.frame is not None:
            print_json(failure.frame)
        raise


def quiet_logs() -> None:
    """What shared parts log is for a server's operator; from a command only errors come, on stderr."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


class Screen:
    """Shows one session's frames. With `json` every frame is a line on stdout, as it came."""

    def __init__(self, *, json: bool) -> None:
        self.json = json
        self._terminal = sys.stdout.isatty()
        self._speech: dict[str, Speech] = {}  # of unfinished runs
        self._titles: dict[str, str] = {}

    def show(self, frame: Frame) -> None:
        if self.json:
            sys.stdout.buffer.write(frame.raw + b"\n")
            sys.stdout.buffer.flush()
            return
        match frame.type:
            case "session.delta" if frame.get("task") is None:
                speech = self._of(frame)
                self._say(speech.delta(str(frame["message"]), int(frame["offset"]), str(frame["text"])))
            case "session.receive":
                self._say(self._of(frame).receive(str(frame["message"]), str(frame["content"])))
            case "agent.plan":
                self._plan(frame)
            case "agent.status":
                self._status(frame)
            case "agent.progress":
                self._progress(frame)
            case "run.waiting":
                self._waiting(frame)
            case "run.completed" | "run.failed" | "run.cancelled":
                self._ended(frame)
            case "session.ack" if frame.get("reset"):
                self.note(f"the server came back with another history ({frame['reset']}); shown from what it has")
            case "session.ack":
                self.note("connected again")
            case "warning":
                self.note(f"warning: {frame.get('message')}")
            case "server.draining":
                self.note("the server is shutting down; what runs goes on when it is back")

    def note(self, text: str) -> None:
        """A line on stderr, on a line of its own even when an answer is half written."""
        if self.json:
            return
        if self._terminal and any(speech.open for speech in self._speech.values()):
            sys.stdout.write("\n")
            sys.stdout.flush()
        print(one_line(text), file=sys.stderr, flush=True)

    def _of(self, frame: Frame) -> Speech:
        return self._speech.setdefault(frame.run or "", Speech())

    def _say(self, text: str) -> None:
        if text:
            sys.stdout.write(visible(text) if self._terminal else text)
            sys.stdout.flush()

    def _plan(self, frame: Frame) -> None:
        tasks, gates = frame["tasks"], frame["gates"]
        self._titles |= {str(item["id"]): str(item["title"]) for item in (*tasks, *gates)}
        self.note(f"plan: {len(tasks)} task{'' if len(tasks) == 1 else 's'}" + (f", {len(gates)} gates" * bool(gates)))
        for task in tasks:
            after = f"  (after {', '.join(task['depends_on'])})" if task["depends_on"] else ""
            self.note(f"  {task['id']}  {task['title']}{after}")

    def _status(self, frame: Frame) -> None:
        task, word = str(frame["task"]), str(frame["status"])
        if task in RESERVED and word == "failed":
            return  # the end of the run says so
        cause = frame.get("cause")
        why = f": {cause['message']}" if cause else ""
        self.note(f"  {_MARKS.get(word, ' ')} {task}  {word}  {self._titles.get(task, '')}{why}")

    def _progress(self, frame: Frame) -> None:
        if frame["phase"] == "planner" and frame["status"] in ("saturated", "prolonged_saturation", "failed"):
            self.note(f"{frame['phase']} {frame['status']}: {frame['message']}")

    def _waiting(self, frame: Frame) -> None:
        self.note(f"waiting: {_message(frame.get('cause'))}")
        for gate in frame.get("gates") or ():
            self.note(f"  agentd ctl approve --session {frame['session']} --gate {gate}")
        for task in frame.get("questions") or ():
            self.note(f"  agentd ctl answer VALUE --session {frame['session']} --task {task}")

    def _ended(self, frame: Frame) -> None:
        self._say(self._speech.pop(frame.run or "", Speech()).broken_off())
        if frame.type == "run.failed":
            cause = frame.get("cause") or {}
            self.note(f"error: {_message(cause)} ({cause.get('kind') or cause.get('code')})")
            if cause.get("hint"):
                self.note(f"hint: {cause['hint']}")
        elif frame.type == "run.cancelled":
            self.note("cancelled")
        elif frame["counts"]["dropped"]:
            self.note(f"{frame['counts']['dropped']} tasks were dropped")


def _message(cause: Mapping[str, Any] | None) -> str:
    return str((cause or {}).get("message", "no reason given"))
