"""How many bytes a token of a model takes, learned from what the provider reports (issue 4, working memory).

An average that moves slowly, per model, and only by reports that are not estimates themselves; bounded, because one odd
report must not change what fits into a prompt by much.
"""

BYTES_PER_TOKEN = 4.0
LEAST, MOST = 1.5, 8.0
WEIGHT = 0.1
MODELS_MAX = 64
TOKENS_MIN = 50  # a shorter prompt says little


class Calibration:
    """Bytes per token by model."""

    def __init__(self) -> None:
        self._known: dict[str, float] = {}

    def bytes_per_token(self, model: str | None) -> float:
        return self._known.get(model or "", BYTES_PER_TOKEN)

    def learn(self, model: str | None, prompt_bytes: int, input_tokens: int) -> None:
        """A model reported so many tokens for a prompt of so many bytes."""
        if model is None or input_tokens < TOKENS_MIN or (model not in self._known and len(self._known) >= MODELS_MAX):
            return
        seen = min(max(prompt_bytes / input_tokens, LEAST), MOST)
        old = self._known.get(model, BYTES_PER_TOKEN)
        self._known[model] = old + WEIGHT * (seen - old)
