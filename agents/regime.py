"""What has changed since an observation, by more than noise explains."""

from __future__ import annotations

from typing import Literal

from rudder.memory.records import Observation
from rudder.tools.constants import (
    CHANGED_ROWS_SHARE,
    CHANGED_WAIT_SHARE,
    REMOTE_ROWS_SHARE,
    SIGMAS_SURE,
    STEP_FACTOR,
)
from rudder.training.metrics import Window

Move = Literal[
    "other settings",
    "more rows", "fewer rows",
    "fewer hits", "more hits",
    "more wait", "less wait",
    "longer steps", "shorter steps",
]  # fmt: skip
FILLING: frozenset[Move] = frozenset({"fewer rows", "more hits", "less wait", "shorter steps"})
"""What a buffer that is still filling does by itself."""
_WHATEVER_THE_SETTINGS: frozenset[Move] = frozenset({"longer steps"})
"""What no other settings explain: they are chosen so that steps become shorter."""


def moves(
    window: Window, seen: Observation, *, wait_share: float = CHANGED_WAIT_SHARE
) -> tuple[Move, ...]:
    """How a window differs from what was seen; empty where it is of the same regime.

    wait_share: of the step, by which the wait may differ, whatever its noise.
    """
    steps = max(window.num_steps, 1)
    rows = window.rows.rows_fetched.of_batches / steps - seen.rows_fetched
    hits = (window.rows.hit_fraction or 0.0) - (seen.hit_fraction or 0.0)
    wait_ms = 1000 * window.stalled_seconds / steps - seen.exposed_wait_ms
    step_ms = 1000 * window.trained_seconds / steps
    rows_margin = max(
        SIGMAS_SURE * seen.noise_rows,
        CHANGED_ROWS_SHARE * seen.rows_fetched,
        REMOTE_ROWS_SHARE * seen.remote_rows,
    )
    wait_margin = max(SIGMAS_SURE * seen.noise_wait_ms, wait_share * seen.step_ms)
    compared: tuple[tuple[float, float, Move, Move], ...] = (
        (rows, rows_margin, "more rows", "fewer rows"),
        (hits, CHANGED_ROWS_SHARE, "more hits", "fewer hits"),
        (wait_ms, wait_margin, "more wait", "less wait"),
    )
    found = [more if by > 0 else less for by, margin, more, less in compared if abs(by) > margin]
    if window.settings != seen.settings:
        found.append("other settings")
    if step_ms > STEP_FACTOR * seen.step_ms:
        found.append("longer steps")
    if step_ms < seen.step_ms / STEP_FACTOR:
        found.append("shorter steps")
    return tuple(found)


def ending(window: Window, seen: Observation) -> tuple[Move, ...]:
    """How the regime of what was seen has ended; empty where it goes on. A buffer that fills ends
    none, nor do other settings: of these, estimates on new windows tell what they bring."""
    found = moves(window, seen)
    if "other settings" in found:
        return tuple(move for move in found if move in _WHATEVER_THE_SETTINGS)
    return tuple(move for move in found if move not in FILLING)
