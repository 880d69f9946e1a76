"""What limits questions to an endpoint: a budget and a circuit breaker."""

from __future__ import annotations

from collections.abc import Callable
from random import Random


class Budget:
    """Calls and tokens that are left to a run."""

    def __init__(self, *, max_calls: int, max_tokens: int) -> None:
        self._max_calls, self._max_tokens = max_calls, max_tokens
        self.num_calls = 0
        self.num_tokens = 0

    def allows(self, *, tokens: int) -> bool:
        """Whether one more call of so many tokens fits."""
        return self.num_calls < self._max_calls and self.num_tokens + tokens <= self._max_tokens

    def spend_call(self) -> None:
        """A call is made, whatever comes of it."""
        self.num_calls += 1

    def spend_tokens(self, tokens: int) -> None:
        """A call has cost so many tokens."""
        self.num_tokens += max(0, tokens)


FAILURES_TO_OPEN = 5
FIRST_PAUSE_S = 5.0
MAX_PAUSE_S = 300.0
_JITTER = 0.1


class Breaker:
    """Closed: questions may be asked. Open: none, until the pause is over. Then one question tries
    the endpoint again: a usable answer closes the breaker, a failure opens it for twice as long.

    One question is asked at a time. clock: monotonic, in seconds; random: varies the pauses of
    several jobs.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        failures: int = FAILURES_TO_OPEN,
        first_pause_s: float = FIRST_PAUSE_S,
        max_pause_s: float = MAX_PAUSE_S,
        random: Random | None = None,
    ) -> None:
        self._clock, self._random = clock, random or Random(0)
        self._limit, self._first_pause_s, self._max_pause_s = failures, first_pause_s, max_pause_s
        self._num_failures = self._num_pauses = 0
        self._until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the endpoint failed too often, and has not answered since."""
        return self._num_pauses > 0

    @property
    def pause_left_s(self) -> float:
        """Seconds until a question may be asked; 0 if one may be now."""
        return max(0.0, self._until - self._clock()) if self.is_open else 0.0

    def succeeded(self) -> None:
        """A usable answer came."""
        self._num_failures = self._num_pauses = 0

    def failed(self, *, pause_s: float = 0.0) -> None:
        """No usable answer came; pause_s: for which the endpoint asked, 0 if it named none."""
        self._num_failures += 1
        if self.is_open or self._num_failures >= self._limit or pause_s > 0:
            grown = self._first_pause_s * 2.0 ** min(self._num_pauses, 32)
            spread = 1.0 + _JITTER * self._random.random()
            self._until = self._clock() + min(max(grown * spread, pause_s), self._max_pause_s)
            self._num_pauses += 1
