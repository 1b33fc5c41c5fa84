"""What a session costs that does nothing: memory for each socket, then for each session that has had one turn.

Resident memory is read before the sockets, with the sockets open, and after each session has had its turn; what
Python's allocator keeps is in the figures, as it is in an operator's.
"""

import msgspec

from agentd.bench.child import Server
from agentd.bench.results import Scenario
from agentd.bench.sampling import usage
from agentd.bench.schedule import Segment
from agentd.bench.stage import Stage, goal

NAME = "idle"
TITLE = "Idle sessions: memory of each"
UNIT = "turn"
COUNT = 2_000
COUNT_QUICK = 400
TURNS_PER_S = 400.0
STILL_S = 2.0
IDLE_GOAL_KIB = 12.0
RESIDENT_GOAL_MB = 60.0
START_GOAL_S = 0.6
GC_GOAL_MS = 10.0


async def run(stage: Stage) -> Scenario:
    count = COUNT_QUICK if stage.options.quick else COUNT
    found = Scenario(name=NAME, title=TITLE, unit=UNIT, settings={"sessions": count})
    async with stage.server() as server:
        if server.pid is None:
            found.notes.append("memory is read from /proc: this needs a server that the bench started itself")
            return found
        await _warm(stage, server)
        empty_mb = usage(server.pid)[1]
        segments = [
            Segment(STILL_S, 0.0, "sockets only"),
            Segment(count / TURNS_PER_S, TURNS_PER_S, "a turn each"),
            Segment(STILL_S, 0.0, "after a turn each"),
        ]
        job = msgspec.structs.replace(stage.job(server, segments, sessions=count), how="constant")
        measured = await stage.measure(server, job, f"{count} sessions")
    found.points, found.series = measured.points, measured.series()
    sockets_mb, after_mb = measured.windows[0].last.rss_mb, measured.windows[2].last.rss_mb
    socket_kib, session_kib = ((mb - empty_mb) * 1024 / count for mb in (sockets_mb, after_mb))
    found.figures = {
        "resident_empty_mb": round(empty_mb, 1),
        "socket_kib": round(socket_kib, 2),
        "session_with_socket_kib": round(session_kib, 2),
        "sessions_per_gib": round(2**20 / session_kib) if session_kib > 0 else 0.0,
        "start_s": round(server.started_s, 3),
    }
    found.goals = [
        goal("idle session with its socket, KiB", IDLE_GOAL_KIB, session_kib, "KiB"),
        goal("resident idle, MB", RESIDENT_GOAL_MB, empty_mb, "MB"),
        goal("start, s", START_GOAL_S, server.started_s, "s"),
        goal("longest collection, ms", GC_GOAL_MS, max(point.gc_pause_max_ms for point in found.points), "ms"),
    ]
    return found


async def _warm(stage: Stage, server: Server) -> None:
    """What is loaded with the first turns belongs to no session."""
    job = stage.job(server, [Segment(0.5, 100.0, "warm")], sessions=8)
    await stage.measure(server, job, "warm-up")
