"""What a run allows its settings to be, and why; a change outside is refused, never clamped."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rudder.training.machine import rows_per_trainer
from rudder.training.settings import (
    MAX_INTERVAL_BATCHES,
    MAX_LOOKAHEAD_BATCHES,
    BufferSettings,
    Change,
    FetchTargets,
)
from rudder.training.workload import Knob, Workload

NumberKnob = Literal[
    "capacity_rows", "eviction_threshold", "lookahead_batches", "replacement_interval"
]
_BYTES_PER_EDGE = 24
"""Of a sampled batch that waits: source, destination and edge id."""
_WAITING_SHARE = 0.5
"""Of the memory for a buffer, what waiting batches may take."""


@dataclass(frozen=True)
class Bound:
    """The values that a knob may take, both ends included, and why no others.

    unit: rows, batches, or uses per batch.
    """

    knob: NumberKnob
    low: float
    high: float
    unit: str
    reason: str

    def problem(self, value: float) -> str | None:
        """Why this value is not allowed, or None."""
        is_whole = isinstance(value, int) or self.knob == "eviction_threshold"
        if is_whole and math.isfinite(value) and self.low <= value <= self.high:
            return None
        low, high = _exact(self.low), _exact(self.high)
        return (
            f"{self.knob} = {value} is not allowed; allowed: {low} to {high} {self.unit},"
            f" because {self.reason}; choose a value within"
        )


def _exact(end: float) -> str:
    return f"{end:.0f}" if end == int(end) else f"{end:g}"


@dataclass(frozen=True)
class Limits:
    """All bounds of one trainer; memory_budget_bytes: the budget of its host, or None."""

    workload: Workload
    bounds: tuple[Bound, ...]
    memory_budget_bytes: int | None = None

    @classmethod
    def of(
        cls,
        workload: Workload,
        *,
        memory_budget_bytes: int | None,
        budget_reason: str | None = None,
    ) -> Limits:
        """Bounds of a run; memory_budget_bytes: of all buffers of this host, None: no budget;
        budget_reason: what has cut it, where no person has."""
        reason = budget_reason or "the memory budget, shared by this host's trainers, ends there"
        bounds = (
            _capacity(workload, memory_budget_bytes, reason),
            Bound("eviction_threshold", 0.0, 1.0, "uses per batch",
                  "a row is used at most once per batch; at 1 every row may be displaced"),
            _lookahead(workload),
            Bound("replacement_interval", 0, MAX_INTERVAL_BATCHES, "batches",
                  "0 means rounds on request only"),
        )  # fmt: skip
        return cls(workload, bounds, memory_budget_bytes)

    @property
    def max_capacity_rows(self) -> int:
        """The largest buffer."""
        return int(self.bound("capacity_rows").high)

    @property
    def max_lookahead_batches(self) -> int:
        """The longest lookahead."""
        return int(self.bound("lookahead_batches").high)

    def bound(self, knob: NumberKnob) -> Bound:
        """The bound of one knob."""
        return next(each for each in self.bounds if each.knob == knob)

    def problem(self, change: Change, *, settings: BufferSettings | None = None) -> str | None:
        """The first thing that is wrong with a change, or None.

        settings: those in force, where known, for what depends on the capacity that remains.
        """
        return next(self._problems(change, settings or self.workload.defaults), None)

    def _problems(self, change: Change, settings: BufferSettings) -> Iterator[str]:
        for bound in self.bounds:
            if (value := getattr(change, bound.knob)) is not None:
                yield from self._refused(bound.knob)
                yield from filter(None, [bound.problem(value)])
        capacity = settings.capacity_rows if change.capacity_rows is None else change.capacity_rows
        once: dict[Knob, object] = {
            "replace_now": change.replace_now,
            "fetch_targets": change.fetch_targets,
        }
        for name in (name for name, value in once.items() if value):
            yield from self._refused(name)
            if capacity == 0:
                yield _no_buffer(name)
        if change.fetch_targets is not None:
            yield from _problems_of_targets(
                change.fetch_targets, self.workload, capacity_rows=capacity
            )

    def _refused(self, knob: Knob) -> Iterator[str]:
        if (reason := self.workload.refusal(knob)) is not None:
            policy = self.workload.policy
            yield f"{knob} cannot be set with the policy `{policy}`: {reason}; leave it out"


def _no_buffer(name: str) -> str:
    return (
        f"{name} needs a buffer, and capacity_rows = 0; set capacity_rows to 1 or more in the"
        f" same change, or leave {name} out"
    )


def _problems_of_targets(
    targets: FetchTargets, workload: Workload, *, capacity_rows: int
) -> Iterator[str]:
    """What is wrong with fetch targets, for a buffer of that capacity.

    Which ids are remote only the trainer knows exactly: it refuses those of its own.
    """
    source, owner = targets.source, targets.owner
    num_nodes = workload.num_inner + workload.num_remote
    if targets.row_budget > capacity_rows:
        yield (
            f"fetch_targets.row_budget = {targets.row_budget} is not allowed; allowed: 1 to"
            f" {capacity_rows} rows, the buffer's capacity; lower it"
        )
    if source != "owner" and owner is not None:
        yield "fetch_targets.owner goes with the source owner only; leave it out"
    if source == "owner" and (owner == workload.part or owner not in range(workload.num_parts)):
        yield (
            f"fetch_targets.owner = {owner} is not another partition; allowed: 0 to"
            f" {workload.num_parts - 1} but {workload.part}"
        )
    if source not in ("ids", "hot_set") and targets.ids:
        yield "fetch_targets.ids go with the sources ids and hot_set only; leave them out"
    if source == "ids" and not targets.ids:
        yield "fetch_targets.source = ids needs ids; give at least one"
    for node in targets.ids:
        if not 0 <= node < num_nodes:
            yield (
                f"fetch_targets.ids has {node}; allowed: global ids of remote nodes, 0 to"
                f" {num_nodes - 1}"
            )
    if source == "vip" and workload.fanouts is None:
        yield (
            "fetch_targets.source = vip needs fan-outs, which this sampler does not have;"
            " use observed or degree"
        )


def _capacity(workload: Workload, budget: int | None, budget_reason: str) -> Bound:
    """The tightest of what helps, what the host has, and what the user allows."""
    ends = [
        (workload.num_remote, "there are no more remote nodes"),
        (workload.max_buffer_rows, "this trainer's share of the host's memory ends there"),
    ]
    if budget is not None:
        rows = rows_per_trainer(
            budget, trainers=workload.trainers_on_host, row_bytes=workload.row_bytes
        )
        ends.append((rows, budget_reason))
    high, reason = min(ends, key=lambda end: end[0])
    return Bound("capacity_rows", 0, max(high, 0), "rows", reason)


def _lookahead(workload: Workload) -> Bound:
    """Waiting batches take memory for their edges; what the run began with is always allowed."""
    room = _WAITING_SHARE * workload.max_buffer_rows * workload.row_bytes
    fits = int(room // max(_waiting_bytes(workload), 1))
    least = workload.defaults.lookahead_batches
    high = max(least, min(MAX_LOOKAHEAD_BATCHES, fits))
    reason = "nothing longer is supported"
    if high < MAX_LOOKAHEAD_BATCHES:
        reason = f"{_waiting_bytes(workload) >> 10} KiB of memory wait with each batch"
    return Bound("lookahead_batches", 0, high, "batches", reason)


def _waiting_bytes(workload: Workload) -> int:
    """Most memory that one sampled batch takes while it waits; 0 where the sampler is unknown.

    Distinct nodes bound each layer's destinations, and so its edges.
    """
    num_nodes = workload.num_inner + workload.num_remote
    destinations, edges = min(workload.batch_size, num_nodes), 0
    for fanout in reversed(workload.fanouts or ()):
        of_layer = destinations * max(fanout, 0)
        edges += of_layer
        destinations = min(destinations + of_layer, num_nodes)
    return edges * _BYTES_PER_EDGE
