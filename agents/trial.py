"""The trial of a change: compares the windows after it with those before, and confirms or reverts.

A pure state machine: opened when the trainer has answered, fed with windows, done with an outcome.
Rows per step are precise; the exposed wait is noisy, so it is judged by its noise and the step, and
where windows disagree by more of them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rudder.memory.records import Observation, Outcome
from rudder.tools.calls import Effect
from rudder.tools.constants import (
    CATASTROPHE_SHARE,
    CHANGED_ROWS_SHARE,
    HIDDEN_SHARE,
    LEAST_EXPECTED_SHARE,
    MAX_SETTLING_WINDOWS,
    MIN_WINDOWS,
    PRESENT_WINDOWS,
    SAME_ROWS_SHARE,
    SIGMAS_95,
    SIGMAS_SURE,
)
from rudder.tools.estimate.growth import settling_steps
from rudder.training.metrics import Window
from rudder.training.settings import Applied, Change
from rudder.training.steering_options import Objective

Result: TypeAlias = Literal["confirmed", "reverted"]


@dataclass(frozen=True)
class TrialCriteria:
    """How a trial is judged.

    windows: settled ones to be seen, more where rows are noisy; tolerance: share of the step time
    by which the trainer may wait longer; is_joint: other ranks make the change, too.
    """

    windows: int = MIN_WINDOWS
    objective: Objective = "time"
    tolerance: float = HIDDEN_SHARE
    is_joint: bool = False


DEFAULT_CRITERIA = TrialCriteria()


class Trial:
    """One change between its application and its outcome."""

    def __init__(
        self,
        change: Change,
        *,
        applied: Applied,
        before: Observation,
        expected: Effect | None,
        course: Sequence[float] = (),
        criteria: TrialCriteria = DEFAULT_CRITERIA,
    ) -> None:
        """course: rows expected of each step from the change on, where they are not the same."""
        self.change = change
        self._applied, self._before, self._expected = applied, before, expected
        self._course, self._criteria = course, criteria
        self._settled: list[Window] = []
        self._num_unsettled = 0
        self._previous: Window | None = None
        grown = applied.settings.capacity_rows - before.settings.capacity_rows
        self._is_growth = grown > 0
        self._last_settling_step = applied.step + settling_steps(
            grown, rows_per_step=before.rows_fetched
        )

    @property
    def undo(self) -> Change:
        """What puts the settings back that were in force before; empty where none changed."""
        return Change.between(self._applied.settings, self._before.settings)

    def feed(self, window: Window) -> Outcome | None:
        """Take in the next window; the outcome once it is known."""
        if window.first_step < self._applied.step:
            return None
        if window.settings != self._applied.settings:
            return Outcome(result="abandoned", reason="the settings were changed by someone else")
        is_settled = self._is_settled(window)
        if self._is_catastrophe(window):
            return self._early(window, "reverted", "the wait rose far beyond its noise")
        if self._expected is None and self._has_helped(window):
            return self._early(window, "confirmed", "the trainer waits less than before")
        if not is_settled:
            return None
        self._settled.append(window)
        if len(self._settled) < self._num_wanted or self._is_doubtful:
            return None
        return self._judge()

    def measured(self, window: Window) -> Outcome:
        """What was measured up to this window, whatever comes of the trial."""
        return self._early(window, "confirmed", "")

    # -- settling -----------------------------------------------------------------------

    def _is_settled(self, window: Window) -> bool:
        """Whether the buffer has taken in what the change made room for.

        The first whole window never counts: rows and batches under way are of before. A growth
        is judged when its estimate says, not when its rows come to rest.
        """
        previous, self._previous = self._previous, window
        self._num_unsettled += 1
        if self._is_growth:
            return previous is not None and window.first_step >= self._last_settling_step
        if self._settled or self._num_unsettled > MAX_SETTLING_WINDOWS:
            return True
        if previous is None or not self._is_steady(previous, window):
            return False
        grown = window.buffered_rows - previous.buffered_rows
        return grown <= SAME_ROWS_SHARE * max(window.settings.capacity_rows, 1)

    def _is_steady(self, earlier: Window, later: Window) -> bool:
        """Whether the rows fetched do not go on changing."""
        rows = self._comparable_rows([earlier])
        difference = abs(self._comparable_rows([later]) - rows)
        return difference <= max(SIGMAS_95 * self._before.noise_rows, CHANGED_ROWS_SHARE * rows)

    def _has_helped(self, window: Window) -> bool:
        """Whether a whole window under the change waited less; asked where there is no estimate to
        compare with."""
        return -self._longer_ms([window]) > self._tolerated_wait_ms

    # -- judging ------------------------------------------------------------------------

    @property
    def _num_wanted(self) -> int:
        """Settled windows to be judged: as many as make their rows exact, within bounds."""
        fewest = self._criteria.windows
        if not self._before.rows_fetched:
            return fewest
        noise = self._before.noise_rows / self._before.rows_fetched
        wanted = math.ceil((noise / SAME_ROWS_SHARE) ** 2)
        return max(min(wanted, PRESENT_WINDOWS), fewest)

    @property
    def _is_doubtful(self) -> bool:
        """Whether some windows waited too long and others did not, and more may tell."""
        if len(self._settled) >= PRESENT_WINDOWS:
            return False
        most = self._tolerated_wait_ms
        return len({self._longer_ms([window]) > most for window in self._settled}) > 1

    def _judge(self) -> Outcome:
        """A longer wait with fewer rows is not caused by the change: ranks share links, and wait
        for each other in every step."""
        wait_gain = -self._longer_ms(self._settled)
        rows_gain = self._before.rows_fetched - self._comparable_rows(self._settled)
        rows_noise = max(self._before.noise_rows, SAME_ROWS_SHARE * self._before.rows_fetched)
        if -wait_gain > self._tolerated_wait_ms and rows_gain <= rows_noise:
            longer = "steps take" if self._compares_steps else "the trainer waits"
            return self._outcome(self._settled, "reverted", f"{longer} longer than before")
        if rows_gain < -rows_noise and not self._may_fetch_more(wait_gain):
            return self._outcome(
                self._settled, "reverted", "more rows are fetched, for nothing in return"
            )
        return self._outcome(self._settled, "confirmed", "no worse than before")

    @property
    def _tolerated_wait_ms(self) -> float:
        tolerance = max(self._criteria.tolerance, HIDDEN_SHARE)
        return max(SIGMAS_95 * self._noise_ms, tolerance * self._before.step_ms)

    @property
    def _compares_steps(self) -> bool:
        """Whether the job's step time is compared in place of this trainer's wait: where other
        ranks change, too, and where ranks share cores, for which rows' work then is no wait."""
        times = self._before.times
        return self._criteria.is_joint or (times is not None and times.shares_cores)

    @property
    def _noise_ms(self) -> float:
        """Of what is compared."""
        steps = self._before.noise_step_ms if self._compares_steps else None
        return self._before.noise_wait_ms if steps is None else steps

    def _may_fetch_more(self, wait_gain: float) -> bool:
        """More rows are the price of less waiting, or under `memory` of memory given back."""
        if self._criteria.objective == "traffic":
            return False
        now, then = self._applied.settings.capacity_rows, self._before.settings.capacity_rows
        gives_back = self._criteria.objective == "memory" and now < then
        return gives_back or wait_gain > self._noise_ms

    def _is_catastrophe(self, window: Window) -> bool:
        """A larger buffer that fetches no more rows is not what makes its trainer wait: links
        slow down, and peers have trials of their own."""
        most = (1 + CATASTROPHE_SHARE) * self._before.rows_fetched
        if self._is_growth and self._comparable_rows([window]) <= most:
            return False
        return self._longer_ms([window]) > max(
            CATASTROPHE_SHARE * self._before.step_ms, SIGMAS_SURE * self._noise_ms
        )

    def _longer_ms(self, windows: Sequence[Window]) -> float:
        """By how much the trainer waits longer than before, or all ranks take longer, per step."""
        if self._compares_steps:
            return statistics.median(map(_step_ms, windows)) - self._before.step_ms
        return _usual_wait_ms(windows) - self._before.exposed_wait_ms

    def _comparable_rows(self, windows: Sequence[Window]) -> float:
        """Rows fetched per step, at as many remote rows per step as before."""
        steps = sum(window.num_steps for window in windows)
        fetched = sum(window.rows.rows_fetched.of_batches for window in windows)
        remote = sum(window.rows.remote_rows for window in windows)
        if not remote or not self._before.remote_rows:
            return fetched / max(steps, 1)
        return fetched / remote * self._before.remote_rows

    def _early(self, window: Window, result: Result, reason: str) -> Outcome:
        """The outcome of a buffer that has not settled: of its rows nothing is known yet."""
        outcome = self._outcome([window], result, reason)
        if self._settled:
            return outcome
        return outcome.model_copy(update={"rows_expected": None, "rows_error": None})

    def _rows_expected(self, windows: Sequence[Window]) -> float | None:
        """Per step of these windows."""
        if self._expected is None:
            return None
        begun = self._applied.step
        rows = [
            row
            for window in windows
            for row in self._course[window.first_step - begun :][: window.num_steps]
        ]
        return statistics.fmean(rows) if rows else self._expected.rows_fetched.mid

    def _rows_error(self, rows: float, expected: float | None) -> float | None:
        """As a share of what was expected, or of LEAST_EXPECTED_SHARE of the rows before."""
        if expected is None:
            return None
        scale = max(expected, LEAST_EXPECTED_SHARE * self._before.rows_fetched)
        return (rows - expected) / scale if scale > 0 else None

    def _outcome(self, windows: Sequence[Window], result: Result, reason: str) -> Outcome:
        rows = self._comparable_rows(windows)
        expected = self._rows_expected(windows)
        return Outcome(
            result=result,
            rows_before=self._before.rows_fetched,
            rows_after=rows,
            wait_ms_before=self._before.exposed_wait_ms,
            wait_ms_after=_usual_wait_ms(windows),
            noise_rows=self._before.noise_rows,
            noise_wait_ms=self._before.noise_wait_ms,
            rows_expected=expected,
            rows_error=self._rows_error(rows, expected),
            reason=reason,
        )


def _step_ms(window: Window) -> float:
    return 1000 * window.trained_seconds / max(window.num_steps, 1)


def _usual_wait_ms(windows: Sequence[Window]) -> float:
    """The median: a window that a busy host held up is not the change's doing."""
    return statistics.median(
        1000 * window.stalled_seconds / max(window.num_steps, 1) for window in windows
    )
