"""Results of earlier tasks in the input of later ones (issue 3, named outputs)."""

from agentd.core.references import filled, named_outputs
from tests.core.shell import Shell, model


def test_references_are_replaced_wherever_they_stand() -> None:
    results = {"a": "one", "b": {"x": 1}}
    given = {"whole": "{{b}}", "in": "say {{ a }} and {{b}}", "list": ["{{a}}", 7], "unknown": "{{z}} {{z}}"}
    assert filled(given, results) == {
        "whole": {"x": 1}, "in": 'say one and {"x":1}', "list": ["one", 7], "unknown": "{{z}} {{z}}",
    }  # fmt: skip


def test_several_writers_of_a_key_are_merged_as_declared() -> None:
    shell = Shell()
    shell.plan(
        model("a", output="all", merge="append"), model("b", output="all", merge="append"),
        model("c", output="last", merge="last"), model("d", output="last", merge="last"), model("e"),
    )  # fmt: skip
    run = shell.state.run
    assert run is not None
    found = named_outputs(run, {"b": "B", "a": "A", "d": "D", "c": "C", "e": "E"})
    assert found["all"] == ["A", "B"]
    assert found["last"] == "D"
    assert found["e"] == "E"
    assert named_outputs(run, {}) == {}
