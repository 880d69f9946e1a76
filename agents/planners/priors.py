"""What past decisions in like circumstances say about where to look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rudder.memory.journal import Recalled
from rudder.memory.records import Observation

LIKE_DISTANCE = 0.5
"""Episodes that are further away say nothing."""
_MAX_GUESSES = 2


@dataclass(frozen=True)
class Priors:
    """good: capacities of confirmed changes, nearest first; bad: of reverted ones; in rows."""

    present_rows: int
    good: tuple[int, ...] = ()
    bad: tuple[int, ...] = ()

    @classmethod
    def of(cls, recalled: Sequence[Recalled], observation: Observation) -> Priors:
        """What near episodes tell; a capacity that did both counts by the nearest."""
        good: list[int] = []
        bad: list[int] = []
        for each in recalled:
            episode = each.episode
            outcome = episode.outcome
            if outcome is None or each.distance > LIKE_DISTANCE or episode.verdict is None:
                continue
            rows = episode.verdict.change.over(episode.observation.settings).capacity_rows
            if outcome.result == "confirmed" and rows not in bad:
                good.append(rows)
            elif outcome.result == "reverted" and rows not in good:
                bad.append(rows)
        return cls(observation.settings.capacity_rows, tuple(good), tuple(bad))

    def narrowed(self, reach: tuple[int, int]) -> tuple[int, int]:
        """The reach without capacities that were reverted, and those beyond them."""
        low, high = reach
        for rows in self.bad:
            middle = round(math.sqrt(max(rows, 1) * max(self.present_rows, 1)))
            if rows < self.present_rows:
                low = max(low, middle)
            elif rows > self.present_rows:
                high = min(high, middle)
        return min(low, high), high

    def guesses(self, low: int, high: int) -> tuple[int, ...]:
        """Capacities to try first."""
        inside = [rows for rows in dict.fromkeys(self.good) if low < rows < high]
        return tuple(inside[:_MAX_GUESSES])
