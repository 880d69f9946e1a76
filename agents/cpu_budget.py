"""How much of a core a controller may take: it shares its host with the trainer it helps."""

from __future__ import annotations

import time

MAX_CORE_FRACTION = 0.05
INITIAL_SECONDS = 1.5
"""For the first decisions of a run, which bring most."""


class CpuBudget:
    """CPU seconds of this process that it may still spend on decisions."""

    def __init__(
        self, *, fraction: float = MAX_CORE_FRACTION, initial_seconds: float = INITIAL_SECONDS
    ) -> None:
        """Start now; what was spent before, on imports, does not count."""
        self._fraction = fraction
        self._initial = initial_seconds
        self._started = time.monotonic()
        self._spent_before = time.process_time()

    @property
    def left_seconds(self) -> float:
        """What may be spent now; below 0 where too much was."""
        earned = self._initial + self._fraction * (time.monotonic() - self._started)
        return earned - (time.process_time() - self._spent_before)

    @property
    def has_left(self) -> bool:
        """Whether a decision may begin."""
        return self.left_seconds > 0
