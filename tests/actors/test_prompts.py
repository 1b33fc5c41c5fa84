"""What a task's model call is made from: the results that it depends on, through joins and gates (S14, T5, T6)."""

from typing import Any

from agentd.core import intents as i
from agentd.protocol import facts as f
from agentd.providers.provider import ModelRequest
from tests.actors.rig import BY, Rig

PLAN: dict[str, Any] = {
    "tasks": [
        {"id": "a", "title": "find A"},
        {"id": "b", "title": "find B"},
        {"id": "c", "title": "find C"},
        {"id": "two", "title": "both", "kind": "join", "depends_on": ["b", "a"]},
        {"id": "three", "title": "all", "kind": "join", "depends_on": ["two", "c"]},
        {"id": "use", "title": "use them", "depends_on": ["g", "b"]},
        {"id": "alone", "title": "look aside"},
    ],
    "gates": [{"id": "g", "title": "fine so far?", "depends_on": ["three"]}],
}


async def test_a_task_sees_what_stands_behind_its_joins_and_gates_in_declared_order_and_nothing_else() -> None:
    def script(request: ModelRequest) -> Any:
        if request.purpose == "planning":
            return PLAN
        said = request.messages[-1].content
        return next((f"result of {name}" for name in "ABC" if f"find {name}" in said), "done")

    rig = Rig(script)
    try:
        seat = await rig.session()
        run = await rig.start(seat, "use what you find", "goal")
        await rig.until(seat, lambda fact: isinstance(fact, f.RunWaiting))
        await rig.tell(seat, i.DecideGate(by=BY, approve=True, gate="g"))
        await rig.ended(seat, run)
        asked = {
            name: next(
                "\n".join(message.content for message in request.messages)
                for request in rig.model.for_("task")
                if name in request.messages[-1].content
            )
            for name in ("use them", "look aside")
        }
        places = [asked["use them"].index(f"result of {name}") for name in "BAC"]
        assert places == sorted(places), "as the joins name them"
        assert asked["use them"].count("result of B") == 1
        assert "result of" not in asked["look aside"]
    finally:
        await rig.end()
