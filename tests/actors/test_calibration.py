"""Bytes per token, learned from what a provider reports; odd reports change little (issue 4)."""

from msgspec.structs import replace

from agentd.actors.calibration import BYTES_PER_TOKEN, LEAST, MODELS_MAX, MOST, Calibration
from agentd.settings import Limits, Settings
from tests.actors.rig import Rig


def test_reports_move_the_estimate_slowly_and_within_bounds() -> None:
    calibration = Calibration()
    assert calibration.bytes_per_token("m") == BYTES_PER_TOKEN
    calibration.learn("m", 2_000, 1_000)
    assert 3.5 < calibration.bytes_per_token("m") < BYTES_PER_TOKEN
    for _ in range(100):
        calibration.learn("m", 2_000, 1_000)
    assert abs(calibration.bytes_per_token("m") - 2.0) < 0.01
    for _ in range(200):
        calibration.learn("low", 1, 1_000)
        calibration.learn("high", 1 << 30, 1_000)
    assert calibration.bytes_per_token("low") >= LEAST
    assert calibration.bytes_per_token("high") <= MOST


def test_short_prompts_and_too_many_models_are_passed_over() -> None:
    calibration = Calibration()
    calibration.learn("m", 10, 5)
    calibration.learn(None, 1_000, 500)
    for number in range(MODELS_MAX + 10):
        calibration.learn(f"m{number}", 1_000, 500)
    assert calibration.bytes_per_token("m") == BYTES_PER_TOKEN
    assert calibration.bytes_per_token(f"m{MODELS_MAX + 5}") == BYTES_PER_TOKEN


async def test_the_budget_of_working_memory_follows_the_model_s_tokens() -> None:
    rig = Rig(lambda request: "done", Settings(limits=Limits(ram_tokens=5_000)))
    assert rig.shared.caps_now().ram_bytes == 20_000
    for _ in range(200):
        rig.shared.calibration.learn(rig.model.model, 2_000, 1_000)
    assert 9_900 < rig.shared.caps_now().ram_bytes < 10_100
    free = replace(rig.settings, limits=Limits(ram_tokens=0))
    other = Rig(lambda request: "done", free)
    assert other.shared.caps_now() is other.shared.caps
    await rig.end()
    await other.end()
