"""The changes that planners without a search choose from: a coarse grid around what is in force."""

from __future__ import annotations

from collections.abc import Iterator

from rudder.agents.guard import DEFAULT_STEPS, Guard, Steps
from rudder.agents.planners.embedded import INTERVAL, LONG_LOOKAHEAD
from rudder.memory.records import Observation
from rudder.tools.limits import Limits
from rudder.training.settings import BufferSettings, Change

CAPACITY_FACTORS = (0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 16.0)
_MIN_LOOKAHEAD = 8


def candidates(
    observation: Observation, limits: Limits, *, steps: Steps = DEFAULT_STEPS
) -> tuple[Change, ...]:
    """Changes that limits and step size allow, once each, those that need least memory first.

    Capacities by factors, each with the lookahead as it is, halved, doubled and long; a threshold
    of 1, regular rounds, and one round now where there is none of that yet. No fetch targets.
    """
    guard, present = Guard(steps), observation.settings
    found = dict.fromkeys([*_changes(present, limits), Change(replace_now=True)])
    allowed = (
        change
        for change in found
        if not change.is_empty
        and guard.review(
            change, observation=observation, bounds=limits, now_step=observation.step
        ).allowed
    )
    return tuple(sorted(allowed, key=lambda change: _cost(change, present)))


def _changes(present: BufferSettings, limits: Limits) -> Iterator[Change]:
    for rows in _capacities(present.capacity_rows, limits.max_capacity_rows):
        for ahead in _lookaheads(present.lookahead_batches, limits.max_lookahead_batches):
            wanted = {"capacity_rows": rows, "lookahead_batches": ahead}
            yield Change.between(present, present.model_copy(update=wanted))
    if present.eviction_threshold < 1:
        yield Change(eviction_threshold=1.0)
    if present.replacement_interval == 0:
        yield Change(replacement_interval=INTERVAL)


def _capacities(rows: int, most: int) -> list[int]:
    return [min(round(factor * max(rows, 1)), most) for factor in CAPACITY_FACTORS]


def _lookaheads(batches: int, most: int) -> list[int]:
    wanted = (batches, batches // 2, max(2 * batches, _MIN_LOOKAHEAD), LONG_LOOKAHEAD)
    return [min(ahead, most) for ahead in wanted]


def _cost(change: Change, present: BufferSettings) -> tuple[int, int, bool]:
    """What a change takes: memory of the buffer, then of waiting batches, then a round."""
    settings = change.over(present)
    return settings.capacity_rows, settings.lookahead_batches, change.replace_now
