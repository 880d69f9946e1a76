"""The first move on work that memory knows: what an earlier run came to, before the estimator has
seen enough to look for anything."""

from __future__ import annotations

from collections.abc import Sequence

from rudder.agents.guard import Steps
from rudder.agents.planners.proposals import propose
from rudder.agents.precedent import Precedent
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation, Plan
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import BufferSettings, Change

_MIN_GAIN = 0.1
"""Share of the step that the trainer must have waited less then than it waits now."""


def opening(
    planner: str,
    recalled: Sequence[Recalled],
    toolbox: Toolbox,
    *,
    observation: Observation,
    steps: Steps,
) -> Plan | None:
    """The precedent's settings in one change, as far as one change may go; None where memory has
    no precedent, or nothing much is to be gained by it."""
    precedent = Precedent.of(recalled, toolbox.history.workload)
    if precedent is None or precedent.gain_ms(observation) < _MIN_GAIN * observation.step_ms:
        return None
    present = observation.settings
    change = Change.between(present, _in_reach(precedent.settings, present=present, steps=steps))
    if change.is_empty or toolbox.limits.problem(change, settings=present) is not None:
        return None
    return propose(
        planner,
        change,
        toolbox,
        observation=observation,
        reason="an earlier run on the same work came to these settings",
        expected=precedent.effect,
    )


def _in_reach(wanted: BufferSettings, *, present: BufferSettings, steps: Steps) -> BufferSettings:
    low, high = steps.reach(present.capacity_rows)
    rows = min(max(wanted.capacity_rows, low + 1), high)
    return wanted.model_copy(update={"capacity_rows": rows})
