"""When to look again after a decision to keep things: thinking costs the host processor time."""

from __future__ import annotations

from rudder.memory.records import Observation
from rudder.training.metrics import Window

_MAX_WINDOWS = 8
_NOISES = 4.0
_ROWS_FRACTION, _REMOTE_FRACTION = 0.05, 0.01
"""Of the rows fetched, and of all remote ones: a change by less is no reason to think again."""
_STEP_FRACTION = 0.02


class Rest:
    """Pauses of 1, 2, 4 and then 8 windows, ended at once by a window that looks different."""

    def __init__(self) -> None:
        self._left = 0
        self._pause = 1
        self._kept: Observation | None = None

    def begin(self, observation: Observation) -> None:
        """Things are kept as they are."""
        self._kept, self._left = observation, self._pause
        self._pause = min(2 * self._pause, _MAX_WINDOWS)

    def end(self) -> None:
        """Something was changed: look at every window again."""
        self._left, self._pause, self._kept = 0, 1, None

    def is_over(self, window: Window) -> bool:
        """Whether to look again now that this window is there."""
        self._left -= 1
        if self._kept is not None and _differs(window, self._kept):
            self.end()
        return self._left < 0 or self._kept is None


def _differs(window: Window, kept: Observation) -> bool:
    """Whether rows or waiting changed by more than noise explains."""
    steps = max(window.num_steps, 1)
    rows = window.rows.rows_fetched.total / steps - kept.rows_fetched
    wait_ms = 1000 * window.stalled_seconds / steps - kept.exposed_wait_ms
    return (
        window.settings != kept.settings
        or abs(rows)
        > max(
            _NOISES * kept.noise_rows,
            _ROWS_FRACTION * kept.rows_fetched,
            _REMOTE_FRACTION * kept.remote_rows,
        )
        or abs(wait_ms) > max(_NOISES * kept.noise_wait_ms, _STEP_FRACTION * kept.step_ms)
    )
