"""One question to a model and its answer, complete enough to be replayed."""

from __future__ import annotations

from collections import Counter, deque

from rudder.agents.llm.errors import ChatError, EndpointError
from rudder.agents.llm.messages import Mode, Question, Reply
from rudder.memory.journal import ModelCall
from rudder.training.metrics import ModelUse
from rudder.training.settings import FrozenExact


class Asked(FrozenExact):
    """What was sent: the question, how it was put, and where in the run."""

    question: Question
    mode: Mode
    attempt: int
    is_trial: bool
    window: int


class Came(FrozenExact):
    """The reply as it came, or the error's name and, if the error is ours, what was wrong."""

    reply: Reply | None
    error: str | None
    reason: str | None


class Exchange(FrozenExact):
    """A question and its answer.

    attempt: 1, or 2 for the one re-ask; is_trial: asked to find out whether the endpoint knows
    this mode; latency_ms: from asking to the last byte.
    """

    asked: Asked
    came: Came
    model: str
    step: int
    latency_ms: float

    def to_model_call(self, call_id: str, *, episode_id: str | None = None) -> ModelCall:
        """As it is kept in the run's database."""
        reply = self.came.reply
        return ModelCall(
            call_id=call_id,
            episode_id=episode_id,
            agent=self.asked.question.role,
            step=self.step,
            model=self.model,
            messages=self.asked.model_dump_json(),
            answer=self.came.model_dump_json(),
            latency_ms=self.latency_ms,
            input_tokens=reply.usage.input_tokens if reply else None,
            output_tokens=reply.usage.output_tokens if reply else None,
            tokens_source=reply.usage.source if reply else "missing",
            error_type=self.came.error,
        )

    @classmethod
    def of_model_call(cls, call: ModelCall) -> Exchange:
        """Back from the database; raises ValueError where it is not one of ours."""
        return cls(
            asked=Asked.model_validate_json(call.messages),
            came=Came.model_validate_json(call.answer or "null"),
            model=call.model,
            step=call.step,
            latency_ms=call.latency_ms,
        )


_KEPT_LATENCIES = 1024


class Tally:
    """Counts exchanges and how questions ended."""

    def __init__(self) -> None:
        self._ends: Counter[int] = Counter()
        self._fallbacks: Counter[str] = Counter()
        self._words: dict[str, str] = {}
        self.stale = 0
        self._calls = self._input_tokens = self._output_tokens = 0
        self._latencies: deque[float] = deque(maxlen=_KEPT_LATENCIES)

    def add(self, exchange: Exchange) -> None:
        """One call was made."""
        self._calls += 1
        if (reply := exchange.came.reply) is not None:
            self._input_tokens += reply.usage.input_tokens or 0
            self._output_tokens += reply.usage.output_tokens or 0
            self._latencies.append(exchange.latency_ms)

    def answered(self, *, attempt: int) -> None:
        """A question was answered usably, at the first or second attempt."""
        self._ends[attempt] += 1

    def fell_back(self, error: ChatError) -> None:
        """A question was left to the embedded agent."""
        self._fallbacks[error.name] += 1
        if isinstance(error, EndpointError) and error.words:
            self._words.setdefault(error.name, error.words)

    def report(self, *, model: str, mode: str | None) -> ModelUse:
        """All of it until now."""
        ordered = sorted(self._latencies)
        return ModelUse(
            name=model,
            mode=mode,
            questions=self._ends.total() + self._fallbacks.total(),
            valid_first=self._ends[1],
            valid_second=self._ends[2],
            fallbacks=dict(self._fallbacks),
            words=dict(self._words),
            stale=self.stale,
            calls=self._calls,
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
            latency_ms_p50=_quantile(ordered, 0.5),
            latency_ms_p95=_quantile(ordered, 0.95),
        )


def _quantile(ordered: list[float], share: float) -> float | None:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None
