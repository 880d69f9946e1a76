"""What the run itself has seen of such rows: an estimate does not outweigh what was measured."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

from rudder.tools.means import value_of
from rudder.training.metrics import Window

_SAME = 1.1
"""Rows per step that differ by a smaller factor are the same."""
_NEWEST = 8
"""So many windows tell: what rows cost changes with the network."""


def seen_wait_ms(windows: Sequence[Window], *, more_than: float, up_to: float) -> float | None:
    """Median wait per step while about as many rows came as are expected, whatever settings were
    in force; None where no window tells.

    windows: all of the run, the first of which waits for a start; more_than: rows per step now,
    up_to: those expected. Windows count whose rows are nearer to these.
    """
    low, high = max(_SAME * more_than, (more_than + up_to) / 2), _SAME * up_to
    waits = [
        value_of(window, "wait")
        for window in windows[1:]
        if window.num_steps and low < value_of(window, "rows") <= high
    ]
    return statistics.median(waits[-_NEWEST:]) if waits else None


def fewest_rows(windows: Sequence[Window]) -> float | None:
    """Rows per step under the settings that fetched fewest in this run; None: not known.

    The median of their windows: one that stands out is chance.
    """
    groups = itertools.groupby(windows, key=lambda each: each.settings)
    rows = [[value_of(each, "rows") for each in group if each.num_steps] for _, group in groups]
    return min((statistics.median(group) for group in rows if group), default=None)
