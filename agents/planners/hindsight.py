"""What the run itself has seen of such rows: an estimate does not outweigh what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rudder.training.metrics import Window

_SAME = 1.1
"""Rows per step that differ by a smaller factor are the same."""
_ENOUGH = 2


@dataclass(frozen=True)
class Hindsight:
    """points: rows fetched and milliseconds of waiting per step, of each window of the run."""

    points: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, windows: Sequence[Window]) -> Hindsight:
        """All windows with steps, whatever settings were in force."""
        return cls(
            tuple(
                (
                    window.rows.rows_fetched.total / window.num_steps,
                    1000 * window.stalled_seconds / window.num_steps,
                )
                for window in windows
                if window.num_steps
            )
        )

    def wait_ms(self, *, more_than: float, up_to: float) -> float | None:
        """Median wait while more rows a step came than now, and no more than are expected; None
        where too few windows tell."""
        waits = [wait for rows, wait in self.points if _SAME * more_than < rows <= _SAME * up_to]
        return statistics.median(waits) if len(waits) >= _ENOUGH else None
