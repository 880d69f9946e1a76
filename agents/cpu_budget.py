"""How much of a core a controller may take: it shares its host with the trainer it helps."""

from __future__ import annotations

import time

MAX_CORE_FRACTION = 0.05
CALM_CORE_FRACTION = 0.01
"""While the trainer waits for nothing: its processors have better to do than to save memory."""
INITIAL_SECONDS = 1.0
"""For the first decisions of a run, which bring most."""


class CpuBudget:
    """CPU seconds of this process that it may still spend on decisions."""

    def __init__(
        self, *, fraction: float = MAX_CORE_FRACTION, initial_seconds: float = INITIAL_SECONDS
    ) -> None:
        """Start now; what was spent before, on imports, does not count."""
        self._most = self._fraction = fraction
        self._earned = initial_seconds
        self._looked = time.monotonic()
        self._spent_before = time.process_time()

    def needed(self, is_needed: bool) -> None:
        """From now on: whether the trainer waits for rows, so that decisions may help it."""
        self._earn()
        self._fraction = self._most if is_needed else min(self._most, CALM_CORE_FRACTION)

    @property
    def left_seconds(self) -> float:
        """What may be spent now; below 0 where too much was."""
        self._earn()
        return self._earned - (time.process_time() - self._spent_before)

    @property
    def has_left(self) -> bool:
        """Whether a decision may begin."""
        return self.left_seconds > 0

    def _earn(self) -> None:
        now = time.monotonic()
        self._earned += self._fraction * (now - self._looked)
        self._looked = now
