"""Capacities that past decisions in similar circumstances suggest, or warn of."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rudder.memory.journal import Recalled
from rudder.memory.records import Observation
from rudder.tools.calls import Effect
from rudder.tools.constants import (
    LIKE_DISTANCE,
    MAX_GUESSES,
    MAX_TRIALS_SHARE,
    MIN_ROUNDS,
    RECENT_WINDOWS,
    REPLACEMENT_INTERVAL,
    ROUND_WAIT_SHARE,
    SIMILAR_ROWS_FACTOR,
    TRIAL_STEPS,
    WINDOW_STEPS,
)
from rudder.tools.estimate.means import value_of
from rudder.tools.toolbox import Toolbox
from rudder.training.metrics import Window
from rudder.training.workload import PolicyName


def seen_wait_ms(windows: Sequence[Window], *, more_than: float, up_to: float) -> float | None:
    """Median wait per step while about as many rows came as are expected, whatever settings were
    in force; None where no window tells.

    windows: all of the run, the first of which waits for a start; more_than: rows per step now,
    up_to: those expected. Windows count whose rows are nearer to these.
    """
    low = max(SIMILAR_ROWS_FACTOR * more_than, (more_than + up_to) / 2)
    high = SIMILAR_ROWS_FACTOR * up_to
    waits = [
        value_of(window, "wait")
        for window in windows[1:]
        if window.num_steps and low < value_of(window, "rows") <= high
    ]
    return statistics.median(waits[-RECENT_WINDOWS:]) if waits else None


def fewest_rows(windows: Sequence[Window]) -> float | None:
    """Rows per step under the settings that fetched fewest in this run; None: not known.

    The median of their windows: one that stands out is chance.
    """
    groups = itertools.groupby(windows, key=lambda each: each.settings)
    rows = [[value_of(each, "rows") for each in group if each.num_steps] for _, group in groups]
    return min((statistics.median(group) for group in rows if group), default=None)


@dataclass(frozen=True)
class TrialBudget:
    """spent_ms: what the run's reverted changes cost, as far as they are recalled; run_ms: the
    whole run, None where nobody knows its end."""

    spent_ms: float
    run_ms: float | None

    @classmethod
    def of(
        cls, recalled: Sequence[Recalled], observation: Observation, *, run_key: str
    ) -> TrialBudget:
        """What the run's own episodes among those recalled tell."""
        spent_ms = 0.0
        for each in recalled:
            outcome = each.episode.outcome
            if each.episode.run_key != run_key or outcome is None or outcome.result != "reverted":
                continue
            if outcome.wait_ms_before is not None and outcome.wait_ms_after is not None:
                spent_ms += TRIAL_STEPS * max(outcome.wait_ms_after - outcome.wait_ms_before, 0.0)
        left = observation.steps_left
        run_ms = None if left is None else (observation.step + left) * observation.step_ms
        return cls(spent_ms, run_ms)

    def allows(self, effect: Effect, *, present: Effect) -> bool:
        """Whether a trial may be afforded, should its wait come out at the high end."""
        if self.run_ms is None:
            return True
        worse_ms = max(effect.exposed_wait_ms.high - present.exposed_wait_ms.high, 0.0)
        return self.spent_ms + TRIAL_STEPS * worse_ms <= MAX_TRIALS_SHARE * self.run_ms


ROUND_POLICIES: tuple[PolicyName, ...] = ("score", "static")
"""They admit no row that passes by; a round fetches what is to enter, all at once."""
_NO_BOUND = 2**62


@dataclass(frozen=True)
class Rounds:
    """fill_the_buffer: whether rounds do, and nothing else; most_rows: to what capacity one
    change may go; are_enough: whether as many were seen, under the settings in force, as an
    estimate of rows needs."""

    fill_the_buffer: bool = False
    most_rows: int = _NO_BOUND
    are_enough: bool = True

    @classmethod
    def of(cls, toolbox: Toolbox, observation: Observation) -> Rounds:
        """What the last windows tell; nothing is in the way where missed rows are admitted."""
        if toolbox.history.workload.policy not in ROUND_POLICIES:
            return cls()
        return cls(
            fill_the_buffer=True,
            most_rows=observation.settings.capacity_rows + _new_rows(toolbox, observation),
            are_enough=_num_rounds(toolbox, observation) >= MIN_ROUNDS,
        )


def _new_rows(toolbox: Toolbox, observation: Observation) -> int:
    """Rows that a round may fetch beside the usual ones; none where their cost is not known.

    What pulls cost however few the rows counts as theirs: what is fixed is the least known.
    """
    cost = toolbox.whatif.cost
    if cost is None or cost.rows <= 0:
        return 0
    row_ms = cost.ms_per_row + cost.fixed_ms / cost.rows
    return int(ROUND_WAIT_SHARE * WINDOW_STEPS * observation.step_ms / row_ms) if row_ms else 0


def _num_rounds(toolbox: Toolbox, observation: Observation) -> float:
    """Rounds since the settings were changed, or the run began; none come with interval 0."""
    interval = observation.settings.replacement_interval
    if interval == 0:
        return 0.0
    since = toolbox.history.last_change_step or 0
    return (observation.step - since) / (interval or REPLACEMENT_INTERVAL)


@dataclass(frozen=True)
class Priors:
    """good: capacities of confirmed changes, nearest first; bad: of reverted ones; in rows."""

    present_rows: int
    good: tuple[int, ...] = ()
    bad: tuple[int, ...] = ()

    @classmethod
    def of(cls, recalled: Sequence[Recalled], observation: Observation) -> Priors:
        """What near episodes tell; a capacity that did both counts by the nearest."""
        good: list[int] = []
        bad: list[int] = []
        for each in recalled:
            episode = each.episode
            outcome = episode.outcome
            if outcome is None or each.distance > LIKE_DISTANCE or episode.verdict is None:
                continue
            rows = episode.verdict.change.over(episode.observation.settings).capacity_rows
            if outcome.result == "confirmed" and rows not in bad:
                good.append(rows)
            elif outcome.result == "reverted" and rows not in good:
                bad.append(rows)
        return cls(observation.settings.capacity_rows, tuple(good), tuple(bad))

    def narrowed(self, reach: tuple[int, int]) -> tuple[int, int]:
        """The reach without capacities that were reverted, and those beyond them."""
        low, high = reach
        for rows in self.bad:
            middle = round(math.sqrt(max(rows, 1) * max(self.present_rows, 1)))
            if rows < self.present_rows:
                low = max(low, middle)
            elif rows > self.present_rows:
                high = min(high, middle)
        return min(low, high), high

    def guesses(self, low: int, high: int) -> tuple[int, ...]:
        """Capacities to try first."""
        inside = [rows for rows in dict.fromkeys(self.good) if low < rows < high]
        return tuple(inside[:MAX_GUESSES])
