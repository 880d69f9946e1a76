"""A circuit breaker: an endpoint that keeps failing is left alone, for longer and longer."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Literal

State = Literal["closed", "open", "probing"]

FAILURES_TO_OPEN = 5
FIRST_PAUSE_S = 5.0
MAX_PAUSE_S = 300.0
_JITTER = 0.1


class Breaker:
    """Closed: everybody may ask. Open: nobody, until the pause is over. Then one probe at a time:
    its success closes the breaker, its failure opens it again for twice as long.

    clock: seconds, never going back; random: spreads the pauses of several trainers.
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
        self._num_openings = 0
        self._until: float | None = None
        self._probe: Permit | None = None
        self._era = 0

    @property
    def state(self) -> State:
        """Where it stands."""
        if self._probe is not None:
            return "probing"
        return "closed" if self._until is None else "open"

    @property
    def pause_left_s(self) -> float:
        """Seconds until a probe is allowed, 0 if one is."""
        return max(0.0, self._until - self._clock()) if self._until is not None else 0.0

    def permit(self) -> Permit | None:
        """Leave to ask once, or None. Whoever gets a permit must use it up."""
        if self._until is None:
            return Permit(self, era=self._era)
        if self._probe is not None or self.pause_left_s > 0:
            return None
        self._probe = Permit(self, era=self._era)
        return self._probe

    def settle(
        self, permit: Permit, *, result: Literal["ok", "failed", "left"], pause_s: float
    ) -> None:
        """What became of a permit; called by the permit, once. Late words change nothing."""
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
        self._num_failures = self._num_openings = 0
        self._until = None

    def _open(self, asked_pause_s: float) -> None:
        grown = self._first_pause_s * 2.0 ** min(self._num_openings, 32)
        spread = 1.0 + _JITTER * self._random.random()
        pause_s = min(max(grown * spread, asked_pause_s), self._max_pause_s)
        self._num_openings += 1
        self._era += 1
        self._until = self._clock() + pause_s


class Permit:
    """Leave to ask once. Used up by the first of its methods that is called."""

    def __init__(self, breaker: Breaker, *, era: int) -> None:
        self._breaker, self._used = breaker, False
        self.era = era

    def succeed(self) -> None:
        """A usable answer came."""
        self._settle("ok")

    def fail(self, *, pause_s: float = 0.0) -> None:
        """None came; the endpoint asked for `pause_s` seconds of peace (0: it named none)."""
        self._settle("failed", pause_s)

    def leave(self) -> None:
        """Nobody knows: the question was given up for a reason of ours."""
        self._settle("left")

    def _settle(self, result: Literal["ok", "failed", "left"], pause_s: float = 0.0) -> None:
        if not self._used:
            self._used = True
            self._breaker.settle(self, result=result, pause_s=pause_s)
