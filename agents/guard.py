"""The last check before a change is sent. It refuses and names the broken rule; it never clamps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pydantic import ValidationError

from rudder.agents.regime import FILLING, moves
from rudder.agents.turns import goes_together
from rudder.memory.journal import FRESH, GuardState
from rudder.memory.records import GuardResult, Observation, Plan
from rudder.tools.constants import (
    COOL_DOWN_STEPS,
    FREE_BATCHES,
    FREE_ROWS,
    MAX_COOL_DOWN_STEPS,
    MAX_GROWTH_FACTOR,
    MAX_SHRINK_FACTOR,
    TRIAL_STEPS,
)
from rudder.tools.toolbox import Toolbox
from rudder.training.metrics import Window
from rudder.training.settings import BufferSettings, Change

LIMITS = "limits"
"""Stands for the planner in episodes of this kind."""


def limit_plan(toolbox: Toolbox) -> Plan | None:
    """The change down to the limit; None where the buffer is within it or nothing was seen yet."""
    window, most = toolbox.history.latest, toolbox.limits.max_capacity_rows
    if window is None or window.settings.capacity_rows <= most:
        return None
    change = Change(capacity_rows=most)
    why = toolbox.limits.bound("capacity_rows").reason
    reason = f"the buffer is larger than its limit: {why}"
    return Plan(planner=LIMITS, change=change, expected=None, reason=reason)


class Bounds(Protocol):
    """What a trainer can take: `rudder.tools.limits.Limits`."""

    def problem(self, change: Change, *, settings: BufferSettings | None = None) -> str | None:
        """Why a change of these settings is out of bounds, or None."""


@dataclass(frozen=True)
class Steps:
    """How far one change may go from the settings in force, and when it may come.

    max_growth, max_shrink: factors of capacity and interval; free_rows, free_batches: capacity
    and lookahead that may be set from any smaller one; filling_steps: after an
    observation, in which fewer rows and less wait are no other regime;
    cool_down_steps: without changes after a revert, doubled by each further one up to
    max_cool_down_steps, back to the first after a confirmed change.
    """

    max_growth: float = MAX_GROWTH_FACTOR
    max_shrink: float = MAX_SHRINK_FACTOR
    free_rows: int = FREE_ROWS
    free_batches: int = FREE_BATCHES
    filling_steps: int = TRIAL_STEPS
    cool_down_steps: int = COOL_DOWN_STEPS
    max_cool_down_steps: int = MAX_COOL_DOWN_STEPS

    def reach(self, rows: int) -> tuple[int, int]:
        """The smallest and the largest capacity that one change may come to from `rows`."""
        return int(rows // self.max_shrink), int(max(rows * self.max_growth, self.free_rows))


DEFAULT_STEPS = Steps()


class Guard:
    """Bounds, memory budget, step size, cool-down, one change in flight, age of the observation.

    Pairs: `review` asks, `opened` and `closed` tell it what became of a change.
    """

    def __init__(self, steps: Steps = DEFAULT_STEPS, *, state: GuardState = FRESH) -> None:
        self._steps = steps
        self._in_flight, self._quiet_until = state.in_flight, state.quiet_until
        self._num_reverts = 0

    @property
    def state(self) -> GuardState:
        """What a review depends on besides its arguments."""
        return GuardState(in_flight=self._in_flight, quiet_until=self._quiet_until)

    def is_quiet(self, step: int) -> bool:
        """Whether no change may be made at this step, after a revert."""
        return step < self._quiet_until

    def opened(self) -> None:
        """A change was carried out; its trial begins."""
        self._in_flight = True

    def closed(self, *, is_revert: bool, step: int) -> None:
        """The trial is over."""
        self._in_flight = False
        if not is_revert:
            self._num_reverts = 0
            return
        pause = self._steps.cool_down_steps * 2 ** min(self._num_reverts, 32)
        self._quiet_until = step + min(pause, self._steps.max_cool_down_steps)
        self._num_reverts += 1

    def acquit(self) -> None:
        """End the cool-down: the last trial failed for another reason, such as a slower link."""
        self._quiet_until = 0

    def review(
        self,
        change: Change,
        *,
        observation: Observation,
        bounds: Bounds,
        now_step: int,
        latest: Window | None = None,
    ) -> GuardResult:
        """Whether a change may be carried out. Makes no assumption on how `change` was made.

        latest: the last window before now_step, None: none has come since the observation.
        """
        checked = _checked(change)
        if checked is None:
            return _refused("form", "the change has values that no setting can have")
        if latest is not None and (why := _whose_turn(checked, observation, latest)) is not None:
            return _refused("turn", why)
        if self._in_flight:
            return _refused("in_flight", "an earlier change is still on trial")
        if self.is_quiet(now_step):
            return _refused("cool_down", f"after a revert nothing until step {self._quiet_until}")
        if latest is not None and (why := self._why_stale(observation, latest)) is not None:
            return _refused("stale", why)
        if (problem := bounds.problem(checked, settings=observation.settings)) is not None:
            return _refused("limits", problem)
        if (too_far := self._too_far(checked, observation.settings, bounds)) is not None:
            return _refused("step_size", too_far)
        return GuardResult(allowed=True, rule=None, reason="within all bounds")

    def _why_stale(self, observation: Observation, latest: Window) -> str | None:
        """Why the observation is of another regime than now; None where it still holds. For a while
        rows and waits may fall, for a buffer may be filling."""
        age = latest.first_step + latest.num_steps - observation.step
        if age <= 0 or not observation.step_ms:
            return None
        harmless = FILLING if age <= self._steps.filling_steps else frozenset()
        found = [move for move in moves(latest, observation) if move not in harmless]
        if not found:
            return None
        return f"{', '.join(found)} since the observation, {age} steps ago"

    def _too_far(self, change: Change, settings: BufferSettings, bounds: Bounds) -> str | None:
        steps = self._steps
        if (rows := change.capacity_rows) is not None:
            low, high = steps.reach(settings.capacity_rows)
            if bounds.problem(Change(capacity_rows=low)) is not None:
                low = 0  # the bounds came down by more than a step: anything within them will do
            if not low <= rows <= high:
                return f"capacity_rows = {rows}; allowed in one step: {low} to {high}"
        if (ahead := change.lookahead_batches) is not None:
            least = settings.lookahead_batches // steps.max_shrink
            most = max(settings.lookahead_batches * steps.max_shrink, steps.free_batches)
            if not least <= ahead <= most:
                return (
                    f"lookahead_batches = {ahead}; allowed in one step: {least:.0f} to {most:.0f}"
                )
        return self._interval_too_far(change.replacement_interval, settings.replacement_interval)

    def _interval_too_far(self, wanted: int | None, present: int | None) -> str | None:
        if not wanted or not present:
            return None
        factor = self._steps.max_growth
        if not present / factor <= wanted <= present * factor:
            return (
                f"replacement_interval = {wanted}; allowed in one step:"
                f" {present / factor:.0f} to {present * factor:.0f}"
            )
        return None


def _whose_turn(change: Change, observation: Observation, latest: Window) -> str | None:
    """Why another rank's turn forbids a change; None where it does not."""
    turn = latest.turn
    step = latest.first_step + latest.num_steps
    if turn is None or turn.rank == latest.rank or not turn.is_open(step):
        return None
    if turn.state == "on_trial" and turn.is_joint and goes_together(change, observation.settings):
        return None
    return f"a change of rank {turn.rank} is on trial, until step {turn.until_step} at the latest"


def _checked(change: Change) -> Change | None:
    """The change read again from its plain values; None where they are none of a change."""
    try:
        return Change.model_validate(change.model_dump(warnings=False))
    except (ValidationError, ValueError, TypeError, OverflowError, AttributeError):
        return None


def _refused(rule: str, reason: str) -> GuardResult:
    return GuardResult(allowed=False, rule=rule, reason=reason[:2000])
