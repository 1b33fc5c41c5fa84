"""Words for a run that goes on: steer before its next model step, follow_up after its answer (rulings 15)."""

from agentd.core.draft import Draft
from agentd.core.memory import held
from agentd.core.state import Input
from agentd.protocol import facts as f


def place_inputs(draft: Draft, name: str, mode: f.InputMode) -> int:
    """Waiting inputs of that mode become entries before the next model step: all of them, or the first."""
    caps = draft.given.caps
    every = caps.steer_all if mode == "steer" else caps.follow_up_all
    waiting = [item for item in draft.run(name).inputs if item.mode == mode]
    placing = waiting if every else waiting[:1]
    for item in placing:
        _place(draft, name, item)
    return len(placing)


def _place(draft: Draft, name: str, item: Input) -> None:
    run = draft.run(name)
    draft.emit(
        f.RunInput, run=name, mode=item.mode, content=item.content, input=item.number,
        entry=f"{name}.i{item.number}", parent=run.tip, held=held(item.content, draft.given.caps),
    )  # fmt: skip
