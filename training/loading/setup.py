"""What a loader tells the subscribers of its windows about its run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from rudder.training.buffer.options import BufferOptions
from rudder.training.buffer.policy import Policy
from rudder.training.buffer.registry import make_policy
from rudder.training.config import BufferSize
from rudder.training.control.endpoint import ProcessGroup
from rudder.training.errors import ConfigError, MachineError
from rudder.training.loading.arguments import Course
from rudder.training.loading.tensors import GraphTensor
from rudder.training.machine import max_buffer_rows, rows_per_trainer
from rudder.training.partition_view import IntArray, PartitionView
from rudder.training.settings import (
    DEFAULT_BUFFER_FRACTION,
    BufferSettings,
    Change,
    FetchTargets,
)
from rudder.training.trace import RecordedPolicy, TraceHeader, TraceWriter
from rudder.training.workload import ROUND_POLICIES, Knob, RefusedKnob, Workload


def budget_rows(known: LoaderInfo, *, budget_bytes: int | None) -> int:
    """The rows that this trainer's share of the memory budget holds.

    budget_bytes: of all buffers of the host; None: half of the memory that the host has left.
    """
    if budget_bytes is None:
        return known.max_buffer_rows
    share = rows_per_trainer(
        budget_bytes, trainers=known.trainers_on_host, row_bytes=known.row_bytes
    )
    return min(share, known.max_buffer_rows)


def capacity_of(size: BufferSize, known: LoaderInfo, view: PartitionView, *, most_rows: int) -> int:
    """The capacity in rows, at most the number of remote nodes.

    most_rows: what the memory budget holds, and `auto` takes. Policies that fetch their rows in
    rounds would fetch the whole buffer at the start: their `auto` is at most the published quarter
    of the halo. Raises MachineError if the host lacks memory for it.
    """
    row_bytes, max_rows, num_halo = known.row_bytes, known.max_buffer_rows, len(view.halo)
    if known.policy in ROUND_POLICIES:
        most_rows = min(most_rows, int(DEFAULT_BUFFER_FRACTION * num_halo))
    rows = min(size.rows(num_halo=num_halo, row_bytes=row_bytes, auto=most_rows), view.num_remote)
    if rows > max_rows:
        raise MachineError(
            f"a buffer of {rows} rows takes {rows * row_bytes >> 20} MiB, more than rank"
            f" {known.rank}'s share of half of the memory that its host has free",
            remedy=f"set buffer to at most {max_rows} rows, or to auto",
        )
    return rows


def edges_per_node(
    tensors: Sequence[GraphTensor], *, nodes: PartitionView, edges: PartitionView
) -> int:
    """Rows of edges that the buffer holds for each row of a node, 0 without tensors to buffer.

    As many as there are remote edges for each remote node: where all nodes are buffered, all edges
    are.
    """
    return math.ceil(edges.num_remote / max(nodes.num_remote, 1)) if tensors else 0


KNOBS: tuple[Knob, ...] = get_args(Knob)


@dataclass(frozen=True)
class LoaderInfo:
    """What a loader knows of its run beside its partition; named as in Workload."""

    rank: int
    world_size: int
    policy: str
    row_bytes: int
    batch_size: int
    batches_per_epoch: int
    epochs: int | None
    fanouts: tuple[int, ...] | None
    trainers_on_host: int
    max_buffer_rows: int


def loader_info(
    group: ProcessGroup,
    *,
    trainers_on_host: int,
    policy: str,
    row_bytes: int,
    course: Course,
    num_batches: int,
    fanouts: tuple[int, ...] | None,
) -> LoaderInfo:
    """What the loader of this trainer knows."""
    return LoaderInfo(
        rank=group.rank,
        world_size=group.world_size,
        policy=policy,
        row_bytes=row_bytes,
        batch_size=course.batch_size,
        batches_per_epoch=num_batches,
        epochs=course.epochs,
        fanouts=fanouts,
        trainers_on_host=trainers_on_host,
        max_buffer_rows=max_buffer_rows(row_bytes=row_bytes, trainers_on_host=trainers_on_host),
    )


def loader_info_of(
    view: PartitionView, policy: Policy, known: LoaderInfo, *, run_key: str
) -> Workload:
    """One trainer's run; its policy's settings, as they are now, are the defaults."""
    return Workload(
        run_key=run_key,
        **vars(known),
        part=view.part,
        num_parts=len(view.starts) - 1,
        num_inner=view.num_inner,
        num_halo=len(view.halo),
        num_remote=view.num_remote,
        defaults=policy.settings,
        refused_knobs=refused_knobs(policy),
    )


def refused_knobs(policy: Policy) -> tuple[RefusedKnob, ...]:
    """The knobs that a policy has no use for, found by asking it about a change of each."""
    reasons = ((knob, policy.refusal(_sample(knob, policy))) for knob in KNOBS)
    return tuple(RefusedKnob(knob=knob, reason=reason) for knob, reason in reasons if reason)


def _sample(knob: Knob, policy: Policy) -> Change:
    """A change of this knob; rows to fetch need a buffer, and there may be none yet."""
    settings = policy.settings
    room = Change(capacity_rows=settings.capacity_rows or 1)
    needs_room = not settings.capacity_rows and policy.refusal(room) is None
    rows = room.capacity_rows if needs_room else None
    samples: dict[Knob, Change] = {
        "capacity_rows": room,
        "eviction_threshold": Change(eviction_threshold=0.5),
        "lookahead_batches": Change(lookahead_batches=settings.lookahead_batches),
        "replacement_interval": Change(replacement_interval=1),
        "fetch_targets": Change(
            capacity_rows=rows, fetch_targets=FetchTargets(source="observed", row_budget=1)
        ),
        "replace_now": Change(capacity_rows=rows, replace_now=True),
    }
    return samples[knob]


def policy_of(
    known: LoaderInfo,
    view: PartitionView,
    buffer: BufferOptions,
    *,
    seeds: IntArray,
    seed: int,
    most_rows: int,
) -> Policy:
    """The policy that the run names. Raises ConfigError or MachineError if it cannot be made.

    seeds: int64 global ids of this trainer; seed: of random choices.
    """
    size = buffer.buffer_size if known.policy != "none" else BufferSize(unit="rows")
    rows = capacity_of(size, known, view, most_rows=most_rows)
    settings = BufferSettings(capacity_rows=rows, lookahead_batches=buffer.lookahead)
    change = Change(eviction_threshold=buffer.eviction_threshold)
    options = replace(
        buffer.policy_and_options[1],
        fanouts=known.fanouts,
        batch_size=known.batch_size,
        epoch_batches=known.batches_per_epoch,
        seeds=seeds,
        seed=seed,
    )
    policy = make_policy(known.policy, view, _with(change, settings), options)
    if (reason := policy.refusal(change)) is not None:
        raise ConfigError(reason, remedy="leave out eviction_threshold, or use another policy")
    return policy


def edge_policy_of(
    known: LoaderInfo, view: PartitionView, buffer: BufferOptions, *, settings: BufferSettings
) -> Policy:
    """The same policy for the rows of edges; what a partition's structure would say is not known.

    view, settings: of edges. A static set is that of the edges used most.
    """
    options = replace(
        buffer.policy_and_options[1], source="presample", epoch_batches=known.batches_per_epoch
    )
    return make_policy(known.policy, view, settings, options)


def _with(change: Change, settings: BufferSettings) -> BufferSettings:
    """Settings that are not given stay unset: some policies have defaults of their own."""
    return settings if change.is_empty else change.over(settings)


def with_trace(
    policy: Policy, path: Path | None, view: PartitionView, known: LoaderInfo
) -> tuple[Policy, TraceWriter | None]:
    """The policy to use, and what to close at the end where a trace is written to `path`."""
    if path is None:
        return policy, None
    header = TraceHeader(
        rank=known.rank,
        part=view.part,
        starts=tuple(view.starts.tolist()),
        num_halo=len(view.halo),
        row_bytes=known.row_bytes,
        batch_size=known.batch_size,
        batches_per_epoch=known.batches_per_epoch,
        fanouts=known.fanouts,
        policy=known.policy,
        settings=policy.settings,
    )
    writer = TraceWriter(path, header, view)
    return RecordedPolicy(policy, writer), writer
