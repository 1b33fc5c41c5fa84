"""The prompts of a wave are those that each task would get by itself."""

from hypothesis import given
from hypothesis import strategies as st

from agentd.actors.wave import Wave, request_of
from agentd.core.prompt import TOKENS_MIN, Budget, Evidence, Item, PromptParts, assemble

TEXT = st.text(alphabet="ab é<>data01\n", max_size=400)
EVIDENCE = st.builds(Evidence, title=TEXT, status=st.just("done"), content=TEXT)


@given(
    identities=st.lists(TEXT, min_size=1, max_size=2),
    goals=st.lists(TEXT, min_size=1, max_size=2),
    tasks=st.lists(st.tuples(TEXT, st.lists(EVIDENCE, max_size=2)), min_size=1, max_size=6),
    tokens=st.integers(TOKENS_MIN, 2_000),
    per_token=st.floats(1, 16),
)
def test_a_prompt_of_a_wave_is_the_one_that_was_put_together_for_its_task_alone(
    identities: list[str], goals: list[str], tasks: list[tuple[str, list[Evidence]]], tokens: int, per_token: float
) -> None:
    wave, budget = Wave(), Budget(tokens, per_token)
    for number, (words, evidence) in enumerate(tasks):
        parts = PromptParts(
            identity=identities[number % len(identities)],
            plan_summary=f"goal: {goals[number % len(goals)]}",
            current=Item(id="r1.t1", role="user", kind="message", content=words),
            evidence=tuple(evidence),
        )
        assert wave.request(parts, budget) == request_of(assemble(parts, budget))


def test_nothing_of_a_run_that_has_ended_stays() -> None:
    wave, budget = Wave(), Budget(32_000)
    words = Item(id="r1.t1", role="user", kind="message", content="Task: look")
    parts = PromptParts(identity="I am", plan_summary="goal: the secret plan", current=words)
    assert "secret plan" in wave.request(parts, budget).messages[-2].content
    wave.forget()
    assert "secret plan" not in repr(vars(wave))
