"""A link that rows have been seen to fill: what else goes over it waits behind them.

Gradients and sampling share the link with rows. Where rows take the part u of its time, the rest
takes 1 / (1 - u) times as long as alone: processor sharing, Kleinrock, Queueing Systems, vol. 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rudder.training.metrics import Window

_PULLS_FRACTION, _WAIT_FRACTION = 0.6, 0.3
"""Of a window: for so long the loader waits for rows, and the trainer stands still for them, where
rows fill the link."""
_HARDLY_BUSY, _MOST_BUSY = 0.2, 0.9
"""Of the link's time: rows that take less leave as much room as anybody needs."""


@dataclass(frozen=True)
class BusyLink:
    """ms_per_row: how long the link is busy with a row, at the most; blocked_ms: per step, what
    the trainer is blocked within a step where rows leave it most room."""

    ms_per_row: float
    blocked_ms: float

    @classmethod
    def of(cls, windows: Sequence[Window]) -> BusyLink | None:
        """From the last window on whose rows filled the link; None where none did.

        windows: all of the run, the first of which waits for a start.
        """
        timed = [each for each in windows[1:] if each.num_steps and each.wall_seconds]
        filled = [number for number, window in enumerate(timed) if _is_filled(window)]
        if not filled:
            return None
        since = timed[filled[-1] :]
        return cls(
            ms_per_row=min(_ms_per_row(window) for window in since),
            blocked_ms=min(1000 * each.seconds.blocked / each.num_steps for each in timed),
        )

    def delay_ms(self, rows: float, *, step_ms: float) -> float:
        """Per step: how much longer all else takes than on a link that is hardly busy."""
        if step_ms <= 0:
            return 0.0
        busy = min(max(self.ms_per_row * rows / step_ms, _HARDLY_BUSY), _MOST_BUSY)
        return self.blocked_ms * (1 / (1 - busy) - 1 / (1 - _HARDLY_BUSY))


def _is_filled(window: Window) -> bool:
    wall = window.wall_seconds or 0.0
    return (
        window.rows.rows_fetched.total > 0
        and window.seconds.pull > _PULLS_FRACTION * wall
        and window.stalled_seconds > _WAIT_FRACTION * wall
    )


def _ms_per_row(window: Window) -> float:
    rows = window.rows.rows_fetched.total
    return 1000 * (window.wall_seconds or 0.0) / rows if rows else float("inf")
