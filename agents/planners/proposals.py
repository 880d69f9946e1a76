"""Plans as the embedded planners make them: staged through the write tools, so that they are
checked and audited as a model's are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rudder.agents.guard import Steps
from rudder.agents.starting_point import FirstSettings
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation, Plan
from rudder.tools.calls import Argument
from rudder.tools.effects import Effect, Range
from rudder.tools.errors import ToolError
from rudder.tools.toolbox import Toolbox, call_of
from rudder.training.settings import BufferSettings, Change

_MAX_REASON = 300


def keep(planner: str, toolbox: Toolbox, *, observation: Observation, reason: str) -> Plan:
    """A plan that changes nothing."""
    call = call_of("keep_current", **_told(_as_measured(observation), reason))
    toolbox.call(call)
    return Plan(planner=planner, change=Change(), expected=None, reason=reason, calls=(call,))


def propose(
    planner: str,
    change: Change,
    toolbox: Toolbox,
    *,
    observation: Observation,
    reason: str,
    expected: Effect | None = None,
) -> Plan:
    """A plan of one change; knobs that the tools refuse are not part of it.

    expected: None where the planner has no idea; the estimator's is stated then.
    """
    if expected is None:
        expected = _estimate(change, toolbox)
    told = _told(expected or _as_anything(observation), reason)
    calls = [call_of(tool, **arguments, **told) for tool, arguments in _writes(change)]
    made = tuple(call for call in calls if not toolbox.call(call).is_error)
    return Plan(
        planner=planner,
        change=toolbox.staging.change,
        expected=expected,
        reason=reason,
        calls=made,
    )


def _writes(change: Change) -> Iterator[tuple[str, dict[str, Argument]]]:
    """A call for each knob, the capacity first, for targets depend on it."""
    knobs = {
        "set_buffer_capacity": "capacity_rows",
        "set_eviction_threshold": "eviction_threshold",
        "set_lookahead": "lookahead_batches",
        "set_replacement_interval": "replacement_interval",
    }
    for tool, knob in knobs.items():
        if (value := getattr(change, knob)) is not None:
            yield tool, {knob: value}
    if (targets := change.fetch_targets) is not None:
        yield (
            "set_fetch_targets",
            {
                "source": targets.source,
                "row_budget": targets.row_budget,
                "owner": targets.owner or 0,
                "ids": list(targets.ids),
            },
        )
    if change.replace_now:
        yield "replace_now", {}


def _told(expected: Effect, reason: str) -> dict[str, Argument]:
    """What every write tool wants to know."""
    return {
        "expected_rows_low": expected.rows_fetched.low,
        "expected_rows_high": expected.rows_fetched.high,
        "expected_wait_ms_low": expected.exposed_wait_ms.low,
        "expected_wait_ms_high": expected.exposed_wait_ms.high,
        "reason": reason[:_MAX_REASON],
    }


def _estimate(change: Change, toolbox: Toolbox) -> Effect | None:
    try:
        return toolbox.whatif.effect(change)
    except ToolError:
        return None


def _as_measured(observation: Observation) -> Effect:
    rows, wait_ms = observation.rows_fetched, observation.exposed_wait_ms
    return _effect((rows, rows), (wait_ms, wait_ms))


def _as_anything(observation: Observation) -> Effect:
    return _effect((0.0, observation.remote_rows), (0.0, observation.step_ms))


def _effect(rows: tuple[float, float], wait_ms: tuple[float, float]) -> Effect:
    return Effect(
        rows_fetched=Range(low=rows[0], mid=sum(rows) / 2, high=rows[1]),
        exposed_wait_ms=Range(low=wait_ms[0], mid=sum(wait_ms) / 2, high=wait_ms[1]),
        buffer_bytes=0,
    )


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
