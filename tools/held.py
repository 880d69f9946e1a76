"""What capacity the buffer had when each batch was looked up, from the settings of windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rudder.training.buffer.policy import IntArray
from rudder.training.metrics import Window

_CHANGES_AT = 1 / 3
"""Of a window that does not tell since when its settings are in force: where changes took effect
that were decided on the window before it."""


def held_rows(windows: Sequence[Window], *, first_step: int, num_batches: int) -> IntArray:
    """int64[num_batches]: capacity that each batch from a step on found, never more than a later
    one did: what a buffer lost as it shrank is not there any more.

    windows: oldest first; batches that none of them tells of had what the nearest one did.
    """
    starts, rows = [first_step], [windows[0].settings.capacity_rows]
    for window in windows:
        capacity = window.settings.capacity_rows
        if capacity != rows[-1]:
            since = window.settings_since
            guess = window.first_step + round(_CHANGES_AT * window.num_steps)
            starts.append(guess if since is None else since)
            rows.append(capacity)
    steps = np.arange(first_step, first_step + num_batches)
    found = np.array(rows, dtype=np.int64)[np.searchsorted(starts, steps, side="right") - 1]
    return np.minimum.accumulate(found[::-1])[::-1]
