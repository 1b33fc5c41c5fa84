"""The result file: what is written is read again; what is none is said to be none."""

from pathlib import Path

import pytest

from agentd.bench import results
from agentd.bench.results import Breach, Latency, Machine, Point, Result, Scenario, Series


def a_result(*, breaches: list[Breach] | None = None) -> Result:
    point = Point(
        label="64 sessions", offered=500.0, achieved=499.2, latency=Latency(1000, 4.0, 3.5, 6.0, 9.0, 12.0, 20.0)
    )
    scenario = Scenario(
        name="chat", title="Turns with 20 deltas", unit="turn", points=[point], knee=900.0,
        series=[Series("goodput", "1/s", [0.0, 0.5], [490.0, 501.0])], breaches=breaches or [],
    )  # fmt: skip
    machine = Machine(cpu="a cpu", cores=2, memory_mb=16_000, kernel="6.1", python="3.11.9", server_cores=[0])
    return Result(
        machine=machine, versions={"websockets": "17.4"}, commit="abc", started_ts=1, seconds=2.0,
        command="agentd bench chat", settings={"seconds": 5}, scenarios=[scenario],
    )  # fmt: skip


def test_a_result_comes_back_from_its_file_and_from_its_folder(tmp_path: Path) -> None:
    results.write(a_result(), tmp_path / results.FILE)
    assert results.read(tmp_path / results.FILE) == a_result()
    assert results.read(tmp_path) == a_result()


def test_one_breach_in_one_scenario_spoils_the_result() -> None:
    assert a_result().ok
    assert not a_result(breaches=[Breach("ends", 1, ["run r ended twice"])]).ok


@pytest.mark.parametrize("text", ["", "{}", "[1]", "not json"])
def test_a_file_that_is_no_result_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(results.UnreadableResult, match="is no result of agentd bench"):
        results.read(path)


def test_a_missing_file_and_a_newer_format_are_told(tmp_path: Path) -> None:
    with pytest.raises(results.UnreadableResult, match="No such file"):
        results.read(tmp_path / "none.json")
    newer = a_result()
    newer.format = results.FORMAT + 1
    results.write(newer, tmp_path / "newer.json")
    with pytest.raises(results.UnreadableResult, match="newer agentd"):
        results.read(tmp_path / "newer.json")
