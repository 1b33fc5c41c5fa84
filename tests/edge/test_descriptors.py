"""Enough descriptors are asked for at the start; running out of them is told once, and so is its end."""

import os
import resource

import pytest
import structlog

from agentd.edge.descriptors import SPARE, DescriptorWatch, raise_limit

Limit = tuple[int, int]


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> list[Limit]:
    """The process's limit: a list whose last item counts."""
    limits: list[Limit] = [(1_024, 4_096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
    return limits


def test_the_limit_is_raised_to_what_the_sockets_need_and_never_lowered(limit: list[Limit]) -> None:
    raise_limit(2_000)
    assert limit[-1] == (2_000 + SPARE, 4_096)
    raise_limit(100)
    assert limit[-1] == (2_000 + SPARE, 4_096)
    limit.append((resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    raise_limit(10_000)
    assert len(limit) == 3


def test_a_system_that_allows_fewer_is_told(limit: list[Limit]) -> None:
    with structlog.testing.capture_logs() as captured:
        raise_limit(10_000)
    assert limit[-1] == (4_096, 4_096)
    assert [(line["event"], line["allowed"], line["wanted"]) for line in captured] == [
        ("descriptors.few", 4_096, 10_000 + SPARE)
    ]


def test_running_out_is_told_once_and_so_is_the_end_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = DescriptorWatch()

    def none(_: int) -> int:
        raise OSError(24, "Too many open files")

    dup = os.dup
    with structlog.testing.capture_logs() as captured:
        watch.look(1)
        monkeypatch.setattr(os, "dup", none)
        watch.look(1)
        watch.look(1)
        monkeypatch.setattr(os, "dup", dup)
        watch.look(1)
        watch.look(1)
    assert [line["event"] for line in captured] == ["descriptors.none_left", "descriptors.again"]
