"""What steering by a language model takes of it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ModelUse(BaseModel):
    """What asking a language model brought and cost one rank.

    questions: that were to be answered; valid_first, valid_second: answered usably at once, and
    after one re-ask; fallbacks: left to the embedded agent, by the name of the error; calls: over
    the network; latency: milliseconds, None before the first answer.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    mode: str | None = None
    questions: int = 0
    valid_first: int = 0
    valid_second: int = 0
    fallbacks: dict[str, int] = {}
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    latency_ms_p50: float | None = None
    latency_ms_p95: float | None = None

    @property
    def pass_at_1(self) -> float | None:
        """Share of the questions that reached the model and were answered usably at once."""
        reached = self.questions - self.fallbacks.get("NotAskedError", 0)
        return self.valid_first / reached if reached else None
