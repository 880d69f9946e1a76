"""The first move, before the estimator has seen enough to look for anything."""

from __future__ import annotations

from collections.abc import Sequence

from rudder.agents.first_settings import FirstSettings
from rudder.agents.guard import Steps
from rudder.agents.planners.proposals import propose
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation, Plan
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import BufferSettings, Change


def opening(
    planner: str,
    recalled: Sequence[Recalled],
    toolbox: Toolbox,
    *,
    observation: Observation,
    steps: Steps,
) -> Plan | None:
    """The first settings in one change, as far as one change may go; None where there are none."""
    first = FirstSettings.of(recalled, observation, toolbox.history.workload)
    if first is None:
        return None
    present = observation.settings
    change = Change.between(present, _in_reach(first.settings, present=present, steps=steps))
    if change.is_empty or toolbox.limits.problem(change, settings=present) is not None:
        return None
    return propose(
        planner,
        change,
        toolbox,
        observation=observation,
        reason=first.reason,
        expected=first.effect,
    )


def _in_reach(wanted: BufferSettings, *, present: BufferSettings, steps: Steps) -> BufferSettings:
    low, high = steps.reach(present.capacity_rows)
    rows = min(max(wanted.capacity_rows, low + 1), high)
    return wanted.model_copy(update={"capacity_rows": rows})
