"""What an earlier run on the same work came to, in force from the first step: nothing was measured
before it, so that there is nothing to compare with, and nothing to go back to."""

from __future__ import annotations

from rudder.memory.records import Outcome
from rudder.tools.effects import Effect
from rudder.tools.means import value_of
from rudder.training.metrics import Window
from rudder.training.settings import Applied, Change

_FEWEST_WINDOWS, _MOST_WINDOWS = 2, 4
"""The first one waits for a start, and the buffer fills in those that follow."""
_MORE = 0.05
"""Share of the step that may be waited for beyond what was measured then."""


class HeadStart:
    """Ends as soon as the trainer waits no longer than it did then, or is seen not to get there:
    what follows is decided on what is seen, as ever."""

    undo = Change()

    def __init__(self, *, applied: Applied, expected: Effect | None) -> None:
        self._applied, self._expected = applied, expected
        self._num_windows = 0

    def feed(self, window: Window) -> Outcome | None:
        """Take in the next window; the outcome once it is known."""
        if window.first_step < self._applied.step or not window.num_steps:
            return None
        if window.settings != self._applied.settings:
            return Outcome(result="abandoned", reason="the settings were changed by someone else")
        self._num_windows += 1
        if self._num_windows < _FEWEST_WINDOWS:
            return None
        if self._is_as_then(window):
            return Outcome(
                result="confirmed",
                rows_after=value_of(window, "rows"),
                wait_ms_after=value_of(window, "wait"),
                reason="the trainer waits no longer than in the earlier run",
            )
        if self._num_windows < _MOST_WINDOWS:
            return None
        return Outcome(
            result="abandoned", reason="the trainer waits longer than in the earlier run"
        )

    def _is_as_then(self, window: Window) -> bool:
        more_ms = _MORE * 1000 * window.trained_seconds / window.num_steps
        then_ms = self._expected.exposed_wait_ms.high if self._expected else 0.0
        return value_of(window, "wait") <= then_ms + more_ms
