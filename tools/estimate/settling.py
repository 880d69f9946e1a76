"""How long a buffer that grew takes to hold what it is to hold."""

from __future__ import annotations

from collections.abc import Sequence

from rudder.tools.constants import MAX_SETTLING_STEPS, SETTLING_SLACK
from rudder.training.metrics import Window


def settling_steps(grown_rows: int, *, rows_per_step: float) -> int:
    """Steps after a growth by so many rows: every row fetched may fill a slot; 0 without growth."""
    if grown_rows <= 0 or rows_per_step <= 0:
        return 0
    return int(min(SETTLING_SLACK * grown_rows / rows_per_step, MAX_SETTLING_STEPS))


def without_growth(settled: Sequence[Window], windows: Sequence[Window]) -> tuple[Window, ...]:
    """Of settled windows under the settings in force those from which a growth cannot be seen.

    windows: all that are known, oldest first; the last ones under the settings in force.
    """
    if not settled:
        return ()
    now = settled[-1].settings
    before = next((each for each in reversed(windows) if each.settings != now), None)
    if before is None:
        return tuple(settled)
    rows = before.rows.rows_fetched.total / max(before.num_steps, 1)
    grown = now.capacity_rows - before.settings.capacity_rows
    begun = before.first_step + before.num_steps
    first = begun + settling_steps(grown, rows_per_step=rows)
    return tuple(each for each in settled if each.first_step >= first)
