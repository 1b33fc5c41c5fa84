"""Faults that are put into the real code, and nowhere else: each is found by its law, within a few seeds.

A simulation that never finds anything proves nothing. `README.md` tells which seed found which. That seed is played
first; where the story has changed since, others follow.
"""

import itertools

import pytest

from tests.simulation.planted import FOUND_BEFORE, PLANTED
from tests.simulation.story import Broken, run, shortest

SEEDS_MAX = 150
ALL = {**PLANTED, **FOUND_BEFORE}


@pytest.mark.parametrize("name", ALL)
def test_a_planted_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = ALL[name]
    fault.plant(monkeypatch)
    broken = first_broken(fault.seed)
    assert broken is not None, f"{SEEDS_MAX} seeds did not find it"
    assert broken.name in fault.laws, broken


def test_a_failing_seed_is_told_with_fewer_acts_and_fails_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ALL["cap_off_by_one"].plant(monkeypatch)
    broken = first_broken(0)
    assert broken is not None
    short = shortest(broken)
    assert short.acts < broken.acts
    assert f"AGENTD_SEED={short.seed} AGENTD_ACTS={short.acts} python -m pytest" in str(short)
    with pytest.raises(Broken) as again:
        run(short.seed, short.acts)
    assert str(again.value) == str(short)
    run(short.seed, short.acts - 1)


def first_broken(known: int) -> Broken | None:
    for seed in itertools.chain([known], range(SEEDS_MAX)):
        try:
            run(seed)
        except Broken as broken:
            return broken
    return None
