"""`agentd replay`: a session as it was at any of its facts; with --verify the rules decide again on all of it.

What is read is an export, from a file or from the server, line by line and once; nothing is written anywhere. It judges
with the rules of this version: a difference is a change of the rules that would rewrite history, or a spoiled log.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import msgspec
from cyclopts import Parameter

from agentd.cli.address import NOWHERE, Where, find
from agentd.cli.chat import Json
from agentd.cli.download import BrokenOff, opened
from agentd.cli.failure import DONE, FAILED, NOT_FOUND, USAGE, Failure
from agentd.cli.screen import one_line, print_json
from agentd.core.evolve import evolve
from agentd.core.export import LINE_BYTES_MAX, Header, Reader, Spoiled, Stored, is_export
from agentd.core.lifecycle import IllegalMove
from agentd.core.replay import Difference, Replay, Unreadable, begins_command
from agentd.core.schedule import blocked_by
from agentd.core.server import KEY as SERVER
from agentd.core.state import Run, Session
from agentd.protocol import facts as f

Lines = Iterator[bytes]


class _Read:
    """The facts of an export up to `until` or the end of `run`, or to the end of the command that these are in when
    `whole` ones are wanted; the header is read at once."""

    def __init__(self, lines: Lines, run: str | None, until: int | None, *, whole: bool) -> None:
        self._lines = lines
        self._run = run
        self._until = until
        self._whole = whole
        self._reader = Reader()
        first = next(lines, b"")
        if first and not is_export(first) and first.startswith(b'{"type":"run.accepted"'):
            raise Failure(
                "this is the trace of a run, and replay needs its session from the start",
                "Use `agentd export SESSION`; `agentd trace FILE --check` judges a trace.", code=USAGE,
            )  # fmt: skip
        self.header: Header = self._reader.header(first)
        self.met = False
        if self.header.session == SERVER:
            raise Failure(f"{SERVER} tells what happened to the server; no rules decide on it", code=USAGE)

    def behind(self, replay: Replay) -> Iterator[Stored]:
        """The facts; a snapshot before them goes to `replay`."""
        last = False
        for line in self._lines:
            stored = self._reader.fact(line)
            if stored is None:
                snapshot = self._reader.snapshot
                assert snapshot is not None
                replay.begin_from(snapshot.seq, snapshot.version, bytes(snapshot.state))
                continue
            fact = stored.fact
            last = last or (self._until is not None and fact.seq > self._until)
            if last and (not self._whole or begins_command(stored.step, fact)):
                return
            if self._run is not None and fact.run == self._run:
                self.met = True
                last = last or isinstance(fact, f.RUN_ENDS)
            yield stored
        self._reader.end()


def replay(
    source: Annotated[str, Parameter(help="The session; or a file that `agentd export` wrote, such as /dev/stdin.")],
    /,
    *,
    verify: Annotated[
        bool, Parameter(negative="", help="Have the rules decide again and compare; exit 1 at the first difference.")
    ] = False,
    run: Annotated[str | None, Parameter(help="Go up to the end of this run.")] = None,
    until: Annotated[int | None, Parameter(help="Go up to the fact with this seq.")] = None,
    json: Json = False,
    where: Where = NOWHERE,
) -> int:
    """Show a session as it was at a fact, or verify that its rules lead to its facts."""
    if until is not None and until < 1:
        raise Failure("--until is the seq of a fact, from 1", code=USAGE)
    path = Path(source)
    try:
        if path.exists() and not path.is_dir():
            with path.open("rb") as file:
                return _played(_lines_of(file.readline), run, until, verify=verify, json=json)
        with opened(find(where, os.environ), f"/v1/sessions/{quote(source, safe='')}/export") as response:
            return _played(_lines_of(response.readline), run, until, verify=verify, json=json)
    except BrokenOff as error:
        raise Failure(f"the export broke off: {error}", "Ask again.") from error
    except OSError as error:
        raise Failure(f"{source} can't be read: {error.strerror}", "Name a file, or a session.", code=USAGE) from error
    except Spoiled as error:
        raise Failure(f"{source} is spoiled: {one_line(error)}", "Export the session again.") from error
    except Unreadable as error:
        raise Failure(f"{source} can't be replayed: {one_line(error)}") from error


def _played(lines: Lines, run: str | None, until: int | None, *, verify: bool, json: bool) -> int:
    read = _Read(lines, run, until, whole=verify)
    again = Replay(read.header.session, read.header.caps)
    wrong = None
    if verify:
        wrong = _verified(read, again)
    else:
        _follow(read, again)
    if run is not None and not read.met and wrong is None:
        raise Failure(f"no run {run} in session {read.header.session}", code=NOT_FOUND)
    if verify:
        _tell(again, wrong, json=json)
    else:
        _show(again.state, read.header, json=json)
    return DONE if wrong is None else FAILED


def _verified(read: _Read, again: Replay) -> Difference | None:
    for stored in read.behind(again):
        if (wrong := again.feed(stored.step, stored.fact)) is not None:
            return wrong
    return again.finish()


def _follow(read: _Read, again: Replay) -> None:
    """By what is stored alone. Raises Failure when a fact may not follow."""
    for stored in read.behind(again):
        if stored.fact.seq > again.state.seq:
            try:
                again.state = evolve(again.state, stored.fact)
            except (IllegalMove, KeyError) as error:
                raise Failure(f"a fact may not follow: {one_line(error)}", "--verify says more.") from error


# ---- what is said -----------------------------------------------------------------------------------------------


def _tell(again: Replay, wrong: Difference | None, *, json: bool) -> None:
    figures = {
        "session": again.state.key, "seq": again.state.seq, "facts": again.facts, "commands": again.commands,
        "unjudged": again.unjudged, "assumed": again.assumed,
    }  # fmt: skip
    if json:
        print_json({"same": wrong is None, **figures, "difference": msgspec.to_builtins(wrong)})
        return
    if wrong is None:
        print(f"the same: {again.facts} facts of {again.commands} commands" + _reserves(again))
        return
    fields = f" ({', '.join(wrong.fields)})" if wrong.fields else ""
    print(f"not the same: seq {wrong.seq}, in the step from seq {wrong.step}: {one_line(wrong.why)}{fields}")
    print(f"  the log:   {_shown(wrong.told)}")
    print(f"  the rules: {_shown(wrong.again)}")


def _reserves(again: Replay) -> str:
    said = ""
    if again.unjudged:
        said += f"; {again.unjudged} could not be judged, because words that they rest on are gone"
    if again.assumed:
        said += f"; {again.assumed} do not say under which limits they were made, those of the export were taken"
    return said


def _shown(fact: f.AnyFact | None) -> str:
    return "nothing" if fact is None else one_line(msgspec.json.encode(fact).decode())


def _show(state: Session, header: Header, *, json: bool) -> None:
    if json:
        print_json(msgspec.to_builtins(state))
        return
    print(f"{state.key} at seq {state.seq} of {header.seq}: {state.mode}, epoch {state.epoch}, leaf {state.leaf}")
    print(f"working memory: {len(state.window)} entries, {state.window_bytes} bytes, {len(state.summaries)} summaries")
    for run in state.runs.values():
        _show_run(run, header, paused=state.mode == "paused")


def _show_run(run: Run, header: Header, *, paused: bool) -> None:
    print(f"{run.id}  {run.kind}  {run.state}  {one_line(run.goal or run.content)[:80]}")
    for name, task in run.tasks.items():
        why = ", ".join(one.id or one.kind for one in blocked_by(run, task, paused, header.caps.dispatch))
        attempt = f"  attempt {task.attempt}" if task.attempt else ""
        print(f"  {name}  {task.status}{attempt}" + (f"  waits for {why}" if why else ""))
    for name, gate in run.gates.items():
        print(f"  {name}  gate {gate.status}")


def _lines_of(readline: Callable[[int], bytes]) -> Lines:
    """Lines, of which none is longer than one byte more than may be."""
    while line := readline(LINE_BYTES_MAX + 1):
        yield line
