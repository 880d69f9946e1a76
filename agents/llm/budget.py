"""How much may be asked of a model in one run, and when within a decision."""

from __future__ import annotations

from random import Random

_MAX_SPREAD_S = 1.0
_SHARE_OF_DEADLINE = 0.1


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


class Spread:
    """Sets the trainers of one run apart that share an endpoint: each rank waits its own part of
    a short span before it asks, with a little chance in it."""

    def __init__(self, *, rank: int, world_size: int, deadline_s: float, seed: int = 0) -> None:
        self._span_s = min(_MAX_SPREAD_S, _SHARE_OF_DEADLINE * deadline_s)
        self._rank, self._world_size = rank, max(1, world_size)
        self._random = Random(f"{seed}/{rank}")

    def delay_s(self) -> float:
        """How long to wait before the next decision's first question; 0 for a single trainer."""
        if self._world_size == 1:
            return 0.0
        return self._span_s * (self._rank + self._random.random()) / self._world_size
