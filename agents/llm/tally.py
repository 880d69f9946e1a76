"""What asking a model brought and cost in one run."""

from __future__ import annotations

from collections import Counter

from pydantic import BaseModel, ConfigDict

from rudder.agents.llm.exchange import Exchange

_KEPT_LATENCIES = 1024


class LlmReport(BaseModel):
    """Counts of questions and calls; latencies in milliseconds, None before the first answer.

    valid_first, valid_second: questions answered usably at once, and after one re-ask; fallbacks:
    questions that the embedded agent answered, by the name of the error.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    mode: str | None
    questions: int
    valid_first: int
    valid_second: int
    fallbacks: dict[str, int]
    calls: int
    input_tokens: int
    output_tokens: int
    tokens_source: dict[str, int]
    latency_ms_p50: float | None
    latency_ms_p95: float | None


class Tally:
    """Counts exchanges and how questions ended."""

    def __init__(self) -> None:
        self._ends: Counter[int] = Counter()
        self._fallbacks: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()
        self._calls = self._input_tokens = self._output_tokens = 0
        self._latencies: list[float] = []

    def add(self, exchange: Exchange) -> None:
        """One call was made."""
        self._calls += 1
        if (reply := exchange.came.reply) is not None:
            self._sources[reply.usage.source] += 1
            self._input_tokens += reply.usage.input_tokens or 0
            self._output_tokens += reply.usage.output_tokens or 0
            self._latencies = [*self._latencies[1 - _KEPT_LATENCIES :], exchange.latency_ms]

    def answered(self, *, attempt: int) -> None:
        """A question was answered usably, at the first or second attempt."""
        self._ends[attempt] += 1

    def fell_back(self, error_name: str) -> None:
        """A question was left to the embedded agent."""
        self._fallbacks[error_name] += 1

    def report(self, *, model: str, mode: str | None) -> LlmReport:
        """All of it."""
        ordered = sorted(self._latencies)
        return LlmReport(
            model=model,
            mode=mode,
            questions=self._ends.total() + self._fallbacks.total(),
            valid_first=self._ends[1],
            valid_second=self._ends[2],
            fallbacks=dict(self._fallbacks),
            calls=self._calls,
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
            tokens_source=dict(self._sources),
            latency_ms_p50=_quantile(ordered, 0.5),
            latency_ms_p95=_quantile(ordered, 0.95),
        )


def _quantile(ordered: list[float], share: float) -> float | None:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None
