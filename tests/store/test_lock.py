"""One process per state directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentd.store.errors import StoreError
from agentd.store.lock import StateLock, owner_of


def test_a_lock_names_its_owner_and_comes_back(tmp_path: Path) -> None:
    assert owner_of(tmp_path) is None
    lock = StateLock.acquire(tmp_path)
    assert owner_of(tmp_path) == os.getpid()
    with pytest.raises(StoreError, match=f"process {os.getpid()}"):
        StateLock.acquire(tmp_path)
    lock.release()
    lock.release()
    assert owner_of(tmp_path) is None
    StateLock.acquire(tmp_path).release()


def test_a_killed_owner_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from agentd.store.lock import StateLock;"
        "lock = StateLock.acquire(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=f"process {child.pid}"):
            StateLock.acquire(tmp_path)
        child.kill()
        child.wait()
    StateLock.acquire(tmp_path).release()


def test_a_lock_is_not_inherited_by_programs_that_are_started(tmp_path: Path) -> None:
    lock = StateLock.acquire(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True) as child:
        lock.release()
        StateLock.acquire(tmp_path).release()
        child.communicate("\n")
