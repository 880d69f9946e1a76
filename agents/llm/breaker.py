"""A circuit breaker: an endpoint that keeps failing is not asked for a time that doubles."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Literal

_MAX_SPAN_S = 1.0
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


class Stagger:
    """Lets the trainers that share an endpoint ask one after the other: each rank waits its part
    of a short time, with some randomness, before it asks."""

    def __init__(self, *, rank: int, world_size: int, deadline_s: float, seed: int = 0) -> None:
        self._span_s = min(_MAX_SPAN_S, _SHARE_OF_DEADLINE * deadline_s)
        self._rank, self._world_size = rank, max(1, world_size)
        self._random = Random(f"{seed}/{rank}")

    def delay_s(self) -> float:
        """How long to wait before a decision's first question; 0 for a single trainer."""
        if self._world_size == 1:
            return 0.0
        return self._span_s * (self._rank + self._random.random()) / self._world_size


State = Literal["closed", "open", "probing"]

FAILURES_TO_OPEN = 5
FIRST_PAUSE_S = 5.0
MAX_PAUSE_S = 300.0
_JITTER = 0.1


class Breaker:
    """Closed: questions may be asked. Open: none, until the pause is over. Then one probe at a
    time: if it succeeds the breaker closes, if it fails the breaker opens for twice as long.

    clock: monotonic, in seconds; random: varies the pauses of several trainers.
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
        self._num_failures = 0
        self._num_pauses = 0
        self._until: float | None = None
        self._probe: Permit | None = None
        self._era = 0

    @property
    def state(self) -> State:
        """Closed, open, or waiting for a probe's result."""
        if self._probe is not None:
            return "probing"
        return "closed" if self._until is None else "open"

    @property
    def pause_left_s(self) -> float:
        """Seconds until a probe is allowed, 0 if one is."""
        return max(0.0, self._until - self._clock()) if self._until is not None else 0.0

    def permit(self) -> Permit | None:
        """Permission to ask once, or None; the caller reports on each permit how it ended."""
        if self._until is None:
            return Permit(self, era=self._era)
        if self._probe is not None or self.pause_left_s > 0:
            return None
        self._probe = Permit(self, era=self._era)
        return self._probe

    def settle(
        self, permit: Permit, *, result: Literal["ok", "failed", "left"], pause_s: float
    ) -> None:
        """Called by a permit, once; ignored if the breaker has opened or closed since."""
        if permit.era != self._era:
            return
        if permit is self._probe:
            self._probe = None
        if result == "ok":
            self._close()
        elif result == "failed":
            self._num_failures += 1
            if self._until is not None or self._num_failures >= self._limit or pause_s > 0:
                self._open(pause_s)

    def _close(self) -> None:
        if self._until is not None:
            self._era += 1
        self._num_failures = self._num_pauses = 0
        self._until = None

    def _open(self, asked_pause_s: float) -> None:
        grown = self._first_pause_s * 2.0 ** min(self._num_pauses, 32)
        spread = 1.0 + _JITTER * self._random.random()
        pause_s = min(max(grown * spread, asked_pause_s), self._max_pause_s)
        self._num_pauses += 1
        self._era += 1
        self._until = self._clock() + pause_s


class Permit:
    """Permission to ask once; only the first call of its methods counts."""

    def __init__(self, breaker: Breaker, *, era: int) -> None:
        self._breaker, self._used = breaker, False
        self.era = era

    def succeed(self) -> None:
        """A usable answer came."""
        self._settle("ok")

    def fail(self, *, pause_s: float = 0.0) -> None:
        """No usable answer came; pause_s: for which the endpoint asked, 0 if it named none."""
        self._settle("failed", pause_s)

    def leave(self) -> None:
        """The question was given up for a reason that says nothing of the endpoint."""
        self._settle("left")

    def _settle(self, result: Literal["ok", "failed", "left"], pause_s: float = 0.0) -> None:
        if not self._used:
            self._used = True
            self._breaker.settle(self, result=result, pause_s=pause_s)
