"""The prompts of one run's tasks: what they have in common is put together once, and each adds its own words.

A wave of tasks sees the same identity and the same goal; only what a task is asked, and the results that it depends on,
are its own. Putting all of it together for each cost 41 us of the 260 that a task took; words alone cost 4. What is
kept is one run's and goes with it (rulings 30).
"""

from agentd.core.prompt import MESSAGE_TOKENS, Assembled, Budget, Item, PromptParts, assemble
from agentd.core.tokens import byte_length
from agentd.providers.provider import Message, ModelRequest


class Wave:
    """The prompts of the tasks of one run, one after the other."""

    def __init__(self) -> None:
        self._of: tuple[str, str | None, Budget] | None = None
        self._common: tuple[Message, ...] = ()
        self._room_bytes = 0

    def request(self, parts: PromptParts, budget: Budget) -> ModelRequest:
        """What `assemble` makes of `parts`, which are no more than an identity, a plan, results and a task's words."""
        if parts.evidence:
            return request_of(assemble(parts, budget))
        of = (parts.identity, parts.plan_summary, budget)
        if of != self._of:
            self._begin(parts, budget)
            self._of = of
        content = parts.current.content
        if byte_length(content) > self._room_bytes:
            return request_of(assemble(parts, budget))
        return ModelRequest(messages=(*self._common, Message(role="user", content=content)), purpose="task")

    def forget(self) -> None:
        """The run has ended: nothing of its words stays here."""
        self._of, self._common = None, ()

    def _begin(self, parts: PromptParts, budget: Budget) -> None:
        """Up to half of the budget nothing can be cut or left out, whatever comes last."""
        bare = PromptParts(
            identity=parts.identity, plan_summary=parts.plan_summary,
            current=Item(id="", role="user", kind="message", content=""),
        )  # fmt: skip
        assembled = assemble(bare, budget)
        self._common = request_of(assembled).messages[:-1]
        left = budget.tokens // 2 - sum(part.tokens for part in assembled.report) - MESSAGE_TOKENS
        self._room_bytes = 0 if assembled.cut else max(int(left * budget.bytes_per_token), 0)


def request_of(assembled: Assembled) -> ModelRequest:
    messages = tuple([Message(role=message.role, content=message.content) for message in assembled.messages])
    return ModelRequest(messages=messages, purpose="task")
