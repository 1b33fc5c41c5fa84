"""The floor is frozen: the copy that comes with agentd is the one of the repository."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_two_floors_are_the_same_but_for_their_opening() -> None:
    ours, frozen = (
        (ROOT / folder / "floor.py").read_text(encoding="utf-8").split('"""', 2)[2]
        for folder in ("agentd/bench", "bench")
    )
    assert ours == frozen
