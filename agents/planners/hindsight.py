"""What the run itself has seen of such rows: an estimate does not outweigh what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from rudder.tools.means import value_of
from rudder.training.metrics import Window

_SAME = 1.1
"""Rows per step that differ by a smaller factor are the same."""
_ENOUGH = 2


def seen_wait_ms(windows: Sequence[Window], *, more_than: float, up_to: float) -> float | None:
    """Median wait per step while more rows a step came than now, and no more than are expected,
    whatever settings were in force; None where too few windows tell."""
    low, high = _SAME * more_than, _SAME * up_to
    waits = [
        value_of(window, "wait")
        for window in windows
        if window.num_steps and low < value_of(window, "rows") <= high
    ]
    return statistics.median(waits) if len(waits) >= _ENOUGH else None
