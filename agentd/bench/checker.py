"""Did the work happen: the laws that every stream of a socket obeys, and the name of each breach. Pure.

A `StreamChecker` is fed with what one socket sent (`sent`) and saw (`feed`), in order, and keeps only what is open, so
that a soak is checked in bounded memory. It shares no rule with the server: it counts again from the frames alone.
Several of them write into one `Found`. `finish` tells what is missing once nothing more will come.
"""

from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from agentd.bench.frames import ENDS, Counts, Figures, Frame, decode
from agentd.bench.results import Breach

LAWS = {
    "seq-missing": "the facts of a session are numbered without gaps",
    "seq-repeated": "no fact comes twice, none goes back",
    "run-seq": "the facts of a run are numbered 1, 2, 3…",
    "ended-twice": "a run ends exactly once",
    "never-ended": "a run that was accepted ends",
    "fact-after-end": "nothing belongs to a run after its end",
    "run-failed": "under load runs are refused or done, they do not fail",
    "figures-law": "total = pending + queued + active + settled + dropped, none below 0",
    "figures-limit": "what is queued or active stays within the limits told beside it",
    "figures-plan": "the figures of a run count the tasks of its plan",
    "counts": "the end of a run counts its tasks as their statuses did",
    "reply-cut": "deltas add up to the words of the reply",
    "reply-words": "the reply has as many words as the request asked for",
    "reply-missing": "a completed run has said something",
    "unanswered": "every request is answered",
    "answered-twice": "no request is answered twice",
    "answer-unasked": "no answer without a request",
    "refused-has-facts": "a refused request leaves nothing",
    "run-unasked": "no run that nobody asked for",
    "error": "no error but a refusal for load",
    "unreadable": "every frame is read as documented",
    "connection-lost": "no socket is closed by the server",
    "server-counts": "the server's own counters say what the clients saw",
}
EXAMPLES_MAX = 5
ENDED_KEPT = 4_096
LOAD_CODES = ("overloaded",)


class Found:
    """Breaches by name: how many, and the first few in words."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}

    def add(self, name: str, what: str, count: int = 1) -> None:
        assert name in LAWS, name
        self.counts[name] = self.counts.get(name, 0) + count
        kept = self.examples.setdefault(name, [])
        if len(kept) < EXAMPLES_MAX:
            kept.append(what)

    def merge(self, breaches: Iterable[Breach]) -> None:
        for breach in breaches:
            self.add(breach.name, breach.examples[0] if breach.examples else "", breach.count)
            kept = self.examples[breach.name]
            kept.extend(breach.examples[1 : 1 + EXAMPLES_MAX - len(kept)])

    def breaches(self) -> list[Breach]:
        return [Breach(name, count, self.examples[name]) for name, count in sorted(self.counts.items())]


class Request(msgspec.Struct, gc=False):
    """A request on its way. `content` of one that starts a run; `words` that its reply has to have."""

    content: str | None = None
    words: int | None = None


class _Run(msgspec.Struct):
    run_seq: int = 0
    accepted: bool = False
    late: bool = False
    """It began before this socket was there: its first facts were not seen."""
    words: int | None = None
    said: int = 0
    tasks: set[str] | None = None
    statuses: dict[str, str] = {}
    admitted: set[str] = set()
    plain: bool = True
    """All tasks are admitted to workers: no join, switch, question or delay."""


class _Message(msgspec.Struct):
    length: int = 0
    parts: list[tuple[int, str]] = []
    whole: bool = True


class StreamChecker:
    """One socket. `after`: the cursor with which it resumed, None when it follows from the greeting's number.
    `alone`: nobody else asks in this session, so every run of it has to be one of ours."""

    def __init__(self, found: Found, name: str, *, after: int | None = None, alone: bool = True) -> None:
        self.facts = 0
        self.seq = after
        self.lagged = 0
        self._found = found
        self._name = name
        self._alone = alone
        self._resumed = after is not None
        self._replaying_to = 0
        self._asked: dict[str, Request] = {}
        self._answered: deque[str] = deque(maxlen=ENDED_KEPT)
        self._by_content: dict[str, Request] = {}
        self._refused: set[str] = set()
        self._runs: dict[str, _Run] = {}
        self._ended: dict[str, None] = {}
        self._messages: dict[str, _Message] = {}

    @property
    def open_runs(self) -> int:
        return len(self._runs)

    def sent(self, request: str, asked: Request) -> None:
        """A request left for the server. Contents that start runs have to differ within a session."""
        self._asked[request] = asked
        if asked.content is not None:
            self._by_content[asked.content] = asked

    def feed(self, frame: Frame) -> None:
        """The next frame of the server."""
        if frame.type == "session.ack":
            return self._greeted(frame)
        if frame.request is not None:
            self._reply(frame)
        if frame.is_fact:
            self._fact(frame)
        elif frame.type == "session.delta":
            self._delta(frame)
        elif frame.type == "stream.lagged":
            self.lagged += 1
        elif frame.type == "error" and frame.request is None:
            self._say("error", f"{frame.code}: {frame.message}")
        if frame.backpressure is not None:
            self._figures(frame.backpressure, frame)

    def unreadable(self, what: str) -> None:
        self._say("unreadable", what)

    def lost(self, why: str) -> None:
        """The connection ended, and not by us."""
        self._say("connection-lost", why)

    def finish(self) -> None:
        """Nothing more will come."""
        for request in self._asked:
            self._say("unanswered", f"request {request}")
        for name, run in self._runs.items():
            if run.accepted or run.late:
                self._say("never-ended", f"run {name}, after {run.run_seq} facts")

    def _say(self, name: str, what: str) -> None:
        self._found.add(name, f"{what} (socket {self._name})")

    # ---- replies ----------------------------------------------------------------------------------------------------

    def _greeted(self, frame: Frame) -> None:
        self._replaying_to = frame.seq or 0
        if self.seq is None:
            self.seq = frame.seq

    def _reply(self, frame: Frame) -> None:
        request = frame.request or ""
        asked = self._asked.pop(request, None)
        if asked is None:
            law = "answered-twice" if request in self._answered else "answer-unasked"
            return self._say(law, f"{frame.type} for request {request}")
        self._answered.append(request)
        if frame.type != "error":
            return
        if frame.code not in LOAD_CODES:
            self._say("error", f"{frame.code}: {frame.message}, for request {request}")
        if asked.content is not None:
            self._by_content.pop(asked.content, None)
            self._refused.add(asked.content)
        if frame.details is not None and frame.details.backpressure is not None:
            self._figures(frame.details.backpressure, frame)

    # ---- numbers ----------------------------------------------------------------------------------------------------

    def _fact(self, frame: Frame) -> None:
        seq = frame.seq or 0
        last, self.seq = self.seq, seq
        self.facts += 1
        if last is not None and seq > last + 1:
            self._say("seq-missing", f"seq {seq} after {last}: {seq - last - 1} missing")
        elif last is not None and seq <= last:
            self._say("seq-repeated", f"seq {seq} after {last}")
            self.seq = last
        if frame.run is not None:
            self._of_run(frame, frame.run)

    def _of_run(self, frame: Frame, name: str) -> None:
        if name in self._ended:
            law = "ended-twice" if frame.type in ENDS else "fact-after-end"
            return self._say(law, f"{frame.type} of run {name} at seq {frame.seq}")
        run = self._runs.get(name)
        if run is None:
            run = self._runs[name] = self._new_run(frame, name)
        elif frame.run_seq != run.run_seq + 1:
            self._say("run-seq", f"{frame.run_seq} after {run.run_seq} in run {name}")
        run.run_seq = frame.run_seq or run.run_seq + 1
        if frame.type == "run.accepted":
            self._accepted(frame, run)
        elif frame.type == "session.receive":
            self._received(frame, run)
        elif frame.type == "agent.plan":
            run.tasks = {task.id for task in frame.tasks}
            run.plain = all(task.kind in ("model", "tool") for task in frame.tasks)
        elif frame.type == "agent.status" and frame.task is not None and frame.status is not None:
            run.statuses[frame.task] = frame.status
        run.admitted.update(frame.admitted)
        if frame.type in ENDS:
            self._end(frame, name, run)

    def _new_run(self, frame: Frame, name: str) -> _Run:
        run = _Run(late=frame.run_seq != 1)
        if run.late and (self._alone and not self._resumed):
            self._say("run-seq", f"run {name} begins with {frame.run_seq}")
        return run

    def _accepted(self, frame: Frame, run: _Run) -> None:
        run.accepted = True
        content = frame.content or ""
        asked = self._by_content.pop(content, None)
        if asked is not None:
            run.words = asked.words
        elif content in self._refused:
            self._say("refused-has-facts", f"run {frame.run}: {content!r} was refused and accepted")
        elif self._alone and not self._resumed:
            self._say("run-unasked", f"run {frame.run}: {content!r}")

    # ---- the end ----------------------------------------------------------------------------------------------------

    def _end(self, frame: Frame, name: str, run: _Run) -> None:
        del self._runs[name]
        self._ended[name] = None
        if len(self._ended) > ENDED_KEPT:
            del self._ended[next(iter(self._ended))]
        for message in [key for key in self._messages if key.startswith(name)]:
            del self._messages[message]
        if frame.type == "run.failed":
            self._say("run-failed", f"run {name}: {frame.cause.code if frame.cause else 'no cause'}")
        if frame.type == "run.completed" and not run.said and not run.late:
            self._say("reply-missing", f"run {name} completed without a word")
        if frame.counts is not None and not run.late:
            self._counts(frame.counts, name, run)

    def _counts(self, counts: Counts, name: str, run: _Run) -> None:
        tasks = run.tasks or set()
        tally = {word: 0 for word in ("done", "failed", "cancelled", "skipped", "dropped")}
        for task in tasks:
            status = run.statuses.get(task)
            if status in tally:
                tally[status] += 1
        told = {word: getattr(counts, word) for word in tally}
        if counts.total != len(tasks) or told != tally:
            self._say("counts", f"run {name} tells {counts.total} tasks, {told}; seen were {len(tasks)}, {tally}")

    # ---- figures ----------------------------------------------------------------------------------------------------

    def _figures(self, found: Figures, frame: Frame) -> None:
        parts = (found.pending, found.queued, found.active, found.settled, found.dropped)
        where = f"{frame.type} {frame.phase or ''} of run {frame.run} at seq {frame.seq}"
        if found.total != sum(parts) or min(parts) < 0:
            self._say("figures-law", f"total {found.total} of {parts} in {where}")
        if found.dropped != len(found.dropped_ids):
            self._say("figures-law", f"dropped {found.dropped} of {len(found.dropped_ids)} names in {where}")
        limit, held = found.limit, found.queued + found.active
        if found.active > limit.workers or (found.scope == "run" and held > limit.dispatch):
            self._say("figures-limit", f"active {found.active}, queued {found.queued} in {where}")
        if found.scope != "run" and found.queued > (limit.session if found.scope == "session" else limit.server):
            self._say("figures-limit", f"queued {found.queued} in {where}")
        run = self._runs.get(frame.run or "")
        if found.scope == "run" and run is not None and frame.is_fact and not run.late:
            self._planned(found, run, where, ended=frame.phase == "execution")

    def _planned(self, found: Figures, run: _Run, where: str, *, ended: bool) -> None:
        tasks = len(run.tasks or ())
        if found.total != tasks:
            self._say("figures-plan", f"total {found.total} of a plan of {tasks} tasks in {where}")
        elif ended and (found.settled + found.dropped != tasks):
            self._say("figures-plan", f"settled {found.settled} of {tasks} at the end in {where}")
        elif run.plain and found.accepted != len(run.admitted) and (ended or found.accepted < len(run.admitted)):
            self._say("figures-plan", f"accepted {found.accepted}, admitted were {len(run.admitted)} in {where}")

    # ---- words ------------------------------------------------------------------------------------------------------

    def _delta(self, frame: Frame) -> None:
        if frame.message is None or frame.offset is None or frame.text is None:
            return self._say("unreadable", "a delta without message, offset or text")
        message = self._messages.get(frame.message)
        if message is None or frame.offset == 0:
            message = self._messages[frame.message] = _Message()
        if frame.offset != message.length:
            message.whole = False
            if not self.lagged:
                self._say("reply-cut", f"a delta at {frame.offset} after {message.length} in {frame.message}")
        message.parts.append((frame.offset, frame.text))
        message.length = frame.offset + len(frame.text)

    def _received(self, frame: Frame, run: _Run) -> None:
        content = frame.content or ""
        run.said += 1
        shown = self._messages.pop(frame.message or "", None)
        if shown is not None:
            wrong = any(content[offset : offset + len(text)] != text for offset, text in shown.parts)
            if wrong or (shown.length != len(content) and not self.lagged):
                self._say("reply-cut", f"{shown.length} of {len(content)} characters of {frame.message} were shown")
        elif content and not self.lagged and (frame.seq or 0) > self._replaying_to and not self._resumed:
            self._say("reply-cut", f"nothing of {frame.message} was shown")
        complete = frame.finish_reason == "stop"
        if run.words is not None and complete and len(content.split()) != run.words:
            self._say("reply-words", f"{len(content.split())} words of {run.words} in {frame.message}")


def check(
    received: Sequence[bytes | str], sent: Sequence[tuple[str, Request]] = (), *, after: int | None = None
) -> list[Breach]:
    """The breaches of one recorded stream: what a socket received, in order, and what had been sent on it."""
    found = Found()
    checker = StreamChecker(found, "recorded", after=after)
    for request, asked in sent:
        checker.sent(request, asked)
    for data in received:
        try:
            frame = decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            checker.unreadable(str(error))
            continue
        checker.feed(frame)
    checker.finish()
    return found.breaches()
