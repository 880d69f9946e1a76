"""Whether the network is as it was: a link's rate may change from one window to the next."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from rudder.tools.means import value_of
from rudder.training.metrics import Window

_JUMP = 0.3
"""Of the step: by how much more or less a window waits that was of other circumstances."""
_FEWEST = 2
"""One window that stands out is chance, such as the first one of an epoch."""
_LOOKED_BACK = 8
_SLOWER = 0.15
"""Of the step: how much longer a slower link keeps a trainer waiting for as many rows."""
_SAME_ROWS = 0.95
_COMPARED = 4


def of_now(windows: Sequence[Window]) -> tuple[Window, ...]:
    """The last windows, without those before a jump: that waited far more than all since, or far
    less."""
    if not windows:
        return ()
    waits = [value_of(window, "wait") for window in windows]
    most = _JUMP * _step_ms(windows[-1])
    differs = [abs(wait - waits[-1]) > most for wait in reversed(waits)]
    alike = differs.index(True) if True in differs else len(waits)
    before, since = waits[-alike - _LOOKED_BACK : -alike], waits[-alike:]
    is_jump = bool(before) and (max(before) < min(since) or max(since) < min(before))
    return tuple(windows[-alike:] if is_jump and alike >= _FEWEST else windows)


def has_slowed(windows: Sequence[Window]) -> bool:
    """Whether the last window waited far longer than those before that fetched as many rows.

    windows: all of the run, the first of which waits for a start.
    """
    if len(windows) <= _FEWEST:
        return False
    last = windows[-1]
    rows, wait_ms = value_of(last, "rows"), value_of(last, "wait")
    before = [
        value_of(window, "wait")
        for window in windows[1:-1]
        if value_of(window, "rows") >= _SAME_ROWS * rows
    ]
    if not before:
        return False
    return wait_ms - statistics.median(before[-_COMPARED:]) > _SLOWER * _step_ms(last)


def _step_ms(window: Window) -> float:
    return 1000 * window.trained_seconds / max(window.num_steps, 1)
