"""Policies whose rounds fill the buffer: what a change costs there, and when it can be told."""

from __future__ import annotations

from dataclasses import dataclass

from rudder.memory.records import Observation
from rudder.tools.toolbox import Toolbox
from rudder.training.workload import PolicyName

ROUND_POLICIES: tuple[PolicyName, ...] = ("score", "static")
"""They admit no row that passes by; a round fetches what is to enter, all at once."""
_MAX_WAIT_SHARE = 0.2
"""Of the step, over a window: what a round may have the trainer wait and be no catastrophe."""
_WINDOW_STEPS = 16
_MIN_ROUNDS = 4
_USUAL_INTERVAL = 32
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
            are_enough=_num_rounds(toolbox, observation) >= _MIN_ROUNDS,
        )


def _new_rows(toolbox: Toolbox, observation: Observation) -> int:
    """Rows that a round may fetch beside the usual ones; none where their cost is not known.

    What pulls cost however few the rows counts as theirs: what is fixed is the least known.
    """
    cost = toolbox.whatif.cost
    if cost is None or cost.rows <= 0:
        return 0
    row_ms = cost.ms_per_row + cost.fixed_ms / cost.rows
    return int(_MAX_WAIT_SHARE * _WINDOW_STEPS * observation.step_ms / row_ms) if row_ms else 0


def _num_rounds(toolbox: Toolbox, observation: Observation) -> float:
    """Rounds since the settings were changed, or the run began; none come with interval 0."""
    interval = observation.settings.replacement_interval
    if interval == 0:
        return 0.0
    since = toolbox.history.last_change_step or 0
    return (observation.step - since) / (interval or _USUAL_INTERVAL)
