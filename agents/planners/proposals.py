"""Plans of planners in plain code: one change or none, what it should bring, and why."""

from __future__ import annotations

from collections.abc import Sequence

from rudder.agents.guard import Steps
from rudder.agents.starting_point import TAKES_ANY_ROW, WarmStart
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation, Plan
from rudder.tools.calls import Effect
from rudder.tools.estimate.whatif import WhatIf
from rudder.tools.limits import Limits
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import BufferSettings, Change, FetchTargets


def keep(planner: str, reason: str) -> Plan:
    """A plan that changes nothing."""
    return Plan(planner=planner, change=Change(), expected=None, reason=reason)


def propose(
    planner: str, change: Change, *, whatif: WhatIf, reason: str, expected: Effect | None = None
) -> Plan:
    """A plan of one change; without `expected` the estimate is stated, where there is one."""
    if expected is None and whatif.is_ready:
        expected = whatif.effect(change)
    return Plan(planner=planner, change=change, expected=expected, reason=reason)


def warm_start_plan(
    planner: str,
    recalled: Sequence[Recalled],
    toolbox: Toolbox,
    *,
    observation: Observation,
    steps: Steps,
) -> Plan | None:
    """The first settings in one change, as far as one change may go; None where there are none."""
    first = WarmStart.of(recalled, observation, toolbox.history.workload)
    if first is None:
        return None
    present = observation.settings
    wanted = _in_reach(first.settings, present=present, steps=steps, limits=toolbox.limits)
    change = first.change(present, wanted)
    if change.is_empty:
        return None
    change = filled(change, observation, toolbox)
    return propose(
        planner, change, whatif=toolbox.whatif, reason=first.reason, expected=first.effect
    )


def filled(
    change: Change, observation: Observation, toolbox: Toolbox, *, rows_after: float = 0.0
) -> Change:
    """A growth together with rows to fetch while the link idles: those that misses would bring
    within an epoch, as far as the link has time for them in one.

    rows_after: fetched per step once the buffer has filled.
    """
    workload, present = toolbox.history.workload, observation.settings.capacity_rows
    grown = (change.capacity_rows or present) - present
    epoch = workload.batches_per_epoch
    budget = min(grown, round(observation.rows_fetched * epoch))
    if budget <= 0 or change.fetch_targets is not None or workload.policy not in TAKES_ANY_ROW:
        return change
    targets = FetchTargets(source="observed", row_budget=budget, while_idle=True)
    wanted = change.model_copy(update={"fetch_targets": targets})
    cost = toolbox.whatif.fetch_cost(wanted, rows_after=rows_after)
    if cost is None or cost.steps is None:
        return change
    fitting = round(budget * min(epoch / max(cost.steps, 1e-9), 1.0))
    if not fitting:
        return change
    fitted = targets.model_copy(update={"row_budget": fitting})
    return wanted.model_copy(update={"fetch_targets": fitted})


def _in_reach(
    wanted: BufferSettings, *, present: BufferSettings, steps: Steps, limits: Limits
) -> BufferSettings:
    """As far as one change may go, and the limits allow."""
    low, high = steps.reach(present.capacity_rows)
    rows = min(max(wanted.capacity_rows, low + 1), high, limits.max_capacity_rows)
    ahead = min(wanted.lookahead_batches, limits.max_lookahead_batches)
    return wanted.model_copy(update={"capacity_rows": rows, "lookahead_batches": ahead})
