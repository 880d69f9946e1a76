"""What bounds a planner's search: reverted changes, and rounds of replacement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rudder.memory.journal import Recalled
from rudder.memory.records import Observation
from rudder.tools.constants import (
    LIKE_DISTANCE,
    MIN_ROUNDS,
    REPLACEMENT_INTERVAL,
    ROUND_WAIT_SHARE,
    WINDOW_STEPS,
)
from rudder.tools.toolbox import Toolbox
from rudder.training.workload import ROUND_POLICIES

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


def without_reverted(
    reach: tuple[int, int], recalled: Sequence[Recalled], *, present_rows: int
) -> tuple[int, int]:
    """The reach without capacities that were reverted in like circumstances, and those beyond them.

    A capacity that was also confirmed counts by the nearest episode.
    """
    low, high = reach
    results: dict[int, str] = {}
    for each in recalled:
        episode = each.episode
        if episode.outcome is None or episode.verdict is None or each.distance > LIKE_DISTANCE:
            continue
        if episode.outcome.result in ("confirmed", "reverted"):
            rows = episode.verdict.change.over(episode.observation.settings).capacity_rows
            results.setdefault(rows, episode.outcome.result)
    for rows in (rows for rows, result in results.items() if result == "reverted"):
        middle = round(math.sqrt(max(rows, 1) * max(present_rows, 1)))
        if rows < present_rows:
            low = max(low, middle)
        elif rows > present_rows:
            high = min(high, middle)
    return min(low, high), high
