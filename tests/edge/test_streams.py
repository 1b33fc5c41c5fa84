"""The sweep over the streams: pings for the quiet, an end for who reads nothing, mercy after a sleep of the process."""

from agentd.clock import Clock
from agentd.edge.keepalive import SLICE
from agentd.edge.sse import EventStream
from agentd.edge.streams import PING_S, STALLED_S, SWEEP_S, Streams
from agentd.supervisor import Supervisor
from tests.edge.rig import ManualClock, settle


class Probe(EventStream):
    """A stream without a connection: what the sweep does to it is written down."""

    def __init__(self, clock: Clock) -> None:
        self.moved_s = clock.monotonic_s()
        self.backlog = 0
        self.bytes_left = 0
        self.told: list[str] = []

    def unread(self) -> int:
        return self.bytes_left

    def ping(self) -> None:
        self.told.append("ping")

    def abort(self) -> None:
        self.told.append("abort")

    def end(self) -> None:
        self.told.append("end")


class Sweep:
    """Streams on a clock that the test moves."""

    def __init__(self, count: int = 1) -> None:
        self.clock = ManualClock()
        self.supervisor = Supervisor(self.clock, lambda reason: None)
        self.streams = Streams(self.clock, self.supervisor, streams=10, outbox_bytes=100, outbox_frames=10)
        self.probes = [Probe(self.clock) for _ in range(count)]
        self.streams.open.update(self.probes)

    @property
    def told(self) -> list[str]:
        return self.probes[0].told


async def test_a_quiet_stream_hears_a_ping_in_time_and_a_busy_one_none() -> None:
    sweep = Sweep(2)
    quiet, busy = sweep.probes
    for _ in range(int(PING_S / SWEEP_S)):
        sweep.clock.now_s += SWEEP_S
        busy.moved_s = sweep.clock.now_s
        await sweep.streams.sweep()
    assert quiet.told
    assert busy.told == []


async def test_who_reads_nothing_is_cut_off_and_who_reads_slowly_is_not() -> None:
    sweep = Sweep(2)
    deaf, slow = sweep.probes
    deaf.bytes_left, slow.bytes_left = 1000, 100_000
    for _ in range(int(2 * STALLED_S / SWEEP_S)):
        sweep.clock.now_s += SWEEP_S
        slow.bytes_left -= 10
        await sweep.streams.sweep()
    assert set(deaf.told) == {"abort"}
    assert slow.told == []
    assert sweep.streams.stalled >= 1


async def test_a_sweep_that_comes_late_judges_nobody() -> None:
    sweep = Sweep()
    sweep.probes[0].bytes_left = 1000
    await sweep.streams.sweep()
    sweep.clock.now_s += 10 * STALLED_S
    await sweep.streams.sweep(late=True)
    assert sweep.told == []
    sweep.clock.now_s += STALLED_S
    await sweep.streams.sweep()
    assert sweep.told == ["abort"]


async def test_it_sweeps_for_ever_in_slices_and_notices_that_the_process_slept() -> None:
    sweep = Sweep(SLICE + 1)
    task = sweep.supervisor.start("sweep", sweep.streams.run())
    await settle()
    for _ in range(3):
        await sweep.clock.advance(SWEEP_S)
        await sweep.clock.advance(0)
    assert all(probe.told for probe in sweep.probes)
    task.cancel()
    await settle()
    assert task.cancelled()


async def test_all_streams_are_ended_when_the_server_goes() -> None:
    sweep = Sweep(3)
    assert len(sweep.streams) == 3
    sweep.streams.end()
    assert [probe.told for probe in sweep.probes] == [["end"]] * 3
