"""Exporting, checking and replaying a long session, facts/s: `python -m bench.export [FACTS]`.

The session is made by the rules themselves (goals and chat turns, one after the other) and stored by the store; the
server that exports it is another process. Each export is counted and compared with what was stored; a breach ends the
bench with exit code 1. Wall time over the loopback, best and median of `ROUNDS`.
"""

import asyncio
import hashlib
import http.client
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from agentd.clock import SystemClock
from agentd.core import intents as i
from agentd.core.session import decide, due
from agentd.core.state import Session
from agentd.core.trace_lines import LineChecker
from agentd.protocol import facts as f
from agentd.protocol.codec import encode
from agentd.store.sqlite import SqliteStore
from agentd.store.store import Append, Record
from agentd.store.views import rows_of
from agentd.supervisor import Supervisor

FACTS = 100_000
ROUNDS = 7
APPENDS = 500
KEY = "long"
BY = f.By(principal="local", via="ws")
WORDS = "An answer of about the length that answers have, which is some two hundred characters in the middle. " * 2


class Maker:
    """A session that goes on from run to run; each step as an append."""

    def __init__(self) -> None:
        self.state = Session(key=KEY, agent="default", owner="local")
        self.now = 1_000
        self.runs = 0
        self.digest = hashlib.sha256()

    def step(self) -> Append:
        before, intent = self.state, self._next()
        self.now += 7
        busy = before.run.workers if before.run is not None else frozenset()
        free = tuple(number for number in range(1, 9) if number not in busy)
        decision = decide(before, intent, i.Given(now=self.now, workers=free, models=16))
        self.state = decision.state
        records = []
        for fact in decision.facts:
            body = encode(fact)
            self.digest.update(body)
            records.append(
                Record(fact.seq, before.seq + 1, fact.ts, str(fact.__struct_config__.tag), body, fact.run, fact.run_seq)
            )
        return Append(KEY, 1, tuple(records), tuple(rows_of(before, decision.facts, self.state, None)))

    def _next(self) -> i.AnyIntent:
        works = due(self.state)
        if not works:
            self.runs += 1
            kind: f.RunKind = "goal" if self.runs % 2 else "chat"
            return i.StartRun(by=BY, run=f"run_{self.runs:08}", kind=kind, content="do what has to be done")
        work = works[0]
        if work.task == "planning":
            tasks = tuple(
                f.PlanTask(id=f"t{n}", title=f"part {n}", kind="model", depends_on=(), status="pending")
                for n in range(1, 6)
            )
            return i.PlanProposed(by=BY, run=work.run, attempt=work.attempt, goal="g", tasks=tasks)
        return i.AttemptEnded(
            by=BY, run=work.run, task=work.task, attempt=work.attempt, step=work.step, outcome="done", result=WORDS,
            message_id="m",
        )  # fmt: skip


async def make(path: Path, facts: int) -> tuple[str, int]:
    """Store the session; digest and number of its facts."""
    clock, maker = SystemClock(), Maker()
    supervisor = Supervisor(clock, lambda reason: None)
    store = await SqliteStore.open(path, clock=clock, supervisor=supervisor, on_fatal=lambda reason: None)
    while maker.state.seq < facts or maker.state.runs:  # what is unfinished would go on in the server
        steps: list[Append] = []
        while len(steps) < APPENDS and (maker.state.seq < facts or maker.state.runs):
            steps.append(maker.step())
        await asyncio.gather(*map(store.append, steps))
    await store.close()
    await supervisor.stop(5)
    return maker.digest.hexdigest(), maker.state.seq


def download(url: str, token: str) -> tuple[float, bytes]:
    host, _, port = url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    begin = time.perf_counter()
    connection.request("GET", f"/v1/sessions/{KEY}/export", headers={"Authorization": f"Bearer {token}"})
    body = connection.getresponse().read()
    taken = time.perf_counter() - begin
    connection.close()
    return taken, body


def check(body: bytes, digest: str, facts: int) -> float:
    """Seconds of a check line by line; the bodies are those that were stored."""
    found = hashlib.sha256()
    lines = body.splitlines(keepends=True)
    for line in lines[1:]:
        found.update(line[line.index(b',"fact":') + 8 : -2])
    assert len(lines) - 1 == facts, f"{len(lines) - 1} lines of {facts}, {body[-200:]!r}"
    assert found.hexdigest() == digest, "the export is not what was stored"
    begin = time.perf_counter()
    checker = LineChecker()
    problems = [problem for line in lines for problem in checker.feed(line)] + checker.finish()
    assert not problems, problems[0]
    return time.perf_counter() - begin


def verify(path: Path) -> float:
    """Seconds of `agentd replay FILE --verify`, start of the process included."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "agentd", "replay", str(path), "--verify"], check=True, capture_output=True, text=True
    )
    taken = time.perf_counter() - begin
    assert done.stdout.startswith("the same: "), done.stdout
    return taken


def told(name: str, facts: int, seconds: list[float]) -> None:
    best, median = min(seconds), statistics.median(seconds)
    print(f"{name:34} {facts / median:10,.0f} facts/s (best {facts / best:,.0f}), {median * 1000:6.0f} ms")


def main() -> None:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else FACTS
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        digest, facts = asyncio.run(make(state / "agentd.db", wanted))
        command = [sys.executable, "-m", "agentd"]
        server = subprocess.Popen(
            [*command, "serve", "--port", "0", "--state-dir", folder], stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            token = (state / "token").read_text().strip()
            wires, commands, checks, verified = [], [], [], []
            for _ in range(ROUNDS):
                taken, body = download(url, token)
                wires.append(taken)
                checks.append(check(body, digest, facts))
                begin = time.perf_counter()
                out = state / "out.ndjson"
                subprocess.run([*command, "export", KEY, "--state-dir", folder, "--out", str(out)], check=True,
                               capture_output=True, env={**os.environ, "AGENTD_URL": url})  # fmt: skip
                commands.append(time.perf_counter() - begin)
                assert out.stat().st_size == len(body), "the command wrote something else"
                verified.append(verify(out))
        finally:
            server.terminate()
            server.wait(15)
    print(f"{facts:,} facts, {len(body) / 1e6:.1f} MB, {len(body) / facts:.0f} bytes a line")
    told("over HTTP", facts, wires)
    told("agentd export --out, as a process", facts, commands)
    told("check, line by line", facts, checks)
    told("agentd replay --verify, a process", facts, verified)


if __name__ == "__main__":
    main()
